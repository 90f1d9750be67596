import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { pack, type Header } from 'tar-stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digestOf } from '../digest.ts';
import { Scope } from '../workspace/scope/scope.ts';
import { findResults, isAllScratch, keepResults } from './results.ts';
import { resultsDir } from './setup-script.ts';

const image = digestOf('an image');
const root = resultsDir.slice(1);
const isRoot = process.getuid?.() === 0;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'results-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

type Member = Partial<Header> & { readonly name: string; readonly content?: string };

async function keep(...members: Member[]): Promise<string | undefined> {
  const archive = pack();
  for (const { content = '', ...header } of [{ name: root, type: 'directory' as const }, ...members])
    archive.entry(header, content);
  archive.finalize();
  const file = join(folder, 'rootfs.tar');
  await pipeline(archive, createWriteStream(file));
  await keepResults(folder, image, file);
  return findResults(folder, image);
}

test('what setup left in its workspace is kept as it is, and only that; nobody but root can', async () => {
  const kept = await keep(
    { name: 'etc/passwd', content: 'not of the workspace' },
    { name: `${root}/node_modules`, type: 'directory' },
    { name: `${root}/node_modules/a.js`, content: 'a', mode: 0o644 },
    { name: `${root}/node_modules/b.js`, type: 'link', linkname: `${root}/node_modules/a.js` },
    { name: `${root}/bin`, type: 'symlink', linkname: '/usr/bin' },
  );
  if (!isRoot) return expect(kept).toBeUndefined();
  expect((await readdir(kept ?? '')).sort()).toEqual(['bin', 'node_modules']);
  expect(await readFile(join(kept ?? '', 'node_modules/b.js'), 'utf8')).toBe('a');
});

test.each<[string, Member[]]>([
  [
    'a hard link that leads through a link',
    [
      { name: `${root}/out`, type: 'symlink', linkname: '../../../../secrets' },
      { name: `${root}/found`, type: 'link', linkname: `${root}/out/secret` },
    ],
  ],
  [
    'a file that would be written through a link',
    [
      { name: `${root}/out`, type: 'symlink', linkname: '/tmp' },
      { name: `${root}/out/x`, content: 'x' },
    ],
  ],
  ['a name with two dots', [{ name: `${root}/../x`, content: 'x' }]],
  [
    'the same name twice',
    [
      { name: `${root}/x`, content: 'x' },
      { name: `${root}/x`, content: 'y' },
    ],
  ],
  ['a device', [{ name: `${root}/null`, type: 'character-device', devmajor: 1, devminor: 3 }]],
])('%s is refused, and nothing of it stays', async (_what, members) => {
  await mkdir(join(folder, 'secrets'));
  await writeFile(join(folder, 'secrets/secret'), 'of the host');
  if (isRoot) await expect(keep(...members)).rejects.toThrow();
  expect(findResults(folder, image)).toBeUndefined();
  expect(await readdir(join(folder, 'environments/results')).catch(() => [])).toEqual([]);
});

test.each<[readonly string[], boolean]>([
  [['**/node_modules/**'], true],
  [['node_modules/**', '!node_modules/b/**'], true],
  [['node_modules/**', '!**/*.b'], true],
  [['node_modules/**/*', 'node_modules'], true],
  [['node_modules/**', '!node_modules/a/**'], false],
  [['node_modules/**', '!**/*.js'], false],
  [['node_modules', 'node_modules/*'], false],
  [['build/**'], false],
])('with scratch %j, a node_modules is all scratch: %j', async (scratch, expected) => {
  await mkdir(join(folder, 'node_modules/a'), { recursive: true });
  await writeFile(join(folder, 'node_modules/a/x.js'), '');
  await writeFile(join(folder, 'node_modules/a/.npmrc'), '');
  const scope = Scope.compile({ read: [], write: [], scratch: [...scratch], deny: ['**/.npmrc'] });
  expect(await isAllScratch(folder, scope)).toBe(expected);
});
