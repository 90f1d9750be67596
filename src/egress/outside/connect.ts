import { connect, isIP, type NetConnectOpts, type Socket } from 'node:net';
import { messageOf } from '../../errors.ts';
import { EgressFailure } from '../failure.ts';

const keepAliveMs = 60_000;

/** Connects to an address, never to a name: nothing here can ask a resolver. Half-open, without delay. */
export function connectAddress(address: string, port: number, what: string, signal: AbortSignal): Promise<Socket> {
  if (isIP(address) === 0) return Promise.reject(new EgressFailure('broken', `${what}: ${address} is not an address`));
  return opened({ host: address, port, autoSelectFamily: false }, what, signal);
}

/** To the operator's own proxy, which may be a name: the machine's resolver and every address of it are good enough. */
export function connectNamed(host: string, port: number, what: string, signal: AbortSignal): Promise<Socket> {
  return opened({ host, port }, what, signal);
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
