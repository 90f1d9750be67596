import { RunnerError } from '../../errors.ts';
import { publicRegistries, type Registries, type Registry, type RegistryKind } from '../../registries/registries.ts';
import { readHost } from '../decisions/host-name.ts';
import type { EffectiveEgressRule } from './effective-egress.ts';

type Shape = Pick<
  EffectiveEgressRule,
  'host' | 'ports' | 'methods' | 'path' | 'tls' | 'allowEncodedSlash' | 'addresses'
>;

/**
 * The rules that one with `registry` stands for: reading alone, from the hosts of the registries, below their paths. Where
 * a team has its own mirror, that may be in its private network. Throws `invalid_policy` for one without a host name.
 */
export function registryShapes(kind: RegistryKind, registries: Registries): readonly Shape[] {
  const shapes = registries[kind].flatMap((registry) => shapesOf(kind, registry));
  const byPlace = new Map<string, Shape>();
  for (const shape of shapes) {
    const key = JSON.stringify([shape.host, shape.ports, shape.tls]);
    const path = [...new Set([...(byPlace.get(key)?.path ?? []), ...shape.path])];
    byPlace.set(key, { ...shape, path: path.includes('/**') ? ['/**'] : path });
  }
  return [...byPlace.values()];
}

function shapesOf(kind: RegistryKind, registry: Registry): readonly Shape[] {
  const url = new URL(registry.url);
  const host = readHost(url.hostname);
  if (host.kind !== 'name' || host.name === 'localhost')
    throw new RunnerError(
      'invalid_policy',
      `the ${kind} registry ${registry.url} of this machine has no host name that a sandbox could use; give it one (egress.hosts of the runner's configuration maps names), or write the rule out in the policy`,
    );
  const isPlain = url.protocol === 'http:';
  const isPublic = publicRegistries[kind].some((one) => new URL(one.url).host === url.host);
  const shape: Shape = {
    host: [host.name],
    ports: [url.port === '' ? (isPlain ? 80 : 443) : Number(url.port)],
    methods: ['GET', 'HEAD'],
    path: [`${rootOf(kind, url.pathname)}**`],
    tls: isPlain ? 'none' : 'terminate',
    allowEncodedSlash: kind === 'npm',
    addresses: isPublic ? [] : privateRanges,
  };
  // The index of PyPI names files elsewhere; a mirror has its own.
  return host.name === 'pypi.org' ? [shape, { ...shape, host: ['files.pythonhosted.org'] }] : [shape];
}

/** An index lies beside its files: `simple/` (PEP 503), `+simple/` of devpi. */
function rootOf(kind: RegistryKind, path: string): string {
  const plain = kind === 'pypi' ? path.replace(/\+?simple\/$/, '') : path;
  return /[%\\*?[\]{}]/.test(plain) ? '/' : plain;
}

const privateRanges = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'] as const;
