import type { Readable, Writable } from 'node:stream';
import type { HeaderPair } from './http-deps.ts';
import type { Refusal } from './refusal.ts';
import type { Named } from './http-target.ts';

/** One request from inside and the answer to it, whatever version of HTTP it came in. */
export interface Exchange extends Named {
  readonly headers: readonly HeaderPair[];
  /** Undefined where the request has none. It ends with an error when the client goes away. */
  readonly body: Readable | undefined;
  /** `unknown`: the client waits for something that nobody here can say. */
  readonly expects: 'nothing' | 'continue' | 'unknown';
  readonly responded: boolean;
  /** Resolves when the client was given the whole answer, or is gone. */
  readonly over: Promise<void>;
  /** Tells, once, that the client is gone before it has the whole answer; at once where it is. One listener, not more. */
  onGone(listener: () => void): void;
  /** The client may send the body that it has announced. */
  proceed(): void;
  /** Once. `length`: of the body, where it is known; the answer to HEAD and what has no body take nothing but `end()`. */
  respond(status: number, headers: readonly HeaderPair[], length: number | undefined): Writable;
  /** The answer is not whole and never will be: so that nobody takes it for whole. */
  cut(): void;
}

/** Who does not take its few bytes for so long has no use for them. */
const takeWithinMs = 10_000;

/**
 * Instead of an upstream's answer; what the client still sends is thrown away by the exchange. Resolves once it was taken, or is
 * cut because it was not.
 */
export async function answerRefusal(exchange: Exchange, refusal: Refusal, withinMs = takeWithinMs): Promise<void> {
  if (exchange.responded) return exchange.cut();
  const sink = exchange.respond(refusal.status, refusal.headers, refusal.body.length);
  sink.end(exchange.method === 'HEAD' ? undefined : refusal.body);
  let late: NodeJS.Timeout | undefined;
  const cut = new Promise<void>((resolve) => {
    late = setTimeout(() => {
      exchange.cut();
      resolve();
    }, withinMs);
  });
  await Promise.race([exchange.over, cut]);
  clearTimeout(late);
}
