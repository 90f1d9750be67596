import type { CheckedBundle } from '../bundle/check.ts';
import type { Facts } from '../bundle/facts.ts';
import type { Candidate } from './promote.ts';
import type { Demand } from './rules.ts';

/** A bundle that was checked, as what is promoted. */
export function candidateOf({ manifest, digest, facts, contents }: CheckedBundle): Candidate {
  return {
    manifest,
    digest,
    policy: facts.policy.policy,
    base: facts.base,
    lines: linesOf(facts),
    contents,
    ...demandedBy(facts),
  };
}

/** Added and removed; what git counts no lines of is one. */
export function linesOf({ diff }: Pick<Facts, 'diff'>): number {
  return diff.changes.reduce((sum, { added, removed }) => sum + (added ?? 1) + (removed ?? 0), 0);
}

/** What the run itself left open. */
export function demandedBy({ diff }: Pick<Facts, 'diff'>): { readonly demanded?: Demand } {
  if (!diff.complete) {
    const because = ['not all of its changes could be seen when it closed'];
    return { demanded: { action: 'never', reviews: 0, owners: false, because } };
  }
  if (diff.due.length === 0) return {};
  const because = [`the policy wants ${diff.due.join(', ')} before it is put to use`];
  return { demanded: { action: 'review', reviews: 1, owners: false, because } };
}
