/**
 * What a socket inside a sandbox met, in Node's words: `code` is `EADDRINUSE`, `ECONNREFUSED`, ... or `ERRNO_` and the number
 * where it has no name here. What goes wrong with the sandbox itself is a `RunnerError`.
 */
export class SocketError extends Error {
  override readonly name = 'SocketError';
  readonly code: string;
  readonly errno: number;

  constructor(errno: number, what: string) {
    const [code, meaning] = meanings.get(errno) ?? [`ERRNO_${errno}`, `errno ${errno}`];
    super(`${what}: ${meaning}`);
    this.code = code;
    this.errno = errno;
  }
}

/** Linux error numbers, the same on all architectures that we run on (asm-generic/errno*.h). */
export const errno = {
  ok: 0,
  addressInUse: 98,
  addressNotAvailable: 99,
  familyNotSupported: 97,
  networkUnreachable: 101,
  connectionReset: 104,
  timedOut: 110,
  connectionRefused: 111,
  hostUnreachable: 113,
} as const;

const meanings: ReadonlyMap<number, readonly [code: string, meaning: string]> = new Map([
  [1, ['EPERM', 'not permitted']],
  [12, ['ENOMEM', 'the sandbox has no memory left']],
  [13, ['EACCES', 'permission denied']],
  [22, ['EINVAL', 'not an address of 127.0.0.0/8']],
  [23, ['ENFILE', 'too many open files on this machine']],
  [24, ['EMFILE', 'too many open files in the gateway']],
  [97, ['EAFNOSUPPORT', 'the sandbox has no such address family']],
  [98, ['EADDRINUSE', 'another program listens there']],
  [99, ['EADDRNOTAVAIL', 'the sandbox does not have this address']],
  [101, ['ENETUNREACH', 'no way leads there']],
  [103, ['ECONNABORTED', 'it was given up']],
  [104, ['ECONNRESET', 'reset by the other side']],
  [105, ['ENOBUFS', 'the sandbox has no memory left']],
  [110, ['ETIMEDOUT', 'no answer in time']],
  [111, ['ECONNREFUSED', 'nobody listens there']],
  [113, ['EHOSTUNREACH', 'no way leads there']],
  [125, ['ECANCELED', 'it was given up']],
]);
