import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { readEntries } from '../journal/read.ts';
import type { Promotion } from '../promotion/ledger.ts';
import type { LaneRecord } from '../promotion/tighten.ts';
import { findVerification } from '../verify/verification-files.ts';
import type { Verdict } from '../verify/verification.ts';
import { becameOf, failuresAmong } from './judgement.ts';

/**
 * What became of the newest runs of a lane, for `tighten_when`. Of this data directory; looks at the newest runs, as many as are
 * kept in mind at most, and of each at its first entry and its verification alone.
 */
export async function laneRecords(
  dataDir: DataDir,
  promotions: readonly Promotion[],
  lane: string | null,
  windowMax: number,
): Promise<(window: number) => LaneRecord> {
  const verdicts: Verdict[] = [];
  for (const dir of (await dataDir.listRuns()).slice(0, runsMax)) {
    if (verdicts.length >= windowMax) break;
    const kept = await findVerification(dir);
    if (kept !== undefined && (await laneOf(dir)) === lane) verdicts.push(kept.verification.verdict);
  }
  const ofLane = promotions.filter((one) => becameOf(one) !== 'unfinished' && one.intended.lane === lane);
  return (window) => {
    const counts = { passed: 0, needs_review: 0, failed: 0, broken: 0 };
    for (const verdict of verdicts.slice(0, window)) counts[verdict] += 1;
    const promoted = ofLane.slice(0, window);
    return {
      verified: Math.min(window, verdicts.length),
      failures: failuresAmong(counts),
      promoted: promoted.length,
      rollbacks: promoted.filter((one) => becameOf(one) === 'rolled_back').length,
    };
  };
}

const runsMax = 5000;

async function laneOf(dir: RunDir): Promise<string | null> {
  for await (const entry of readEntries(dir.journal)) {
    const lane = entry.type === 'run.opened' ? entry.data.policy.effective['lane'] : null;
    return typeof lane === 'string' ? lane : null;
  }
  return null;
}
