import { setTimeout as sleep } from 'node:timers/promises';
import { isRunnerError, messageOf, RunnerError } from '../errors.ts';
import { problemOf } from './problem.ts';
import { LostConnection, NotConnected, type Answer, type Ask, type Transport } from './transport.ts';

/** The connection was lost, and the same is asked once more. */
export interface Reask {
  /** Method and path. */
  readonly asked: string;
  /** 1, 2, ... */
  readonly attempt: number;
  readonly attemptsMax: number;
  readonly reason: string;
}

export interface ReaskOptions {
  /** Is told each time, before it is asked again. */
  readonly onReask?: ((reask: Reask) => void) | undefined;
  /** How often one request is asked again; 0 never does. Default 5, over about eight seconds. */
  readonly reasksMax?: number | undefined;
  /** How long before the first time; each next time four times as long. Default 25. */
  readonly pauseMs?: number | undefined;
  /** Is awaited before it is asked again: whoever starts services may start one. */
  readonly revive?: (() => Promise<void>) | undefined;
}

const reasksMax = 5;
const pauseMs = 25;
const answerBytesMax = 160 * 1024 * 1024;

/**
 * Asks a service. What cannot be asked twice without doing it twice is asked once, whatever happens; what is `repeatable` is asked
 * again after a lost connection, a bounded number of times. A service that was not there at first is not waited for.
 */
export class Requests {
  readonly transport: Transport;
  readonly #options: ReaskOptions;
  #closed = false;

  constructor(transport: Transport, options: ReaskOptions = {}) {
    this.transport = transport;
    this.#options = options;
  }

  /** What is under way fails, and is not asked again. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.transport.close();
  }

  /** The JSON that it answers: of the type that the route's schema has, which the service keeps to. */
  async json<T>(ask: Ask): Promise<T> {
    const text = (await this.bytes(ask)).toString('utf8');
    try {
      return JSON.parse(text) as T;
    } catch (cause) {
      const message = `${this.transport.where} answered ${nameOf(ask)} with what is no JSON; is it a Glovebox service?`;
      throw new RunnerError('internal', message, { cause });
    }
  }

  bytes(ask: Ask): Promise<Buffer> {
    return this.repeated(ask, async () => {
      const answer = await this.once(ask);
      const chunks: Uint8Array[] = [];
      let bytes = 0;
      for await (const chunk of answer.body) {
        bytes += chunk.length;
        if (bytes > answerBytesMax) {
          answer.discard();
          const message = `the answer to ${nameOf(ask)} is longer than ${answerBytesMax} bytes`;
          throw new RunnerError('limit_exceeded', message);
        }
        chunks.push(chunk);
      }
      return Buffer.concat(chunks);
    });
  }

  /** One asking; throws what the service refuses it with. */
  async once(ask: Ask): Promise<Answer> {
    const answer = await this.transport.send(ask);
    if (answer.status >= 400) throw await problemOf(answer, nameOf(ask));
    return answer;
  }

  /** `work` asks; where it is cut off it runs again if the ask is repeatable. */
  async repeated<T>(ask: Ask, work: () => Promise<T>): Promise<T> {
    const attemptsMax = this.#options.reasksMax ?? reasksMax;
    for (let attempt = 1, first = true; ; attempt += 1, first = false) {
      try {
        return await work();
      } catch (error) {
        if (!this.#mayAskAgain(ask, error, first) || attempt > attemptsMax) throw this.#unavailable(ask, error, first);
        this.#options.onReask?.({ asked: nameOf(ask), attempt, attemptsMax, reason: messageOf(error) });
        const signal = ask.signal === undefined ? {} : { signal: ask.signal };
        await sleep((this.#options.pauseMs ?? pauseMs) * 4 ** (attempt - 1), undefined, signal).catch(() =>
          ask.signal?.throwIfAborted(),
        );
        await this.#options.revive?.();
      }
    }
  }

  /** What was certainly not done may be asked of a service that somebody starts; nothing else that cannot be repeated. */
  #mayAskAgain(ask: Ask, error: unknown, first: boolean): boolean {
    if (this.#closed) return false;
    const canRevive = this.#options.revive !== undefined;
    if (error instanceof NotConnected) return canRevive || (ask.repeatable === true && !first);
    const isNamed = ask.headers?.['idempotency-key'] !== undefined;
    if (isRunnerError(error, 'draining')) return ask.repeatable === true || (canRevive && isNamed);
    return error instanceof LostConnection && ask.repeatable === true;
  }

  #unavailable(ask: Ask, cause: unknown, first: boolean): unknown {
    if (!(cause instanceof LostConnection || cause instanceof NotConnected)) return cause;
    const { where } = this.transport;
    const asked = nameOf(ask);
    if (first && cause instanceof NotConnected)
      return new RunnerError('service_unavailable', `no service answers at ${where}: ${cause.message}`, { cause });
    const message = `the connection to ${where} was lost during ${asked}: ${cause.message}; ${fateOf(ask)}`;
    return new RunnerError('service_unavailable', message, { cause });
  }
}

/** What JSON is sent with. */
export function jsonBody(value: object, headers: Readonly<Record<string, string>> = {}): Pick<Ask, 'headers' | 'body'> {
  return { headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(value) };
}

function fateOf({ method, repeatable }: Ask): string {
  if (method === 'GET') return 'nothing was changed by asking';
  if (repeatable !== true) return 'whether it was done is not known here; look before you ask again';
  // A call: of what is asked for under a name of the client's own there is nothing else.
  if (method === 'PUT')
    return 'whether it has ended is not known here; asking again with the same call id tells, and never does it twice';
  return 'whether it was done is not known here; ask the same again, it is never done twice';
}

function nameOf({ method, path }: Ask): string {
  return `${method} ${path.split('?', 1)[0] ?? ''}`;
}
