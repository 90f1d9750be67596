import type { Conversation } from './conversation.ts';
import type { HttpDeps } from './http-deps.ts';

/** Carries one connection that is looked into to its end. Never rejects; the connection is closed when it resolves. */
export function serveHttp(conversation: Conversation, how: { readonly tls: boolean }, deps: HttpDeps): Promise<void> {
  void how;
  void deps;
  conversation.inner.destroy();
  return Promise.resolve();
}
