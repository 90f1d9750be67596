import { z } from 'zod';

/** Where the package managers of this machine get their packages from. */

export const registryKinds = ['npm', 'pypi', 'debian'] as const;
export type RegistryKind = (typeof registryKinds)[number];

/**
 * `url`: http or https, with its path, without user, query and fragment. `scope`, of npm: only packages of this scope
 * (`@acme`) come from here.
 */
export const Registry = z.strictObject({ url: z.url(), scope: z.string().optional() }).readonly();
export type Registry = z.infer<typeof Registry>;

/** Of each kind, the one that is asked first comes first. */
export type Registries = Readonly<Record<RegistryKind, readonly Registry[]>>;

/** What the clients use where they are not told otherwise. */
export const publicRegistries: Registries = {
  npm: [{ url: 'https://registry.npmjs.org/' }],
  pypi: [{ url: 'https://pypi.org/simple/' }],
  debian: [
    { url: 'http://deb.debian.org/debian/' },
    { url: 'http://deb.debian.org/debian-security/' },
    { url: 'http://security.debian.org/debian-security/' },
  ],
};

/** A directory's URL without user, query and fragment; undefined where it is none that a run could be let to. */
export function registryUrl(text: string): string | undefined {
  if (!URL.canParse(text)) return undefined;
  const { protocol, host, pathname } = new URL(text);
  if (protocol !== 'http:' && protocol !== 'https:') return undefined;
  return `${protocol}//${host}${pathname.endsWith('/') ? pathname : `${pathname}/`}`;
}
