import { join } from 'node:path';
import { readConfiguration, type Machine } from './configuration.ts';
import { registryUrl, type Registry } from './registries.ts';

/**
 * `index-url` and `extra-index-url` of pip: its files from the machine's to the user's to that of a virtual environment, the
 * last one counts; then variables. Directories and files of this machine (`file://`) are no registries.
 */
export async function pipRegistries({ env, home, root }: Machine): Promise<readonly Registry[]> {
  const named = env['PIP_CONFIG_FILE'];
  const standard = [
    join(root, 'etc/xdg/pip/pip.conf'),
    join(root, 'etc/pip.conf'),
    join(home, '.pip/pip.conf'),
    join(env['XDG_CONFIG_HOME'] ?? join(home, '.config'), 'pip/pip.conf'),
    ...(env['VIRTUAL_ENV'] === undefined ? [] : [join(env['VIRTUAL_ENV'], 'pip.conf')]),
  ];
  const paths = named === '/dev/null' ? [] : [...standard, ...(named === undefined ? [] : [named])];
  const texts = await Promise.all(paths.map(readConfiguration));
  const said = new Map<string, string>();
  for (const section of ['global', 'install'])
    for (const text of texts) for (const [key, value] of parsePipConfig(text, section)) said.set(key, value);
  const index = env['PIP_INDEX_URL'] ?? said.get('index-url') ?? 'https://pypi.org/simple/';
  const extra = env['PIP_EXTRA_INDEX_URL'] ?? said.get('extra-index-url') ?? '';
  const urls = [index, ...extra.split(/\s+/)].flatMap((url) => registryUrl(url) ?? []);
  return [...new Set(urls)].map((url) => ({ url }));
}

/** Of one section; a line that is indented goes on with the value of the one before (configparser of Python). */
function parsePipConfig(text: string, section: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  let current = '';
  let last = '';
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*([;#]|$)/.test(line)) continue;
    const [, name] = /^\[([^\]]+)\]/.exec(line) ?? [];
    const [, key, value] = /^([A-Za-z_-]+)\s*[=:]\s*(.*?)\s*$/.exec(line) ?? [];
    if (name !== undefined) [current, last] = [name, ''];
    else if (current !== section) continue;
    else if (/^\s/.test(line) && last !== '') found.set(last, `${found.get(last) ?? ''} ${line.trim()}`.trim());
    else if (key !== undefined && value !== undefined) {
      last = key.toLowerCase().replaceAll('_', '-');
      found.set(last, value);
    }
  }
  return found;
}
