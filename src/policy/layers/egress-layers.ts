import { RunnerError } from '../../errors.ts';
import type { Registries } from '../../registries/registries.ts';
import { hostsOverlap } from '../decisions/host-name.ts';
import type { EgressRule, UpstreamRule } from '../language/egress.ts';
import type { SourceFile } from '../language/source-file.ts';
import { standardCredential, standardEgressRule } from '../language/standards.ts';
import type { EffectiveCredential, EffectiveEgress, EffectiveEgressRule, Upstream } from './effective-egress.ts';
import { registryShapes } from './registry-rules.ts';

/** What a whole chain says of egress, apart from which profiles are used. */
export interface EgressBounds {
  readonly mode: 'enforce' | 'observe';
  readonly dns: EffectiveEgress['dns'];
  readonly maxConnections: number;
}

/**
 * The rules of some profiles and upstreams. Throws `invalid_policy` where two of them say differently how one host and port
 * is to be carried: whichever was meant, it would not be what holds.
 */
export function egressOf(
  chain: readonly SourceFile[],
  names: readonly string[],
  bounds: EgressBounds,
  registries: Registries,
): EffectiveEgress {
  const rules = names.flatMap((name) => profileOf(chain, name, registries));
  const upstreams = names.flatMap((name) => upstreamOf(chain, name));
  refuseDifferent(chain, rules, upstreams);
  const used = names.flatMap((name) => statedProfile(chain, name)).flatMap(({ registry }) => registry ?? []);
  return {
    profiles: names,
    rules,
    deny: chain.flatMap(({ file }) =>
      (file.egress?.deny ?? []).map(({ id, host = [], cidr = [], reason }) => ({
        id,
        host,
        cidr,
        reason: reason ?? 'the policy denies it, whatever a profile says',
      })),
    ),
    upstreams,
    ...bounds,
    registries: Object.fromEntries([...new Set(used)].map((kind) => [kind, registries[kind]])),
  };
}

/** Those that the rules name; a run holds no secret that it cannot use. */
export function credentialsOf(
  chain: readonly SourceFile[],
  rules: readonly EffectiveEgressRule[],
): Readonly<Record<string, EffectiveCredential>> {
  const named = new Set(rules.flatMap(({ credential }) => credential ?? []));
  const all = chain.toReversed().flatMap(({ file }) => Object.entries(file.credentials ?? {}));
  const used = all.filter(([name]) => named.has(name));
  return Object.fromEntries(
    used.map(([name, says]) => {
      const { ttl, ...rest } = { ...standardCredential, ...stated(says) };
      return [name, { ...rest, ttlMs: ttl }];
    }),
  );
}

function statedProfile(chain: readonly SourceFile[], name: string): readonly EgressRule[] {
  return chain.map(({ file }) => file.egress?.profiles?.[name]).find((found) => found !== undefined) ?? [];
}

function profileOf(chain: readonly SourceFile[], name: string, registries: Registries): readonly EffectiveEgressRule[] {
  return statedProfile(chain, name).flatMap((rule) => rulesOf(chain, name, rule, registries));
}

function rulesOf(
  chain: readonly SourceFile[],
  profile: string,
  rule: EgressRule,
  registries: Registries,
): readonly EffectiveEgressRule[] {
  const plainPorts = rule.tls === 'none' ? { ports: [80] } : {};
  const { max_sent, max_received, max_requests, timeout, allow_encoded_slash, ...rest } = {
    ...standardEgressRule,
    ...plainPorts,
    ...stated(rule),
  };
  const { id, host = [], registry, query = {}, credential, ports, methods, path, tls, websocket, addresses } = rest;
  const approval = approvalFor(chain, credential);
  const whole: EffectiveEgressRule = {
    id,
    profile,
    host,
    ports,
    methods,
    path,
    query,
    tls,
    ...(credential === undefined ? {} : { credential }),
    ...(approval === undefined ? {} : { approval }),
    websocket,
    allowEncodedSlash: allow_encoded_slash,
    addresses,
    maxSentBytes: tls === 'pass_through' && rule.max_sent === undefined ? passedThroughBytes : max_sent,
    maxReceivedBytes: max_received,
    maxRequests: max_requests,
    timeoutMs: timeout,
  };
  if (registry === undefined) return [whole];
  return registryShapes(registry, registries).map((shape, at) => ({
    ...whole,
    ...shape,
    id: at === 0 ? id : `${id}.${at + 1}`,
    ...(rule.addresses === undefined ? {} : { addresses: rule.addresses }),
  }));
}

const passedThroughBytes = 1_048_576;

/** What is said, without what is left out: a default has to stay where a key is there and undefined. */
function stated<T extends object>(says: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const entries = Object.entries(says).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]: Exclude<T[K], undefined> };
}

function approvalFor(chain: readonly SourceFile[], credential: string | undefined): string | undefined {
  if (credential === undefined) return undefined;
  const triggers = chain.flatMap(({ file }) => file.approvals?.triggers ?? []);
  return triggers.find(({ when }) => when.credential?.includes(credential) === true)?.category;
}

function upstreamOf(chain: readonly SourceFile[], name: string): readonly Upstream[] {
  const all = chain.flatMap(({ file }) => file.egress?.upstreams ?? []);
  return all.filter(({ id }) => id === name).map((found) => ({ ...found, to: destinationOf(found) }));
}

/** Of a text that the schema has accepted. */
function destinationOf({ to }: UpstreamRule): Upstream['to'] {
  if (to.startsWith('unix:')) return { kind: 'unix', path: to.slice('unix:'.length) };
  const colon = to.lastIndexOf(':');
  return { kind: 'tcp', host: to.slice(0, colon).replace(/^\[(.*)\]$/, '$1'), port: Number(to.slice(colon + 1)) };
}

interface Way {
  readonly id: string;
  readonly hosts: readonly string[];
  readonly ports: readonly number[];
  readonly how: string;
}

function refuseDifferent(
  chain: readonly SourceFile[],
  rules: readonly EffectiveEgressRule[],
  upstreams: readonly Upstream[],
): void {
  const ways: readonly Way[] = [
    ...rules.map(({ id, host, ports, tls }) => ({ id, hosts: host, ports, how: `tls: ${tls}` })),
    ...upstreams.map(({ id, host, port }) => ({ id, hosts: [host], ports: [port], how: `the upstream ${id}` })),
  ];
  for (const [at, one] of ways.entries()) {
    const other = ways.slice(0, at).find((before) => before.how !== one.how && meets(before, one));
    if (other === undefined) continue;
    const source = chain.at(-1)?.source ?? '';
    throw new RunnerError(
      'invalid_policy',
      `${source}: ${other.id} (${other.how}) and ${one.id} (${one.how}) speak of the same host and port; make them the same, or name profiles of which one says it`,
    );
  }
}

function meets(a: Way, b: Way): boolean {
  return (
    a.ports.some((port) => b.ports.includes(port)) &&
    a.hosts.some((host) => b.hosts.some((other) => hostsOverlap(host, other)))
  );
}
