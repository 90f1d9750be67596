import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { readEntries } from '../journal/read.ts';
import type { TightenWhen } from '../policy/language/promotion.ts';
import type { Policy } from '../policy/policy.ts';
import { findVerification } from '../verify/verification-files.ts';
import type { Promotion } from './ledger.ts';
import type { Demand } from './rules.ts';

/** More than the rules ask, because of what became of the lane's runs. */
export interface Tightened {
  readonly demand: Demand;
  readonly because: string;
}

/** Of the last of a lane. */
export interface LaneRecord {
  readonly verified: number;
  readonly failures: number;
  readonly promoted: number;
  readonly rollbacks: number;
}

/** What the policy makes of a lane's record; every layer that says something is asked. Pure. */
export function tightenedBy(
  policy: Pick<Policy, 'promotion' | 'lane'>,
  recordOf: (window: number) => LaneRecord,
): Tightened | undefined {
  const found = (policy.promotion ?? []).flatMap(({ layer, tightenWhen }) => {
    if (tightenWhen === undefined) return [];
    const why = reasonsOf(tightenWhen, recordOf(tightenWhen.window ?? windowStandard));
    return why.length === 0 ? [] : [{ to: tightenWhen.to, because: `${layer}: ${why.join(', ')}` }];
  });
  if (found.length === 0) return undefined;
  const owners = found.some(({ to }) => to === 'owners');
  const because = `lane ${policy.lane ?? '(none)'} is held closer, ${found.map((one) => one.because).join('; ')}`;
  return { because, demand: { action: 'review', reviews: owners ? 2 : 1, owners, because: [because] } };
}

export const windowStandard = 20;

function reasonsOf(
  { failures_above: failures, rollbacks_above: rollbacks }: TightenWhen,
  record: LaneRecord,
): readonly string[] {
  const reasons: string[] = [];
  if (failures !== undefined && record.failures > failures)
    reasons.push(`${record.failures} of its last ${record.verified} verified runs did not pass (above ${failures})`);
  if (rollbacks !== undefined && record.rollbacks > rollbacks)
    reasons.push(`${record.rollbacks} of its last ${record.promoted} promotions were rolled back (above ${rollbacks})`);
  return reasons;
}

/** Of this data directory; looks at the newest runs, as many as are kept in mind at most. */
export async function laneRecords(
  dataDir: DataDir,
  promotions: readonly Promotion[],
  lane: string | null,
  windowMax: number,
): Promise<(window: number) => LaneRecord> {
  const verdicts: string[] = [];
  for (const dir of (await dataDir.listRuns()).slice(0, runsMax)) {
    if (verdicts.length >= windowMax) break;
    const kept = await findVerification(dir);
    if (kept !== undefined && (await laneOf(dir)) === lane) verdicts.push(kept.verification.verdict);
  }
  const ofLane = promotions.filter(({ intended, done }) => done !== undefined && intended.lane === lane);
  return (window) => {
    const [judged, promoted] = [verdicts.slice(0, window), ofLane.slice(0, window)];
    return {
      verified: judged.length,
      failures: judged.filter((verdict) => verdict === 'failed' || verdict === 'broken').length,
      promoted: promoted.length,
      rollbacks: promoted.filter(({ rolledBack }) => rolledBack !== undefined).length,
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
