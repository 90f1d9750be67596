/** What the rules of a policy answer; `EgressRules` of `policy/decisions/egress-rules.ts` is one. */
export interface Judge {
  name(host: string): NameAnswer;
  connection(asked: { readonly host: string; readonly port: number }): ConnectionAnswer;
  decide(asked: { readonly method: string; readonly url: URL; readonly websocket?: boolean }): RequestAnswer;
  address(rule: EffectiveEgressRule, ip: string): AddressDecision;
}

export interface Refused {
  readonly kind: 'denied' | 'unlisted';
  readonly id?: string;
  readonly reason: string;
  /** What would allow it. */
  readonly hint?: string;
}

export type NameAnswer =
  | { readonly kind: 'listed'; readonly ports: readonly number[]; readonly suffix: boolean }
  | Refused;
export type ConnectionAnswer =
  | { readonly kind: 'pass_through'; readonly rule: EffectiveEgressRule }
  | { readonly kind: 'terminate' }
  | { readonly kind: 'plain' }
  | { readonly kind: 'upstream'; readonly upstream: Upstream }
  | Refused;
export type RequestAnswer = { readonly kind: 'allowed'; readonly rule: EffectiveEgressRule } | Refused;
export type AddressDecision =
  | { readonly kind: 'allowed'; readonly named?: boolean }
  | { readonly kind: 'denied'; readonly id: string; readonly reason: string };

export interface EffectiveEgressRule {
  readonly id: string;
  readonly profile: string;
  readonly host: readonly string[];
  readonly ports: readonly number[];
  readonly methods: readonly string[];
  readonly path: readonly string[];
  readonly query: Readonly<Record<string, string>>;
  readonly tls: 'terminate' | 'pass_through' | 'none';
  readonly credential?: string;
  readonly websocket: boolean;
  readonly allowEncodedSlash: boolean;
  readonly addresses: readonly string[];
  readonly maxSentBytes: number;
  readonly maxReceivedBytes: number;
  readonly maxRequests: number;
  readonly timeoutMs: number;
}

export interface Upstream {
  readonly id: string;
  readonly host: string;
  readonly port: number;
  readonly to:
    | { readonly kind: 'unix'; readonly path: string }
    | { readonly kind: 'tcp'; readonly host: string; readonly port: number };
}
