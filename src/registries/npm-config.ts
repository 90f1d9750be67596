import { dirname, join } from 'node:path';
import { readConfiguration, type Machine } from './configuration.ts';
import { registryUrl, type Registry } from './registries.ts';

/** `registry` and `@scope:registry` of npmrc(5): of the environment, the user and the machine, the first that says it. */
export async function npmRegistries(machine: Machine): Promise<readonly Registry[]> {
  const { env, home, root, node } = machine;
  const fromEnv = environmentOf(env);
  const user = fromEnv.get('userconfig') ?? join(home, '.npmrc');
  const prefix = fromEnv.get('prefix') ?? dirname(dirname(node));
  const machineWide = fromEnv.get('globalconfig');
  const paths = machineWide === undefined ? [join(prefix, 'etc/npmrc'), join(root, 'etc/npmrc')] : [machineWide];
  const texts = await Promise.all([user, ...paths].map(readConfiguration));
  const said = new Map<string, string>();
  for (const layer of [fromEnv, ...texts.map((text) => parseNpmrc(text, env))])
    for (const [key, value] of layer) if (!said.has(key) && value !== '') said.set(key, value);
  const [first, ...scoped] = ['registry', ...[...said.keys()].filter((key) => scopePattern.test(key)).sort()];
  return [first, ...scoped].flatMap((key) => {
    const url = registryUrl(said.get(key ?? '') ?? (key === 'registry' ? 'https://registry.npmjs.org/' : ''));
    const [, scope] = scopePattern.exec(key ?? '') ?? [];
    return url === undefined ? [] : [{ url, ...(scope === undefined ? {} : { scope }) }];
  });
}

const scopePattern = /^(@[\w.~-]+):registry$/;

/**
 * `npm_config_KEY`, in whatever case. What npm itself has started (`npx`, `npm run`) finds there what the project's own
 * .npmrc says, which is not to be believed: then none of them counts.
 */
function environmentOf(env: Machine['env']): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  if (env['npm_execpath'] !== undefined || env['npm_command'] !== undefined) return found;
  for (const [name, value] of Object.entries(env)) {
    const [, key] = /^npm_config_(.+)$/i.exec(name) ?? [];
    if (key !== undefined && value !== undefined) found.set(key.startsWith('@') ? key : key.toLowerCase(), value);
  }
  return found;
}

function parseNpmrc(text: string, env: Machine['env']): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const [, key, value] = /^\s*(@?[^=;#[\]]+?)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (key === undefined || value === undefined) continue;
    const plain = value.replace(/\s+[;#].*$/, '').replace(/^(["'])(.*)\1$/, '$2');
    found.set(
      key,
      plain.replaceAll(/\$\{([^}?]+)\??\}/g, (whole, name: string) => env[name] ?? whole),
    );
  }
  return found;
}
