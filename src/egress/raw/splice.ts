import { Socket } from 'node:net';
import { finished } from 'node:stream/promises';
import type { Duplex } from 'node:stream';
import { Bound, failureOf } from '../outside/bound.ts';
import { codeOf } from '../outside/connect.ts';
import { EgressFailure } from '../failure.ts';
import type { Pass, PassEnd } from '../checkpoint/pass.ts';

/** Looks at what passes; throws an `EgressFailure` to cut. */
export interface Watch {
  /** What of it may be sent now: bytes may be kept for a later call. */
  sent(chunk: Buffer): Buffer;
  received(chunk: Buffer): void;
}

/**
 * Moves bytes both ways until both sides are through. Promises:
 *  - a half-close stays one, a reset on one side is a reset on the other;
 *  - a side is read only as fast as the other takes it;
 *  - bytes are counted before they are moved; over the bound, or once the pass is withdrawn, both sides are reset.
 * Never rejects; both are closed when it resolves.
 */
export async function splice(inner: Duplex, outer: Duplex, pass: Pass, watch?: Watch): Promise<PassEnd> {
  let failure: EgressFailure | undefined;
  const cut = (reason: unknown): void => {
    failure ??= failureOf(reason);
    reset(inner);
    reset(outer);
  };
  const withdrawn = (): void => cut(pass.signal.reason);
  if (pass.signal.aborted) withdrawn();
  pass.signal.addEventListener('abort', withdrawn, { once: true });
  // Both are waited for before anything moves: what happens at once must not be missed.
  const through = Promise.all([finished(inner), finished(outer)]);
  const send = (chunk: Buffer): Buffer => {
    pass.sent(chunk.length);
    return watch === undefined ? chunk : watch.sent(chunk);
  };
  const receive = (chunk: Buffer): Buffer => {
    pass.received(chunk.length);
    watch?.received(chunk);
    return chunk;
  };
  move(inner, outer, send, cut);
  move(outer, inner, receive, cut);
  try {
    await through;
    inner.destroy();
    outer.destroy();
    return { kind: 'done' };
  } catch (error) {
    reset(inner);
    reset(outer);
    if (failure !== undefined) return endOf(failure);
    return { kind: 'cut', reason: `the connection was reset (${codeOf(error) ?? 'closed'})` };
  } finally {
    pass.signal.removeEventListener('abort', withdrawn);
  }
}

/** Reaches out for as long as there is somebody to reach out for, and no longer than `timeoutMs`. */
export async function reach<T>(
  inner: Duplex,
  pass: Pass,
  timeoutMs: number,
  work: (bounds: { readonly timeoutMs: number; readonly signal: AbortSignal }) => Promise<T>,
): Promise<T> {
  const bound = new Bound(timeoutMs, 'reaching out', pass.signal);
  const gone = (): void => bound.end(new EgressFailure('cut', 'closed by the client before there was a connection'));
  inner.once('close', gone);
  if (inner.destroyed) gone();
  try {
    return await work({ timeoutMs, signal: bound.signal });
  } finally {
    inner.off('close', gone);
    bound.clear();
  }
}

/** A failure as the record knows it. */
export function endOf(failure: EgressFailure): PassEnd {
  return { kind: failure.kind === 'broken' ? 'cut' : failure.kind, reason: failure.reason };
}

/** As TCP does it where the stream can: the other side is told that this was no end. */
export function reset(stream: Duplex): void {
  if (stream.destroyed) return;
  stream.on('error', () => undefined);
  // Of a socket that is no TCP (a unix socket, TLS over a stream) there is nothing to reset.
  if (stream instanceof Socket && stream.remoteFamily !== undefined) stream.resetAndDestroy();
  else stream.destroy(new EgressFailure('cut', 'reset'));
}

function move(from: Duplex, to: Duplex, judge: (chunk: Buffer) => Buffer, cut: (reason: unknown) => void): void {
  from.on('data', (chunk: Buffer) => {
    try {
      if (!to.write(judge(chunk))) from.pause();
    } catch (error) {
      cut(error);
    }
  });
  to.on('drain', () => from.resume());
  from.on('end', () => to.end());
  from.resume();
}
