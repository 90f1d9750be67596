import type { TightenWhen } from '../policy/language/promotion.ts';
import type { Policy } from '../policy/policy.ts';
import type { Demand } from './rules.ts';

/** More than the rules ask, because of what became of the lane's runs. */
export interface Tightened {
  readonly demand: Demand;
  readonly because: string;
}

/** Of the last of a lane; `laneRecords` of the statistics finds it. */
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
