import type { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import { Bound, failureOf } from '../outside/bound.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { ClientHelloReader, misfit } from './client-hello.ts';
import type { Conversation } from '../conversation.ts';
import { EgressFailure } from '../failure.ts';
import type { AddressDecision } from '../checkpoint/judge.ts';
import type { Network } from '../outside/network.ts';
import type { Pass, PassEnd } from '../checkpoint/pass.ts';
import { HelloWatch } from './hello-watch.ts';
import { endOf, reach, reset, splice } from './splice.ts';

export interface CarryParts {
  readonly checkpoint: Pick<Checkpoint, 'connection'>;
  readonly network: Network;
  /** For resolving and connecting together; default 10 s. */
  readonly connectMs?: number;
  /** For the client's first message; default 10 s. */
  readonly helloMs?: number;
}

const defaultMs = 10_000;
const lingerMs = 1_000;
/** RFC 8446 6: a fatal alert, access_denied. What a TLS client can read of a refusal. */
const accessDenied = Buffer.from([21, 3, 3, 0, 2, 2, 49]);

/**
 * TLS that stays the client's own. Promises:
 *  - nothing is resolved, dialled or sent before the ClientHello has been read whole and names just the host that was asked
 *    for; a refused one costs the upstream nothing, not even a connection;
 *  - a second ClientHello (after a HelloRetryRequest) is held to the same name;
 *  - the address that was checked is the one that was dialled.
 * Who is inside the TLS connection is seen by nobody: another Host in it is up to the upstream. Never rejects.
 */
export async function passThrough(conversation: Conversation, parts: CarryParts): Promise<void> {
  const { inner } = conversation;
  inner.on('error', () => undefined);
  let pass: Pass;
  try {
    pass = await parts.checkpoint.connection(conversation);
  } catch {
    return await refuse(inner);
  }
  let end: PassEnd;
  try {
    end = await carried(conversation, pass, parts);
  } catch (error) {
    const failure = failureOf(error);
    end = endOf(failure);
    if (failure.kind === 'denied') await refuse(inner);
    else reset(inner);
  }
  await pass.end(end);
}

async function carried(conversation: Conversation, pass: Pass, parts: CarryParts): Promise<PassEnd> {
  const { inner, host, port } = conversation;
  const hello = await readHello(inner, host, parts.helloMs ?? defaultMs, pass.signal);
  const check = (address: string): AddressDecision => pass.check(address);
  const { socket, address } = await reach(inner, pass, parts.connectMs ?? defaultMs, (bounds) =>
    parts.network.dial({ host, port, check, ...bounds }),
  );
  try {
    const watch = new HelloWatch(host);
    // What came behind the hello is watched as well.
    const behind = watch.sent(hello.bytes.subarray(hello.endOfHello));
    pass.sent(hello.bytes.length);
    socket.write(hello.bytes.subarray(0, hello.endOfHello));
    if (behind.length > 0) socket.write(behind);
    return { ...(await splice(inner, socket, pass, watch)), address };
  } catch (error) {
    reset(socket);
    throw error;
  }
}

/** The whole hello, and nothing wrong with it. `inner` is paused then. */
async function readHello(
  inner: Duplex,
  host: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ClientHelloReader> {
  const bound = new Bound(timeoutMs, 'the ClientHello', signal);
  const reader = new ClientHelloReader();
  try {
    return await new Promise<ClientHelloReader>((resolve, reject) => {
      const aborted = (): void => done(() => reject(failureOf(bound.signal.reason)));
      const closed = (): void =>
        done(() => reject(new EgressFailure('cut', 'closed before its ClientHello was whole')));
      const done = (settle: () => void): void => {
        inner.pause();
        inner.off('data', take).off('end', closed).off('close', closed);
        bound.signal.removeEventListener('abort', aborted);
        settle();
      };
      const take = (chunk: Buffer): void => {
        const verdict = reader.push(chunk);
        if (verdict.kind === 'more') return;
        const reason = misfit(verdict, host);
        if (reason === undefined) return done(() => resolve(reader));
        done(() => reject(new EgressFailure('denied', reason, { hint: `TLS to ${host} has to name ${host} (SNI)` })));
      };
      if (bound.signal.aborted) return aborted();
      if (inner.destroyed || inner.readableEnded) return closed();
      bound.signal.addEventListener('abort', aborted, { once: true });
      inner.on('data', take).once('end', closed).once('close', closed).resume();
    });
  } finally {
    bound.clear();
  }
}

/** In TLS's own words, then closed; whoever does not read them has a second. */
async function refuse(inner: Duplex): Promise<void> {
  if (inner.destroyed) return;
  const bound = new Bound(lingerMs, 'the end of a refused connection');
  inner.resume();
  inner.end(accessDenied);
  await bound.race(finished(inner)).catch(() => undefined);
  bound.clear();
  inner.destroy();
}
