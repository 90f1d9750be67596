import type { Stability } from '../verification.ts';
import { boundText } from './bound.ts';
import type { Observed } from './observed.ts';

/**
 * What the counts say of a gate. A cause is named where the counts speak for it: with 95 % confidence, where chance could have
 * made them; otherwise it is `flaky_unknown`. A test that flickers with the clock is one of those.
 */
export function classify(seen: Observed): Stability {
  const same = seen.of('candidate', 'same');
  return { verdict: verdictOf(seen), attempts: seen.list(), bound: boundText(same.failed, same.runs) };
}

function verdictOf(seen: Observed): Stability['verdict'] {
  const same = seen.of('candidate', 'same');
  const base = seen.of('base', 'same');
  const [shuffled, closed, halved] = (['shuffled', 'no_network', 'half_cpu'] as const).map((how) =>
    seen.of('candidate', how),
  );
  if (same.failed === 0) return 'stable_pass';
  if (same.failed === same.runs) {
    if (passes(shuffled)) return 'flaky_order';
    if (passes(closed)) return 'flaky_network';
    return base.runs > 0 && base.failed === base.runs ? 'failed_before' : 'stable_fail';
  }
  if (seen.failsWithTroubleOnly) return 'flaky_network';
  const network = Math.min(chanceOfMore(same, closed), chanceOfMore(closed, same));
  const load = chanceOfMore(same, halved);
  if (Math.min(network, load) > doubt) return 'flaky_unknown';
  return network < load ? 'flaky_network' : 'flaky_load';
}

const doubt = 0.05;

type Counts = { readonly runs: number; readonly failed: number } | undefined;

function passes(counts: Counts): boolean {
  return counts !== undefined && counts.failed < counts.runs;
}

/**
 * How likely it is that `second` fails so much more often than `first`, or even more, by chance alone: Fisher's exact test,
 * one-sided. 1 where there is nothing to compare.
 */
export function chanceOfMore(first: Counts, second: Counts): number {
  if (first === undefined || second === undefined || first.runs === 0 || second.runs === 0) return 1;
  const runs = first.runs + second.runs;
  const failed = first.failed + second.failed;
  let chance = 0;
  for (let k = second.failed; k <= Math.min(second.runs, failed); k++)
    chance += Math.exp(logChoose(second.runs, k) + logChoose(first.runs, failed - k) - logChoose(runs, failed));
  return Math.min(1, chance);
}

function logChoose(of: number, picked: number): number {
  if (picked < 0 || picked > of) return Number.NEGATIVE_INFINITY;
  let sum = 0;
  for (let k = 1; k <= picked; k++) sum += Math.log((of - picked + k) / k);
  return sum;
}
