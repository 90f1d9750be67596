import type { Socket } from 'node:net';
import type { SecureContext, TLSSocket } from 'node:tls';
import type { Transform } from 'node:stream';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import type { AddressDecision } from '../checkpoint/judge.ts';

/** Name and value as they stand in the message, in its order. */
export type HeaderPair = readonly [name: string, value: string];

/** What carrying HTTP needs. */
export interface HttpDeps {
  readonly checkpoint: Pick<Checkpoint, 'request' | 'refuse'>;
  readonly network: Dialler;
  readonly authority: { contextOf(host: string): SecureContext };
  readonly credentials?: CredentialBroker;
  readonly limits?: Partial<HttpLimits>;
}

/** `Network` is one. */
export interface Dialler {
  dial(wanted: {
    readonly host: string;
    readonly port: number;
    readonly check: (address: string) => AddressDecision;
    readonly timeoutMs: number;
    readonly signal: AbortSignal;
  }): Promise<{ readonly socket: Socket; readonly address: string | null }>;
  secure(
    socket: Socket,
    host: string,
    alpn: readonly string[],
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<TLSSocket>;
}

/** `Credentials` is one. Asked for every request that was let through, before anything is dialled. */
export interface CredentialBroker {
  /** Throws what has the `kind`, `rule`, `reason` and `hint` of an `EgressFailure`. */
  prepare(request: {
    readonly rule: { readonly id: string; readonly credential?: string } | undefined;
    readonly method: string;
    readonly url: URL;
    readonly headers: readonly HeaderPair[];
  }): Promise<PreparedHeaders>;
}

export interface PreparedHeaders {
  readonly headers: readonly HeaderPair[];
  readonly carried?: CarriedCredential;
}

/** A secret is on its way. What comes back is searched for it. */
export interface CarriedCredential {
  /** Aborted when the credential is revoked. */
  readonly signal: AbortSignal;
  /** `body` changes no length. Throws as `prepare` does when the answer cannot be searched. */
  response(
    status: number,
    headers: readonly HeaderPair[],
  ): { readonly headers: readonly HeaderPair[]; readonly body: Transform };
  /** Once, when the exchange is over. */
  end(): void;
}

export interface HttpLimits {
  /** A whole TLS handshake. */
  readonly handshakeMs: number;
  /** A head that has begun, to its end. */
  readonly headMs: number;
  /** From the moment a request could begin until it does. */
  readonly idleMs: number;
  /** For an answer, or more of it, where the client has said that it says no more: it may have gone. */
  readonly halfClosedMs: number;
  /** Request line and headers together, either way. */
  readonly headBytes: number;
  readonly headersMax: number;
  /** Pipelined requests that wait for their turn. */
  readonly waitingMax: number;
  /** HTTP/2 streams at once. */
  readonly streamsMax: number;
  /** HTTP/2 streams that a client may reset within ten seconds. */
  readonly resetsMax: number;
  /** Of a body that nobody will read, before the connection is cut. */
  readonly discardBytes: number;
  /** To resolve, connect and shake hands with the upstream. */
  readonly dialMs: number;
}

export const httpLimits: HttpLimits = {
  handshakeMs: 10_000,
  headMs: 10_000,
  idleMs: 60_000,
  halfClosedMs: 15_000,
  headBytes: 65_536,
  headersMax: 128,
  waitingMax: 64,
  streamsMax: 64,
  resetsMax: 200,
  discardBytes: 1_048_576,
  dialMs: 30_000,
};
