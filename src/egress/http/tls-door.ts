import { constants } from 'node:crypto';
import { createServer, type SecureContext, type TLSSocket } from 'node:tls';
import type { Conversation } from '../conversation.ts';
import type { HttpDeps, HttpLimits } from './http-deps.ts';
import { misuseHint } from './refusal.ts';

/**
 * Answers the TLS of one connection as the name that it is for, and as nothing else: without SNI, or with another one, there is
 * no certificate. Resolves with what is inside; undefined when there is nothing, which is on record where the client asked for
 * something else or did not trust the run's authority.
 */
export async function openTls(
  conversation: Conversation,
  deps: HttpDeps,
  limits: HttpLimits,
): Promise<TLSSocket | undefined> {
  const { inner, host } = conversation;
  let context: SecureContext;
  try {
    context = deps.authority.contextOf(host);
  } catch {
    inner.destroy();
    return undefined;
  }
  const opened = await handshake(conversation, context, limits);
  if (opened instanceof Error) {
    const reason = reasonFor(opened);
    // Answered by the end of the connection: there is no other way to say no in TLS.
    if (reason !== undefined)
      await deps.checkpoint.refuse(conversation, { reason, hint: misuseHint }).catch(() => undefined);
    inner.destroy();
    return undefined;
  }
  return opened;
}

function handshake(
  { inner, host }: Conversation,
  context: SecureContext,
  limits: HttpLimits,
): Promise<TLSSocket | Error> {
  return new Promise((resolve) => {
    let wrong: WrongName | undefined;
    const server = createServer({
      ALPNProtocols: ['h2', 'http/1.1'],
      handshakeTimeout: limits.handshakeMs,
      minVersion: 'TLSv1.2',
      // Each connection has a server of its own, which could not read the tickets of another.
      secureOptions: constants.SSL_OP_NO_TICKET,
      SNICallback: (name, done) => {
        if (name.toLowerCase() === host) done(null, context);
        else done((wrong = new WrongName(`TLS asks for ${name}, the connection is for ${host}`)));
      },
    });
    server.on('secureConnection', (socket) => {
      socket.on('error', () => undefined);
      if (typeof socket.servername === 'string' && socket.servername.toLowerCase() === host) return resolve(socket);
      socket.destroy();
      resolve(new WrongName(`TLS asks for no name, the connection is for ${host}`));
    });
    server.on('tlsClientError', (error) => resolve(wrong ?? error));
    // What is half-open by itself would wait for the rest of a handshake that cannot come.
    inner.once('end', () => setImmediate(() => resolve(wrong ?? new Error('closed'))));
    inner.once('close', () => resolve(wrong ?? new Error('closed')));
    server.emit('connection', inner);
  });
}

function reasonFor(error: Error & { readonly code?: string }): string | undefined {
  if (error instanceof WrongName) return error.message;
  const code = error.code ?? '';
  if (code === 'ERR_TLS_HANDSHAKE_TIMEOUT') return 'a TLS handshake was begun, and did not come to its end in time';
  if (/NO_SHARED_CIPHER|NO_SUITABLE/.test(code))
    return 'TLS names no host (no SNI), or has no cipher in common with us';
  if (/UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_UNKNOWN/.test(code)) {
    return "the client does not trust this run's certificate authority; SSL_CERT_FILE names the bundle that it should use";
  }
  if (code.startsWith('ERR_SSL_')) return `no TLS that can be spoken with (${code})`;
  return undefined;
}

class WrongName extends Error {
  override readonly name = 'WrongName';
}
