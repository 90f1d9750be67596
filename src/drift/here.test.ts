import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digestOf } from '../digest.ts';
import { hostPlace } from './host-place.ts';
import { lookAtLockfiles } from './lockfiles.ts';

let place: string;
beforeEach(async () => {
  place = await mkdtemp(join(tmpdir(), 'glovebox-here-'));
});
afterEach(() => rm(place, { recursive: true }));

test('this machine is looked at as a sandbox is: links are not followed when listed, and are when read', async () => {
  await mkdir(join(place, 'bin'));
  await writeFile(join(place, 'bin/tool-1.2'), 'program');
  await chmod(join(place, 'bin/tool-1.2'), 0o755);
  await symlink('tool-1.2', join(place, 'bin/tool'));
  const found = await hostPlace.list(place, { entriesMax: 10, digests: true });
  const [uid, gid] = [process.getuid?.(), process.getgid?.()];
  const at = (name: string): unknown => found.find(({ path }) => path === join(place, name));
  expect(at('bin/tool-1.2')).toMatchObject({ type: 'file', mode: 0o755, uid, gid, digest: digestOf('program') });
  expect(at('bin/tool')).toMatchObject({ type: 'symlink', target: 'tool-1.2' });
  expect(await hostPlace.digest(join(place, 'bin/tool'))).toBe(digestOf('program'));
  expect(await hostPlace.read(join(place, 'bin/tool'), 100)).toBe('program');
});

test('of what is listed with digests, files that would take too long to read are left out', async () => {
  await writeFile(join(place, 'large'), Buffer.alloc(4 * 1024 * 1024 + 1));
  await writeFile(join(place, 'small'), 'x');
  const names = async (digests: boolean): Promise<readonly string[]> =>
    (await hostPlace.list(place, { entriesMax: 10, digests })).map(({ path }) => path.slice(place.length + 1)).sort();
  expect(await names(true)).toEqual(['small']);
  expect(await names(false)).toEqual(['large', 'small']);
});

test('no directory stays open, at whatever depth or count the list ends', async () => {
  await mkdir(join(place, 'a/b/c'), { recursive: true });
  await writeFile(join(place, 'a/b/c/d'), '');
  for (const bound of [{ depthMax: 1 }, { depthMax: 2 }, { entriesMax: 1 }, { entriesMax: 3 }])
    await hostPlace.list(place, { entriesMax: 10, ...bound });
  const held = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''));
  expect((await Promise.all(held)).filter((path) => path.startsWith(place))).toEqual([]);
});

test('what is too large, too many, not there, or no file, is not there', async () => {
  await writeFile(join(place, 'a'), 'long');
  await writeFile(join(place, 'b'), '');
  expect(await hostPlace.read(join(place, 'a'), 3)).toBeUndefined();
  expect(await hostPlace.list(place, { entriesMax: 1 })).toHaveLength(1);
  expect(await hostPlace.list(join(place, 'none'), { entriesMax: 1 })).toEqual([]);
  expect(await hostPlace.digest(place)).toBeUndefined();
  expect(await hostPlace.digest('/dev/null')).toBeUndefined();
});

test('what leads to a device or a pipe is not read: a repository cannot have it waited, or read without end', async () => {
  await mkdir(join(place, 'node_modules/.pnpm'), { recursive: true });
  await writeFile(join(place, 'package-lock.json'), '{"packages":{}}');
  await writeFile(join(place, 'pnpm-lock.yaml'), 'lockfileVersion: 9');
  await symlink('/dev/zero', join(place, 'node_modules/.package-lock.json'));
  execFileSync('mkfifo', [join(place, 'node_modules/.pnpm/lock.yaml')]);
  const { evidence } = await lookAtLockfiles(hostPlace, place, async () => new Map());
  expect([evidence['package-lock.json'], evidence['pnpm-lock.yaml']]).toEqual(['not_installed', 'not_installed']);
}, 5_000);

test('lockfiles of a directory of this machine are held against what is installed there', async () => {
  await writeFile(join(place, 'requirements.txt'), 'flask==3.0.0\n');
  const { evidence } = await lookAtLockfiles(hostPlace, place, async () => new Map([['flask', '2.0.0']]));
  expect(evidence['requirements.txt']).toBe('flask: 3.0.0 locked, 2.0.0 installed');
});
