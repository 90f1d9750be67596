import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RunDir } from '../data-dir/run-dir.ts';
import { digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import type { RunSnapshot } from '../runner.ts';
import { encodeTaken } from '../run/snapshot.ts';
import { KeptSnapshots } from './kept-snapshots.ts';
import type { OpenedRun } from './run-views.ts';

const at = '2026-01-01T00:00:00.000Z';
let dir: RunDir;
let run: OpenedRun;
beforeEach(async () => {
  dir = new RunDir(newId(), await mkdtemp(join(tmpdir(), 'glovebox-snapshots-')));
  run = { id: dir.id, dir, policy: 'its policy', image: 'its image', base: 'its base' } as unknown as OpenedRun;
});
afterEach(() => rm(dir.path, { recursive: true, force: true }));

function taken(text: string): RunSnapshot {
  const file = { kind: 'file', digest: digestOf(text), sizeBytes: text.length, mode: 0o644 } as const;
  const changeSet = { changes: new Map([['src/a', file]]) };
  return { changeSet, digest: digestOf(encodeTaken({ changeSet })), scratch: true } as unknown as RunSnapshot;
}

const keep = (snapshots: KeptSnapshots, text: string) => snapshots.keep(async () => taken(text), at);

test('a snapshot is there for whoever has the run next, as it was taken', async () => {
  const before = new KeptSnapshots(run);
  const [first, second] = [await keep(before, 'one'), await keep(before, 'two')];
  const after = new KeptSnapshots(run);
  expect(await after.list()).toEqual([first, second]);
  const { changeSet, digest, ...rest } = await after.get(first.id);
  expect(rest).toEqual({ run: run.id, scratch: true, policy: 'its policy', image: 'its image', base: 'its base' });
  expect([changeSet, digest]).toEqual([taken('one').changeSet, taken('one').digest]);
});

test('there is none of another id, and none after the run was closed', async () => {
  const snapshots = new KeptSnapshots(run);
  expect(await snapshots.list()).toEqual([]);
  const { id } = await keep(snapshots, 'one');
  for (const other of [newId(), '../kept', ''])
    await expect(snapshots.get(other)).rejects.toMatchObject({ code: 'not_found' });
  await dir.dropKept();
  await expect(snapshots.get(id)).rejects.toMatchObject({ code: 'not_found' });
  expect(await readdir(dir.path)).toEqual([]);
});

test('one whose change set is not what it says is refused', async () => {
  const snapshots = new KeptSnapshots(run);
  const { id } = await keep(snapshots, 'one');
  const file = join(dir.snapshotsDir, `${id}.json`);
  const text = await readFile(file, 'utf8');
  for (const changed of [text.replace('src/a', 'src/b'), text.slice(0, -9), text.replace(run.id, newId())]) {
    await writeFile(file, changed);
    await expect(snapshots.get(id)).rejects.toMatchObject({ code: 'data_dir_unusable' });
  }
});

test('a run has so many and no more, also when they are taken at once; one that failed does not count', async () => {
  const snapshots = new KeptSnapshots(run);
  await expect(snapshots.keep(() => Promise.reject(new Error('busy')), at)).rejects.toThrow('busy');
  const asked = await Promise.allSettled(Array.from({ length: 70 }, (_, n) => keep(snapshots, `${n}`)));
  expect(asked.filter(({ status }) => status === 'fulfilled')).toHaveLength(64);
  await expect(keep(snapshots, 'more')).rejects.toMatchObject({ code: 'limit_exceeded' });
});
