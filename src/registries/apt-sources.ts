import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readConfiguration } from './configuration.ts';

export interface AptSource {
  readonly uri: string;
  readonly suite: string;
}

const filesMax = 256;

/** What apt reads packages from: `deb` entries with `main`, in both forms of sources.list(5), and lists of mirrors. */
export async function readAptSources(aptDir: string): Promise<readonly AptSource[]> {
  const folder = join(aptDir, 'sources.list.d');
  const names = await readdir(folder).catch((): string[] => []);
  const paths = [join(aptDir, 'sources.list'), ...names.sort().map((name) => join(folder, name))];
  const files = await Promise.all(
    paths.slice(0, filesMax).map(async (path) => ({ path, text: await readConfiguration(path) })),
  );
  const sources = files.flatMap(({ path, text }) => {
    if (path.endsWith('.sources')) return text.split(/\n\s*\n/).flatMap(parseStanza);
    return path.endsWith('.list') ? text.split('\n').flatMap(parseLine) : [];
  });
  return (await Promise.all(sources.map((source) => mirrorsOf(source, aptDir)))).flat();
}

/** `mirror+file:/etc/apt/mirrors/x.list`, apt-transport-mirror(1): a mirror in each line. */
async function mirrorsOf(source: AptSource, aptDir: string): Promise<readonly AptSource[]> {
  const [, path] = /^mirror\+file:(?:\/\/)?(\/etc\/apt\/[\w./-]+)$/.exec(source.uri) ?? [];
  if (path === undefined || path.includes('..')) return [source];
  const text = await readConfiguration(join(aptDir, path.slice('/etc/apt/'.length)));
  return text.split('\n').flatMap((line) => {
    const [uri = ''] = line.replace(/#.*/, '').trim().split(/\s+/);
    return uri === '' ? [] : [{ uri, suite: source.suite }];
  });
}

/** `deb [options] URI SUITE COMPONENT…`. */
function parseLine(line: string): readonly AptSource[] {
  const match = /^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)$/.exec(line.replace(/#.*/, '').trim());
  const [, uri, suite, components] = match ?? [];
  if (uri === undefined || suite === undefined || !components?.split(/\s+/).includes('main')) return [];
  return [{ uri, suite }];
}

/** The deb822 form. */
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
