import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeClosedRun, verifyIt } from '../bundle/closed-run.fixture.ts';
import { DataDir } from '../data-dir/data-dir.ts';
import type { Verdict } from '../verify/verification.ts';
import { laneRecords } from './lane-record.ts';

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'glovebox-tighten-'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

test('the record of a lane is what became of its newest runs that were verified', async () => {
  const dataDir = await DataDir.open(join(home, 'data'));
  const verdicts: readonly (Verdict | undefined)[] = ['failed', 'passed', undefined, 'broken', 'needs_review'];
  for (const verdict of verdicts) {
    const run = await makeClosedRun(dataDir);
    if (verdict !== undefined) await verifyIt(dataDir, run, { verdict });
  }
  const record = await laneRecords(dataDir, [], null, 20);
  expect(record(20)).toEqual({ verified: 4, failures: 2, promoted: 0, rollbacks: 0 });
  expect(record(2)).toMatchObject({ verified: 2, failures: 1 });
  expect((await laneRecords(dataDir, [], 'another', 20))(20)).toMatchObject({ verified: 0, failures: 0 });
});
