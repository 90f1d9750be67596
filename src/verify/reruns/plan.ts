import type { EffectiveGate, EffectiveVerify } from '../../policy/policy.ts';
import type { Place, Way } from '../verification.ts';
import type { Observed } from './observed.ts';

/** What is to be run next of a gate that has failed once; undefined: what there is to know is known. Pure. */
export function nextRerun(
  gate: Pick<EffectiveGate, 'shuffle' | 'egress'>,
  reruns: EffectiveVerify['reruns'],
  seen: Observed,
): { readonly where: Place; readonly how: Way } | undefined {
  const lacks = (where: Place, how: Way, count: number): boolean => seen.of(where, how).runs < count;
  if (lacks('base', 'same', reruns.base)) return { where: 'base', how: 'same' };
  if (lacks('candidate', 'same', reruns.same + 1)) return { where: 'candidate', how: 'same' };
  const same = seen.of('candidate', 'same');
  const always = same.failed === same.runs;
  // In one order it is one thing or the other; what does both in the same order depends on something else.
  if (always && gate.shuffle !== undefined && lacks('candidate', 'shuffled', reruns.shuffled))
    return { where: 'candidate', how: 'shuffled' };
  if (gate.egress.length > 0 && lacks('candidate', 'no_network', reruns.noNetwork))
    return { where: 'candidate', how: 'no_network' };
  // What fails with all processors says nothing new with half of them.
  if (!always && lacks('candidate', 'half_cpu', reruns.halfCpu)) return { where: 'candidate', how: 'half_cpu' };
  return undefined;
}
