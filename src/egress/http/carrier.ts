import type { Readable, Transform, Writable } from 'node:stream';
import type { Ask, Pass, PassEnd } from '../checkpoint/checkpoint.ts';
import { countedFrom } from './counted.ts';
import { answerRefusal, type Exchange } from './exchange.ts';
import { EgressFailure } from '../failure.ts';
import { contentLength, headBytes, overrideIn, requestHeaders, responseHeaders } from './http-headers.ts';
import type { HeaderPair, HttpDeps, HttpLimits, PreparedHeaders } from './http-deps.ts';
import { authorityOf, targetOf, type Misfit, type Named, type Place, type RequestTarget } from './http-target.ts';
import { misuseHint, refusalOf } from './refusal.ts';
import { LaneClosed, type LaneRequest } from './upstream-lane.ts';
import type { UpstreamLanes } from './upstream-lanes.ts';

/** What one request is for, and who asks. */
export interface Destination {
  readonly ask: Ask;
  readonly place: Place;
  /** Path and query, where the request line holds more than those. */
  readonly target?: string;
}

/** What was let through, and how it is sent. */
export interface Sending {
  readonly pass: Pass;
  readonly place: Place;
  readonly target: RequestTarget;
  readonly prepared: PreparedHeaders;
  /** Aborted when the pass, the client or the credential says that it is over; with an `EgressFailure`. */
  readonly signal: AbortSignal;
}

/**
 * Carries requests from inside to upstreams and the answers back. Promises:
 *  - nothing is dialled or sent before the checkpoint has let this request through, as it is sent;
 *  - the request that leaves is written anew from its judged parts; redirects are the client's next request;
 *  - every byte of heads and bodies is counted before it moves; what is over a bound stops there;
 *  - whatever fails is told once: in the answer where there is none yet, else by cutting it; and in the record.
 */
export class Carrier {
  readonly deps: HttpDeps;
  readonly limits: HttpLimits;
  readonly lanes: UpstreamLanes;

  constructor(deps: HttpDeps, limits: HttpLimits, lanes: UpstreamLanes) {
    this.deps = deps;
    this.limits = limits;
    this.lanes = lanes;
  }

  /** Never rejects. */
  carry(exchange: Exchange, destination: Destination): Promise<void> {
    return this.judged(exchange, destination, false, async (sending) => {
      const length = contentLength(exchange.headers);
      sendable(sending.pass, length);
      return this.#forward(exchange, sending, length);
    });
  }

  /**
   * Judges the request, lets `work` send it, and records how that ended. `work` returns the end of the pass, or throws what
   * the client is told.
   */
  async judged(
    exchange: Exchange,
    { ask, place, target: named = exchange.target }: Destination,
    websocket: boolean,
    work: (sending: Sending) => Promise<PassEnd>,
  ): Promise<void> {
    const target = targetOf({ ...headOf(exchange), target: named }, place);
    if (target.kind === 'misfit') return this.refuse(exchange, ask, place, target);
    if (exchange.expects === 'unknown') return this.refuse(exchange, ask, place, unknownExpectation);
    const override = overrideIn(exchange);
    if (override !== undefined) return this.refuse(exchange, ask, place, override);
    const { url, text, read } = target;
    const { method } = exchange;
    const asked = `${method} ${withoutQuery(text)}`;
    let pass: Pass;
    try {
      pass = await this.deps.checkpoint.request(ask, { method, url, text, read, websocket });
    } catch (error) {
      return answerRefusal(exchange, refusalOf(carryFailure(error), asked));
    }
    exchange.onGone(() => pass.abandon(new EgressFailure('cut', 'the client went away')));
    let prepared: PreparedHeaders | undefined;
    let untie: (() => void) | undefined;
    try {
      prepared = await this.#prepare(exchange, pass, url);
      if (prepared.carried !== undefined) untie = abandonWith(pass, prepared.carried.signal);
      const end = await work({ pass, place, target, prepared, signal: pass.signal });
      await pass.end(end);
    } catch (error) {
      const failure = carryFailure(error, pass.signal);
      await pass.end({
        kind: failure.kind === 'broken' ? 'cut' : failure.kind,
        ...addressOf(error),
        reason: failure.reason,
      });
      await answerRefusal(exchange, refusalOf(failure, asked));
    } finally {
      untie?.();
      prepared?.carried?.end();
    }
  }

  /** What is no request of this connection. On record before it is answered. */
  async refuse(exchange: Exchange, ask: Ask, place: Place, wrong: Pick<Misfit, 'status' | 'reason'>): Promise<void> {
    const asked = `${exchange.method} ${place.scheme}://${authorityOf(place)}${withoutQuery(exchange.target)}`;
    const why = { reason: wrong.reason, hint: misuseHint };
    const failure = await this.deps.checkpoint.refuse(ask, why).catch(carryFailure);
    return answerRefusal(exchange, refusalOf(failure, asked, wrong.status));
  }

  async #prepare(exchange: Exchange, pass: Pass, url: URL): Promise<PreparedHeaders> {
    const headers = requestHeaders(exchange.headers);
    const { rule } = pass;
    return (await this.deps.credentials?.prepare({ rule, method: exchange.method, url, headers })) ?? { headers };
  }

  async #forward(exchange: Exchange, sending: Sending, length: number | undefined): Promise<PassEnd> {
    const { pass, place, signal } = sending;
    let lane = await this.lanes.take(place, pass, signal);
    for (;;) {
      try {
        const status = await lane.send(new Outgoing(exchange, sending, length));
        await answered(exchange, signal);
        this.lanes.give(lane);
        return { kind: 'done', address: lane.address, status };
      } catch (error) {
        this.lanes.drop(lane);
        if (!(error instanceof LaneClosed) || !mayRepeat(exchange, error)) throw new Failed(error, lane.address);
      }
      lane = await this.lanes.take(place, pass, signal, true);
    }
  }
}

/** One request as it leaves: written anew, its head counted before anything of it is sent. */
class Outgoing implements LaneRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: readonly HeaderPair[];
  readonly body: Readable | null;
  readonly upgrade = false;
  readonly signal: AbortSignal;
  readonly #exchange: Exchange;
  readonly #sending: Sending;

  constructor(exchange: Exchange, sending: Sending, length: number | undefined) {
    const { pass, target, prepared, signal } = sending;
    const { method, body } = exchange;
    this.#exchange = exchange;
    this.#sending = sending;
    this.method = method;
    this.path = target.path;
    this.signal = signal;
    const framing: readonly HeaderPair[] =
      body !== undefined && length !== undefined ? [['content-length', String(length)]] : [];
    this.headers = [['host', target.url.host], ...prepared.headers, ...framing];
    pass.sent(headBytes(`${method} ${target.path} HTTP/1.1`, this.headers));
    exchange.proceed();
    this.body = body === undefined ? null : countedFrom(body, (bytes) => pass.sent(bytes));
  }

  received(bytes: number): void {
    this.#sending.pass.received(bytes);
  }

  respond(status: number, headers: readonly HeaderPair[]): Writable {
    return respondWith(this.#exchange, this.#sending.prepared, status, headers);
  }

  upgraded(): never {
    throw new EgressFailure('broken', 'the server changed protocols without being asked');
  }
}

const unknownExpectation = { status: 417, reason: 'Expect takes 100-continue and nothing else' };

function withoutQuery(target: string): string {
  return target.split('?', 1)[0] ?? '';
}

/** The upstream's answer, masked where a secret was carried. */
export function respondWith(
  exchange: Exchange,
  { carried }: PreparedHeaders,
  status: number,
  answered: readonly HeaderPair[],
): Writable {
  if (status > 599) throw new EgressFailure('broken', `the server answered with status ${status}`);
  const length = contentLength(answered);
  const masked = carried?.response(status, responseHeaders(answered));
  const sink = exchange.respond(status, masked?.headers ?? responseHeaders(answered), length);
  return masked === undefined ? sink : through(masked.body, sink);
}

/** Until the client has taken the answer, or it is cut. */
function answered(exchange: Exchange, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(carryFailure(undefined, signal)), { once: true });
    if (signal.aborted) reject(carryFailure(undefined, signal));
    void exchange.over.then(resolve);
  });
}

/** Anything thrown on the way, as what the client and the record are told. */
export function carryFailure(error: unknown, signal?: AbortSignal): EgressFailure {
  const cause = error instanceof Failed ? error.cause : error;
  if (signal?.aborted === true && signal.reason instanceof EgressFailure) return signal.reason;
  if (cause instanceof EgressFailure) return cause;
  if (cause instanceof LaneClosed) return new EgressFailure('refused', 'the server closed the connection', { cause });
  if (isFailureLike(cause))
    return new EgressFailure(cause.kind, cause.reason, { rule: cause.rule, hint: cause.hint ?? '' });
  return new EgressFailure('broken', 'the runner could not carry it', { cause });
}

/** A failure after something was dialled. */
class Failed extends Error {
  override readonly name = 'Failed';
  readonly address: string | null;

  constructor(cause: unknown, address: string | null) {
    super('sending failed', { cause });
    this.address = address;
  }
}

function addressOf(error: unknown): { readonly address?: string | null } {
  return error instanceof Failed ? { address: error.address } : {};
}

/** Of a credential's refusal, which has its own class. */
function isFailureLike(
  error: unknown,
): error is { kind: 'denied' | 'broken'; rule?: string | undefined; reason: string; hint?: string } {
  if (typeof error !== 'object' || error === null || !('kind' in error) || !('reason' in error)) return false;
  return (error.kind === 'denied' || error.kind === 'broken') && typeof error.reason === 'string';
}

/** Refused before it begins, where its own head says that it cannot be carried. */
function sendable({ rule }: Pass, length: number | undefined): void {
  if (rule === undefined || length === undefined || length <= rule.maxSentBytes) return;
  throw new EgressFailure('denied', `the body has ${length} bytes, the rule allows ${rule.maxSentBytes}`, {
    rule: rule.id,
    hint: `A larger max_sent of the rule ${rule.id} would allow it.`,
  });
}

/** RFC 9110, 9.2.2: only what may be done twice is repeated without the client's knowledge. */
function mayRepeat(exchange: Exchange, closed: LaneClosed): boolean {
  if (exchange.responded) return false;
  if (exchange.body !== undefined) return false;
  return !closed.written || ['GET', 'HEAD', 'OPTIONS'].includes(exchange.method);
}

/** `body` into `sink`; both fail together. */
function through(body: Transform, sink: Writable): Writable {
  body.pipe(sink);
  sink.once('close', () => body.destroy());
  body.once('error', () => sink.destroy());
  return body;
}

/** A revoked credential ends what it was lent to. What is returned lets go of the signal, which outlives the request. */
function abandonWith(pass: Pass, signal: AbortSignal): () => void {
  const abandon = (): void => pass.abandon(new EgressFailure('cut', messageFor(signal.reason)));
  if (signal.aborted) abandon();
  else signal.addEventListener('abort', abandon, { once: true });
  return () => signal.removeEventListener('abort', abandon);
}

function messageFor(reason: unknown): string {
  if (isFailureLike(reason)) return reason.reason;
  return reason instanceof Error && reason.name !== 'AbortError' ? reason.message : 'the client went away';
}

function headOf({ method, scheme, hosts }: Exchange): Omit<Named, 'target'> {
  return { method, hosts, ...(scheme === undefined ? {} : { scheme }) };
}
