import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { debianSources } from './apt-sources.ts';

let aptDir: string;

beforeEach(async () => {
  aptDir = await mkdtemp(join(tmpdir(), 'apt-'));
  await mkdir(join(aptDir, 'sources.list.d'));
});

afterEach(async () => {
  await rm(aptDir, { recursive: true, force: true });
});

const signed = '[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]';

test('without sources of its own a machine builds from the Debian default', async () => {
  const lines = (await debianSources('bookworm', aptDir)).trim().split('\n');
  expect(lines).toHaveLength(3);
  for (const line of lines) expect(line).toMatch(/^deb \[signed-by=\S+\] http:\/\/deb\.debian\.org\/\S+ \S+ main$/);
});

test('the mirrors that apt uses are used, in both forms of apt sources', async () => {
  await writeFile(
    join(aptDir, 'sources.list'),
    'deb [arch=amd64] http://mirror.test/debian/ bookworm main contrib # near\n',
  );
  const stanza =
    'Types: deb deb-src\nURIs: http://mirror.test/debian-security\nSuites: bookworm-security\nComponents: main\n';
  await writeFile(join(aptDir, 'sources.list.d', 'security.sources'), stanza);
  expect(await debianSources('bookworm', aptDir)).toBe(
    `deb ${signed} http://mirror.test/debian-security bookworm-security main\ndeb ${signed} http://mirror.test/debian/ bookworm main\n`,
  );
});

test('repositories of third parties, other suites and disabled ones are not used', async () => {
  const list = [
    'deb [trusted=yes] http://vendor.test/apt bookworm main',
    'deb http://mirror.test/debian trixie main',
    'deb http://mirror.test/debian bookworm non-free',
    'deb http://mirror.test/debian bookworm main',
    'deb http://mirror.test/debian-security bookworm-security main',
  ];
  await writeFile(join(aptDir, 'sources.list'), list.join('\n'));
  const off = 'Types: deb\nEnabled: no\nURIs: http://off.test/debian\nSuites: bookworm\nComponents: main\n';
  await writeFile(join(aptDir, 'sources.list.d', 'off.sources'), off);
  const sources = await debianSources('bookworm', aptDir);
  expect(sources).not.toMatch(/vendor|off\.test|trixie|trusted/);
  expect(sources.trim().split('\n')).toHaveLength(2);
});

test('a machine whose sources lack the security updates builds from the Debian default', async () => {
  await writeFile(join(aptDir, 'sources.list'), 'deb http://mirror.test/debian bookworm main\n');
  expect(await debianSources('bookworm', aptDir)).toContain('bookworm-security');
});
