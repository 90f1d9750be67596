import type { LookupAddress } from 'node:dns';
import { connect, isIP, type LookupFunction, type NetConnectOpts, type Socket } from 'node:net';
import { messageOf } from '../../errors.ts';
import { EgressFailure } from '../failure.ts';

const keepAliveMs = 60_000;

/** Connects to an address, never to a name: nothing here can ask a resolver. Half-open, without delay. */
export function connectAddress(address: string, port: number, what: string, signal: AbortSignal): Promise<Socket> {
  if (isIP(address) === 0) return Promise.reject(new EgressFailure('broken', `${what}: ${address} is not an address`));
  return opened({ host: address, port, autoSelectFamily: false }, what, signal);
}

/** To the operator's own proxy, which may be a name: the machine's resolver and every address of it are good enough. */
export function connectNamed(
  { host, port, lookup }: { readonly host: string; readonly port: number; readonly lookup: LookupFunction },
  what: string,
  signal: AbortSignal,
): Promise<Socket> {
  return opened({ host, port, lookup }, what, signal);
}

type Answer = (error: NodeJS.ErrnoException | null, addresses: readonly LookupAddress[]) => void;
/** All addresses of a name, as the machine has it. */
export type LookupAll = (host: string, answer: Answer) => void;

/**
 * A lookup of one name that is made once for all who want it at the same time: the C library's cannot be given up, and has one of the
 * few threads that this process has for files as well, for as long as a name server is silent.
 */
export function sharedLookup(lookupAll: LookupAll): LookupFunction {
  const waiting = new Map<string, Answer[]>();
  return (host, { all }, done) => {
    const answer: Answer = (error, addresses) => {
      if (error !== null || all === true) done(error, [...addresses]);
      else done(null, addresses[0]?.address ?? '', addresses[0]?.family);
    };
    const others = waiting.get(host);
    if (others !== undefined) return void others.push(answer);
    const told = [answer];
    waiting.set(host, told);
    lookupAll(host, (error, addresses) => {
      waiting.delete(host);
      for (const tell of told) tell(error, addresses);
    });
  };
}

export function connectUnix(path: string, what: string, signal: AbortSignal): Promise<Socket> {
  return opened({ path }, what, signal);
}

function opened(where: NetConnectOpts, what: string, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    const socket = connect({ ...where, allowHalfOpen: true, noDelay: true });
    const aborted = (): void => {
      socket.destroy();
      reject(signal.reason as Error);
    };
    signal.addEventListener('abort', aborted, { once: true });
    socket.once('connect', () => {
      signal.removeEventListener('abort', aborted);
      socket.off('error', failed);
      // Whoever takes the socket over hears of errors by 'close' at the latest; none may end the runner.
      socket.on('error', () => undefined);
      socket.setKeepAlive(true, keepAliveMs);
      resolve(socket);
    });
    const failed = (error: Error): void => {
      signal.removeEventListener('abort', aborted);
      reject(connectFailure(error, what));
    };
    socket.once('error', failed);
  });
}

/** The kernel's own time-out is a time-out; whatever else keeps a connection from being made is a refusal. */
function connectFailure(error: Error, what: string): EgressFailure {
  const code = codeOf(error) ?? messageOf(error);
  if (code === 'ETIMEDOUT') return new EgressFailure('timed_out', `${what}: no answer (ETIMEDOUT)`, { cause: error });
  return new EgressFailure('refused', `${what}: no connection (${code})`, { cause: error });
}

export function codeOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
