import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findInUpper, lookAtUpper, type UpperLookOptions } from './upper-look.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'glovebox-upper-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const all: UpperLookOptions = {
  entriesMax: 1_000,
  directoryBytesMax: 1024 * 1024,
  withinMs: 10_000,
  skips: () => false,
};

async function put(path: string, text = 'x'): Promise<void> {
  await mkdir(join(root, path, '..'), { recursive: true });
  await writeFile(join(root, path), text);
}

test('tells each name with what it is, by whatever bytes it is called, and follows no link', async () => {
  await put('d/e/f');
  await put(`odd\u001b\n`);
  await symlink('/etc', join(root, 'etc'));
  execFileSync('mkfifo', [join(root, 'pipe')]);
  execFileSync('mknod', [join(root, 'gone'), 'c', '0', '0']);
  execFileSync('sh', ['-c', 'printf x > "$(printf "latin\\351")"'], { cwd: root });
  const { entries, whole } = await lookAtUpper(root, all);
  expect(whole).toBe(true);
  expect(Object.fromEntries([...entries].map(([path, { kind }]) => [path, kind]))).toEqual({
    'd/e/f': 'file',
    'odd\u001b\n': 'file',
    'latin\udce9': 'file',
    etc: 'link',
    gone: 'hidden',
    pipe: 'other',
  });
  expect(findInUpper(root, 'etc/passwd')).toBeUndefined();
  expect(findInUpper(root, 'd/e/f')).toEqual(entries.get('d/e/f'));
  expect(findInUpper(root, 'd/e/none')).toBeUndefined();
  expect(findInUpper(root, 'd/e/f/g')).toBeUndefined();
});

test('says that nothing is at a path that can be none, and what is at one of hundreds of names', async () => {
  await put('d/e/f');
  for (const path of [`d/${'x'.repeat(256)}`, `${'x'.repeat(256)}/f`, `d/${'\u00e9'.repeat(128)}`])
    expect(findInUpper(root, path)).toBeUndefined();
  const deep = Array.from({ length: 300 }, () => 'x').join('/');
  await put(`${deep}/f`);
  expect(findInUpper(root, `${deep}/f`)?.kind).toBe('file');
});

test('tells a file apart that was written to, also where size and times were set back', async () => {
  await put('a', 'one');
  execFileSync('touch', ['-d', '2001-01-01', join(root, 'a')]);
  const before = findInUpper(root, 'a');
  await expect
    .poll(() => {
      execFileSync('sh', ['-c', 'printf two > a; touch -d 2001-01-01 a'], { cwd: root });
      return findInUpper(root, 'a')?.stamp;
    })
    .not.toBe(before?.stamp);
});

test('goes where a directory was, and nowhere else, while it is exchanged for a link all the time', async () => {
  await put('d/inside');
  await symlink('/etc', join(root, 'link'));
  const over = new AbortController();
  const exchange = (async () => {
    while (!over.signal.aborted) {
      await rename(join(root, 'd'), join(root, 'aside'));
      await rename(join(root, 'link'), join(root, 'd'));
      await rename(join(root, 'd'), join(root, 'link'));
      await rename(join(root, 'aside'), join(root, 'd'));
    }
  })();
  for (let look = 0; look < 200; look++) {
    const { entries } = await lookAtUpper(root, all);
    for (const path of entries.keys()) expect(['d/inside', 'aside/inside', 'd', 'link']).toContain(path);
    expect(findInUpper(root, 'd/passwd')).toBeUndefined();
  }
  over.abort();
  await exchange;
});

test('stops where there is more than it may see, and says so', async () => {
  for (let at = 0; at < 20; at++) await put(`d${at % 4}/${at}`);
  expect((await lookAtUpper(root, { ...all, entriesMax: 20 })).whole).toBe(false);
  expect((await lookAtUpper(root, { ...all, entriesMax: 24 })).whole).toBe(true);
  const skips = (path: string) => path === 'd1';
  const { entries, whole } = await lookAtUpper(root, { ...all, entriesMax: 19, skips });
  expect([whole, entries.size]).toEqual([true, 15]);
  const deep = Array.from({ length: 140 }, () => 'x').join('/');
  await put(`${deep}/f`);
  expect((await lookAtUpper(root, all)).whole).toBe(false);
});

test('lets others have their turn, and does not begin with a directory that has too many names', async () => {
  await mkdir(join(root, 'many'));
  execFileSync('sh', ['-c', 'seq 3000 | xargs touch'], { cwd: join(root, 'many') });
  let turns = 0;
  let over = false;
  const turn = (): void => {
    turns++;
    if (!over) setImmediate(turn);
  };
  setImmediate(turn);
  expect((await lookAtUpper(root, { ...all, entriesMax: 10_000 })).entries.size).toBe(3_000);
  over = true;
  expect(turns).toBeGreaterThan(8);
  const { whole, entries } = await lookAtUpper(root, { ...all, entriesMax: 10_000, directoryBytesMax: 32_768 });
  expect([whole, entries.size]).toEqual([false, 0]);
});
