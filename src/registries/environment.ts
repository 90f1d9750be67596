import { publicRegistries, type Registries } from './registries.ts';

/**
 * Variables by which npm and pip inside find the registries that a run may read, where these are not what they would ask
 * anyway. apt has no such variable.
 */
export function registryEnvironment(registries: Partial<Registries>): Readonly<Record<string, string>> {
  const isPublic = (kind: 'npm' | 'pypi', url: string): boolean =>
    publicRegistries[kind].some((one) => one.url === url);
  const [index, ...extra] = registries.pypi ?? [];
  return Object.fromEntries([
    ...(registries.npm ?? [])
      .filter(({ url, scope }) => scope !== undefined || !isPublic('npm', url))
      .map(({ url, scope }) => [scope === undefined ? 'npm_config_registry' : `npm_config_${scope}:registry`, url]),
    ...(index === undefined || isPublic('pypi', index.url) ? [] : [['PIP_INDEX_URL', index.url]]),
    ...(extra.length === 0 ? [] : [['PIP_EXTRA_INDEX_URL', extra.map(({ url }) => url).join(' ')]]),
  ]);
}
