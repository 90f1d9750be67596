import type { Registries } from '../../registries/registries.ts';

/** What a run may reach: every field is there, sizes in bytes, times in milliseconds. */
export interface EffectiveEgress {
  /** Names of the profiles and upstreams that hold. */
  readonly profiles: readonly string[];
  readonly rules: readonly EffectiveEgressRule[];
  readonly deny: readonly EgressDenial[];
  readonly upstreams: readonly Upstream[];
  readonly mode: 'enforce' | 'observe';
  readonly dns: { readonly maxNames: number; readonly maxUnlisted: number; readonly onExcess: 'deny' | 'stop_run' };
  /** At one time. */
  readonly maxConnections: number;
  /** Which registries the rules with `registry` stand for; URLs without credentials. Empty: none is used. */
  readonly registries: Partial<Registries>;
}

export interface EffectiveEgressRule {
  readonly id: string;
  readonly profile: string;
  readonly host: readonly string[];
  readonly ports: readonly number[];
  /** Of a connection that is passed through, methods, path and query say nothing. */
  readonly methods: readonly string[];
  readonly path: readonly string[];
  /** Where it is empty, the query does not matter. */
  readonly query: Readonly<Record<string, string>>;
  readonly tls: 'terminate' | 'pass_through' | 'none';
  readonly credential?: string;
  /** The approval that requests with its credential need; a request that comes from inside cannot wait for one. */
  readonly approval?: string | undefined;
  readonly websocket: boolean;
  readonly allowEncodedSlash: boolean;
  /** CIDRs of special addresses that this rule may reach; public ones need none. */
  readonly addresses: readonly string[];
  /** Of one request; of the connection where it is passed through. So too the next. */
  readonly maxSentBytes: number;
  readonly maxReceivedBytes: number;
  /** Requests of a run; connections where they are passed through. */
  readonly maxRequests: number;
  readonly timeoutMs: number;
}

export interface EgressDenial {
  readonly id: string;
  readonly host: readonly string[];
  readonly cidr: readonly string[];
  readonly reason: string;
}

/** A service that is no web server: plain TCP to where the runner finds it. */
export interface Upstream {
  readonly id: string;
  /** As it is called inside. */
  readonly host: string;
  readonly port: number;
  readonly to:
    | { readonly kind: 'unix'; readonly path: string }
    | { readonly kind: 'tcp'; readonly host: string; readonly port: number };
}

export interface EffectiveCredential {
  /** A reference, such as `env:NAME`. */
  readonly source: string;
  readonly host: string;
  readonly path: readonly string[];
  readonly methods: readonly string[];
  readonly header: string;
  readonly format: string;
  readonly ttlMs: number;
}
