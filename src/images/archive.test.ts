import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { describeImage, readImageArchive, writeImageArchive } from './archive.ts';
import { loadRecipe } from './recipe.ts';
import { repack } from './repack.ts';
import { parseDpkgStatus, readRootfs } from './rootfs.ts';

type Entry = Parameters<ReturnType<typeof pack>['entry']>[0] & { readonly text?: string };

const status = 'Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2\n';
const good: readonly Entry[] = [
  { name: './home/agent/', type: 'directory', uid: 10001, gid: 10001 },
  { name: './workspace/', type: 'directory', uid: 10001, gid: 10001 },
  { name: './.glovebox/', type: 'directory' },
  { name: './etc/passwd', text: 'agent:x:10001:10001:agent:/home/agent:/bin/bash\n' },
  { name: './var/lib/dpkg/status', text: status },
  { name: './usr/big', text: 'x'.repeat(2_000_000) },
];

let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'archive-'));
});

afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

test('an image that was written is read back: same id, same content, same packages', async () => {
  const { path, facts, description, bytes } = await image(good);
  const read = await readImageArchive(writeImageArchive(description, path, bytes), 'it');
  expect(read.id).toBe(description.id);
  expect(read.rootfs).toEqual(facts);
  expect(read.config.rootfs.diff_ids).toEqual([facts.content]);
  expect(facts).toMatchObject({ faults: [], architecture: 'amd64', packages: [{ name: 'bash', version: '5.2' }] });
});

test('the same root file system is the same image, whenever it is described', async () => {
  const [one, two] = [await image(good), await image(good)];
  expect(two.description.id).toBe(one.description.id);
});

test('a layer that changed on its way no longer is what the configuration names', async () => {
  const { path, description, bytes } = await image(good);
  const changed = (await readFile(path)).fill('y', 1_000_000, 1_000_010);
  await writeFile(path, changed);
  const read = await readImageArchive(writeImageArchive(description, path, bytes), 'it');
  expect(read.config.rootfs.diff_ids).not.toEqual([read.rootfs.content]);
});

test.each([
  ['nothing', Buffer.alloc(1024)],
  ['no tar', Buffer.from('x'.repeat(4096))],
  ['half an archive', Buffer.alloc(0)],
])('%s is refused as an image', async (_, bytes) => {
  await expect(readImageArchive(Readable.from([bytes]), 'it')).rejects.toThrow();
});

describe('a root file system that must not run names its fault:', () => {
  test.each<[string, Entry]>([
    ['setuid', { name: './usr/bin/su', mode: 0o4755, text: 'x' }],
    ['setgid', { name: './usr/bin/wall', mode: 0o2755, text: 'x' }],
    ['a device', { name: './opt/sda', type: 'block-device', devmajor: 8, devminor: 0 }],
    ['mounts its own', { name: './dev/null', type: 'symlink', linkname: '/proc/1/root' }],
    ['not a directory', { name: './proc', type: 'symlink', linkname: '/etc' }],
    ['identity', { name: './etc/machine-id', text: 'x' }],
    ['left over', { name: './var/log/dpkg.log', text: 'x' }],
    ['capabilities', { name: './usr/bin/ping', pax: { 'SCHILY.xattr.security.capability': 'x' }, text: 'x' }],
  ])('%s', async (word, entry) => {
    const { facts } = await image([...good, entry]);
    expect(facts.faults).toHaveLength(1);
    expect(facts.faults[0]).toContain(word);
  });

  test('the user and a mount point that are missing', async () => {
    const { facts } = await image(good.filter(({ name }) => !/passwd|workspace/.test(name)));
    expect(facts.faults.join('\n')).toMatch(/no user agent[\s\S]*workspace: not a directory owned by 10001/);
  });
});

test('manifests of npm that are broken or huge are no packages, and nothing is kept of them', async () => {
  const manifest = (name: string, text: string): Entry => ({ name: `./opt/node_modules/${name}/package.json`, text });
  const { facts } = await image([
    ...good,
    manifest('whole', '{"name":"whole","version":"1.0.0"}'),
    manifest('broken', '{"name":'),
    manifest('null', 'null'),
    manifest('huge', `{"name":"huge","version":"${'1'.repeat(2_000_000)}"}`),
  ]);
  expect(facts.npm).toEqual([{ name: 'whole', version: '1.0.0' }]);
});

test('dpkg lists what is installed and leaves out what was removed', () => {
  const removed = 'Package: vim\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 9\n';
  expect(parseDpkgStatus(`${status}\n${removed}`).map(({ name }) => name)).toEqual(['bash']);
});

test('several tars become one, without what an engine adds and without the time of the build', async () => {
  const now = new Date('2030-01-01');
  const first = await tarOf(
    [
      { name: 'usr/', type: 'directory' },
      { name: '.dockerenv', text: '' },
      { name: 'etc/hosts', text: 'x' },
    ],
    now,
  );
  const second = await tarOf(
    [
      { name: 'usr/', type: 'directory' },
      { name: 'usr/a', text: 'a' },
      { name: 'usr/b', type: 'link', linkname: './usr/a' },
    ],
    now,
  );
  const [one, two] = [join(dir, 'one.tar'), join(dir, 'two.tar')];
  await repack([first, second], one, 1_000_000_000);
  const plain = await tarOf(
    [
      { name: 'usr/', type: 'directory' },
      { name: 'usr/a', text: 'a' },
      { name: 'usr/b', type: 'link', linkname: 'usr/a' },
    ],
    new Date(1_000_000_000_000),
  );
  await repack([plain], two, 1_000_000_000);
  expect((await readFile(one)).equals(await readFile(two))).toBe(true);
});

async function image(entries: readonly Entry[]) {
  const path = await tarOf(entries, new Date(0));
  const facts = await readRootfs(createReadStream(path));
  const description = describeImage(await loadRecipe('base'), facts);
  return { path, facts, description, bytes: (await stat(path)).size };
}

async function tarOf(entries: readonly Entry[], mtime: Date): Promise<string> {
  const path = await mkdtemp(join(dir, 'tar-')).then((folder) => join(folder, 'rootfs.tar'));
  const tar = pack();
  const writing = pipeline(tar, createWriteStream(path));
  for (const { text, ...header } of entries) tar.entry({ mtime, ...header }, text ?? '');
  tar.finalize();
  await writing;
  return path;
}
