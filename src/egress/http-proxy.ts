import type { Duplex } from 'node:stream';
import type { Checkpoint } from './checkpoint.ts';
import type { Carry } from './conversation.ts';
import type { HttpDeps } from './http-deps.ts';

export interface ProxyDeps {
  readonly checkpoint: Pick<Checkpoint, 'route' | 'connection' | 'request' | 'refuse'>;
  /** What carries a tunnel after its 200: the same as for a connection to a name. */
  readonly carry: Carry;
  readonly http: HttpDeps;
}

/** Carries one connection to the loopback proxy to its end: `CONNECT` and absolute form. Never rejects. */
export function serveProxy(inner: Duplex, callId: string | undefined, deps: ProxyDeps): Promise<void> {
  void callId;
  void deps;
  inner.destroy();
  return Promise.resolve();
}
