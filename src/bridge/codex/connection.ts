import { z } from 'zod';
import { isRunnerError, messageOf } from '../../errors.ts';
import { InFlight, rpcCodes } from '../../stdio/in-flight.ts';
import type { LineChannel } from '../../stdio/line-channel.ts';
import type { Notify } from './process.ts';
import { InitializeParams, Message, RpcError } from './protocol.ts';
import type { CodexSession } from './session.ts';

/** Requests that are answered at a time. */
const inFlightMax = 64;

/** The id of an answer to what has none. */
const noId = -1;

type Request = z.infer<typeof Message> & { readonly id: string | number };

/**
 * One client on two streams of lines. Whatever it sends, the connection goes on: what cannot be read, an unknown method, an id
 * that is in use and one request too many are answered with an error.
 */
export class CodexConnection {
  readonly #channel: LineChannel;
  readonly #sessionFor: (resumed: string | undefined) => CodexSession | undefined;
  readonly #inFlight = new InFlight(inFlightMax);
  #session: CodexSession | undefined;
  #initialized = false;

  /** `sessionFor` makes a session, or finds the one that is resumed; undefined: there is none of that id. */
  constructor(channel: LineChannel, sessionFor: (resumed: string | undefined) => CodexSession | undefined) {
    this.#channel = channel;
    this.#sessionFor = sessionFor;
  }

  /** Resolves when the client has gone. */
  async serve(): Promise<void> {
    try {
      for await (const line of this.#channel.lines()) {
        if (line.kind === 'line') this.#take(line.text);
        else this.#refuse(noId, new RpcError(rpcCodes.invalid, 'the line is too long; it was skipped'));
      }
    } finally {
      this.#session?.detach(this.#notify);
    }
  }

  readonly #notify: Notify = async (method, params) => this.#channel.send({ method, params });

  #take(text: string): void {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      return this.#refuse(noId, new RpcError(rpcCodes.parse, `not JSON: ${messageOf(error)}`));
    }
    const { success, data: message } = Message.safeParse(value);
    if (!success) return this.#refuse(noId, new RpcError(rpcCodes.invalid, 'not a request or notification'));
    const { id, method } = message;
    if (id === undefined) {
      if (method === 'initialized' && this.#session !== undefined) this.#initialized = true;
      else this.#refuse(noId, new RpcError(rpcCodes.invalid, `the notification ${shown(method)} is not expected`));
      return;
    }
    const refused = this.#inFlight.admit(id);
    if (refused !== undefined) return this.#refuse(id, new RpcError(refused.code, refused.message));
    void this.#answer({ ...message, id });
  }

  async #answer(request: Request): Promise<void> {
    const { id } = request;
    try {
      const result = await this.#perform(request);
      this.#inFlight.done(id);
      await this.#channel.send({ id, result });
    } catch (error) {
      this.#inFlight.done(id);
      this.#refuse(id, rpcErrorOf(error, request.method));
    }
  }

  async #perform({ method, params }: Request): Promise<Record<string, unknown>> {
    if (method === 'initialize') return this.#initialize(params);
    const session = this.#session;
    if (session === undefined || !this.#initialized)
      throw new RpcError(rpcCodes.invalid, `initialize, then initialized, come before ${shown(method)}`);
    if (!session.isAttached(this.#notify))
      throw new RpcError(rpcCodes.invalid, 'the session was resumed by another connection');
    const result = await session.handle(method, params);
    if (result === undefined) throw new RpcError(rpcCodes.noMethod, `there is no method ${shown(method)} here`);
    return result;
  }

  async #initialize(params: unknown): Promise<Record<string, unknown>> {
    const { resumeSessionId } = InitializeParams.parse(params);
    if (this.#session !== undefined) throw new RpcError(rpcCodes.invalid, 'this connection is initialized already');
    const session = this.#sessionFor(resumeSessionId ?? undefined);
    if (session === undefined)
      throw new RpcError(rpcCodes.invalid, `there is no session ${shown(resumeSessionId ?? '')}`);
    session.attach(this.#notify);
    this.#session = session;
    return { sessionId: session.id, environmentInfo: await session.environment() };
  }

  #refuse(id: string | number, { code, message }: RpcError): void {
    void this.#channel.send({ id, error: { code, message } });
  }
}

function rpcErrorOf(error: unknown, method: string): RpcError {
  if (error instanceof RpcError) return error;
  if (error instanceof z.ZodError)
    return new RpcError(rpcCodes.badParams, `${shown(method)}: ${z.prettifyError(error)}`.slice(0, 2_000));
  if (isRunnerError(error)) {
    const code = error.code === 'invalid_request' ? rpcCodes.invalid : rpcCodes.internal;
    return new RpcError(code, `${error.message} [${error.code}]`);
  }
  return new RpcError(rpcCodes.internal, 'the runner failed');
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 100));
}
