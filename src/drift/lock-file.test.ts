import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { formatLock, type DriftLock } from './lock.ts';
import { writeLock } from './lock-file.ts';

let place: string;
beforeEach(async () => {
  place = await mkdtemp(join(tmpdir(), 'glovebox-lock-'));
});
afterEach(() => rm(place, { recursive: true }));

const lock: DriftLock = { v: 1, sections: {} };

test('a lock is written, also over a longer one', async () => {
  const file = join(place, 'glovebox.lock');
  await writeLock(file, lock);
  await writeFile(file, 'x'.repeat(10_000));
  await writeLock(file, lock);
  expect(await readFile(file, 'utf8')).toBe(formatLock(lock));
});

test('a link in a repository does not have a lock written into another file, nor a pipe have anybody wait', async () => {
  await writeFile(join(place, 'bashrc'), 'mine');
  for (const target of ['bashrc', 'made-by-it', '/dev/null']) {
    const link = join(place, `to-${target.replaceAll('/', '-')}`);
    await symlink(target, link);
    await expect(writeLock(link, lock)).rejects.toThrow(/is a link/);
  }
  expect(await readFile(join(place, 'bashrc'), 'utf8')).toBe('mine');
  await expect(readFile(join(place, 'made-by-it'))).rejects.toThrow('ENOENT');
  execFileSync('mkfifo', [join(place, 'pipe')]);
  await expect(writeLock(join(place, 'pipe'), lock)).rejects.toMatchObject({ code: 'invalid_request' });
  await expect(writeLock('/dev/null', lock)).rejects.toThrow(/no plain file/);
});
