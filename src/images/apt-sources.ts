import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';

export const debianKeyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

interface AptSource {
  readonly uri: string;
  readonly suite: string;
}

/**
 * The mirrors this machine's apt already uses for Debian `suite`, as one-line sources; Debian's own where it uses none.
 * Whatever the mirror, only Debian's archive key is accepted, so a third party's repository cannot slip in.
 */
export async function debianSources(suite: string, aptDir: string = '/etc/apt'): Promise<string> {
  const configured = (await readSources(aptDir)).filter((source) => isDebian(source, suite));
  const complete = [suite, `${suite}-security`].every((name) => configured.some((source) => source.suite === name));
  const sources = complete ? configured : defaultSources(suite);
  const lines = sources.map(({ uri, suite: name }) => `deb [signed-by=${debianKeyring}] ${uri} ${name} main`);
  return `${[...new Set(lines)].sort().join('\n')}\n`;
}

function defaultSources(suite: string): readonly AptSource[] {
  const uri = 'http://deb.debian.org/debian';
  return [
    { uri, suite },
    { uri, suite: `${suite}-updates` },
    { uri: `${uri}-security`, suite: `${suite}-security` },
  ];
}

function isDebian({ uri, suite }: AptSource, wanted: string): boolean {
  const path = suite === `${wanted}-security` ? /\/debian-security(\.list)?\/?$/ : /\/debian(\.list)?\/?$/;
  return [wanted, `${wanted}-updates`, `${wanted}-security`].includes(suite) && path.test(uri);
}

async function readSources(aptDir: string): Promise<readonly AptSource[]> {
  const folder = join(aptDir, 'sources.list.d');
  const names = await readdir(folder).catch((): string[] => []);
  const paths = [join(aptDir, 'sources.list'), ...names.sort().map((name) => join(folder, name))];
  const files = await Promise.all(
    paths.map(async (path) => ({ path, text: await readFile(path, 'utf8').catch(() => '') })),
  );
  return files.flatMap(({ path, text }) => {
    if (path.endsWith('.sources')) return text.split(/\n\s*\n/).flatMap(parseStanza);
    return path.endsWith('.list') ? text.split('\n').flatMap(parseLine) : [];
  });
}

/** `deb [options] URI SUITE COMPONENT…`, sources.list(5). */
function parseLine(line: string): readonly AptSource[] {
  const match = /^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)$/.exec(line.replace(/#.*/, '').trim());
  const [, uri, suite, components] = match ?? [];
  if (uri === undefined || suite === undefined || !components?.split(/\s+/).includes('main')) return [];
  return [{ uri, suite }];
}

/** The deb822 form, sources.list(5). */
function parseStanza(stanza: string): readonly AptSource[] {
  const fields = new Map<string, string[]>();
  for (const line of stanza.split('\n')) {
    const [, key, value] = /^([A-Za-z-]+):\s*(.*)$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) fields.set(key.toLowerCase(), value.trim().split(/\s+/));
  }
  const list = (key: string): readonly string[] => fields.get(key) ?? [];
  if (!list('types').includes('deb') || !list('components').includes('main') || list('enabled').includes('no'))
    return [];
  return list('uris').flatMap((uri) => list('suites').map((suite) => ({ uri, suite })));
}
