import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { plantsFor, type Plant } from '../../test/fixtures/plants.ts';
import { DataDir } from '../data-dir/data-dir.ts';
import { digestOf } from '../digest.ts';
import { BlobStore } from '../workspace/blobs.ts';
import type { Change, Node } from '../workspace/change-set.ts';
import { classifyChanges } from '../workspace/changes/classify.ts';
import { keepSafeChanges } from '../workspace/changes/export-check.ts';
import { Findings } from '../workspace/changes/findings.ts';
import { TreeIndex } from '../workspace/changes/tree-index.ts';
import { accepted, candidateOf, TestRepository } from './candidate.fixture.ts';
import { promote } from './promote.ts';
import { rollback } from './rollback.ts';

let home: string;
let blobs: BlobStore;
let repository: TestRepository;
let marker: string;
let plants: readonly Plant[];

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'glovebox-plants-'));
  blobs = await BlobStore.open(join(home, 'blobs'));
  marker = join(home, 'ran');
  plants = plantsFor(marker);
  repository = new TestRepository({ 'README.md': 'read me\n' });
});
afterAll(() => {
  repository.remove();
  rmSync(home, { recursive: true, force: true });
});

async function changesOf(all: readonly Plant[]): Promise<ReadonlyMap<string, Change>> {
  const changes = new Map<string, Node>();
  for (const { path, content, kind } of all) {
    const names = path.split('/');
    for (let length = 1; length < names.length; length++)
      changes.set(names.slice(0, length).join('/'), { kind: 'directory' });
    if (kind === 'link') changes.set(path, { kind: 'symlink', target: content });
    else {
      const mode = kind === 'program' ? 0o755 : 0o644;
      changes.set(path, {
        kind: 'file',
        mode,
        digest: await blobs.put(Buffer.from(content)),
        sizeBytes: content.length,
      });
    }
  }
  return changes;
}

test('each of at least 40 plants is refused at the export or flagged as what runs later', async () => {
  expect(plants.length).toBeGreaterThanOrEqual(40);
  const unseen: string[] = [];
  for (const plant of plants) {
    const findings = new Findings();
    const kept = keepSafeChanges(new TreeIndex(new Map()), await changesOf([plant]), findings);
    const classified = await classifyChanges(new Map(), { changes: kept }, blobs);
    const flagged = classified.some((one) => one.path === plant.path && one.categories.includes('execution_bearing'));
    const isRefused = !kept.has(plant.path);
    if (plant.refused === true ? !isRefused : isRefused || !flagged) unseen.push(plant.path);
  }
  expect(unseen).toEqual([]);
});

test('none of them is run when all are promoted into a repository whose settings would, nor when they are rolled back', async () => {
  const evil = join(home, 'evil.sh');
  writeFileSync(evil, `#!/bin/sh\ntouch ${marker}\n`, { mode: 0o755 });
  for (const key of [
    'core.fsmonitor',
    'filter.evil.clean',
    'filter.evil.smudge',
    'diff.evil.textconv',
    'merge.evil.driver',
  ])
    repository.git('config', key, evil);
  repository.git('config', 'core.hooksPath', join(home, 'hooks'));
  const files = plants.filter(({ refused }) => refused !== true).map(({ path, content }) => [path, content] as const);
  const commit = repository.git('-c', 'core.fsmonitor=false', 'rev-parse', 'HEAD');
  const candidate = candidateOf({ 'README.md': 'read me\n' }, Object.fromEntries(files), {
    base: { digest: digestOf('base'), commit },
  });
  const dataDir = await DataDir.open(join(home, 'data'));
  const reviews = [accepted(candidate, 'ada')];
  const made = await promote(dataDir, { candidate, repository: repository.path, by: 'ada', reviews });
  expect(existsSync(marker)).toBe(false);
  const listed = repository.git('ls-tree', '-r', '--name-only', made.commit).split('\n');
  expect(listed).toHaveLength(files.length + 1);
  await rollback(dataDir, { promotion: made.id, reason: 'none of it is wanted', by: 'ada' });
  expect(existsSync(marker)).toBe(false);
  // What would have run, had git been used in there as anybody does.
  repository.git('checkout', '-qf', made.commit);
  expect(existsSync(marker)).toBe(true);
});
