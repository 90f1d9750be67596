import type { Facts } from '../bundle/facts.ts';
import type { Manifest, ManifestChange } from '../bundle/manifest.ts';
import type { ReviewView } from '../contract/review-view.ts';
import type { Digest } from '../digest.ts';
import { demandedBy, linesOf } from './candidate.ts';
import type { Review } from './review.ts';
import type { Setback } from './rolled-back.ts';
import { demandOf, demandText, reviewersOf, strictest } from './rules.ts';

/** What is known of a run's proposal besides what it says itself. */
export interface KnownOfIt {
  readonly reviews: readonly Review[];
  readonly setbacks: readonly Setback[];
  /** How often it was verified. */
  readonly verifications: number;
}

/** What a reviewer has to see before the diff: the same for a terminal and for a program. Pure. */
export function reviewDocument(manifest: Manifest, digest: Digest, facts: Facts, known: KnownOfIt): ReviewView {
  const { run, policy, risk, intent, base, image, journal } = manifest;
  const { story, verification, replay } = facts;
  const { digest: tree, commit, below } = base;
  return {
    run,
    manifest: digest,
    policy,
    risk,
    intent: intent ?? null,
    base: { digest: tree, commit: commit ?? null, below: below ?? null },
    image,
    openedAt: story.openedAt,
    closedAt: story.closedAt,
    entries: journal.entries,
    files: filesOf(manifest, facts),
    left: leftOf(facts),
    verification: verification ?? null,
    verifications: known.verifications,
    replay:
      replay === undefined ? null : { verdict: replay.verdict, at: replay.at, divergence: divergenceText(replay) },
    approvals: [...story.decided.values()].map(({ category, verdict, by, reason }) => ({
      category,
      verdict,
      by,
      reason,
    })),
    work: workIn(facts),
    timeline: story.timeline,
    setbacks: known.setbacks,
    reviews: known.reviews,
    demand: demandIn(manifest, facts),
  };
}

const order = ['execution_bearing', 'secret_looking', 'dependency', 'configuration', 'binary', 'generated'];

function riskOf({ categories, flags }: ManifestChange): number {
  const worst = Math.min(
    order.length,
    ...categories.map((category) => order.indexOf(category)).filter((at) => at >= 0),
  );
  return worst * 2 - (flags.length > 0 ? 1 : 0);
}

function filesOf({ changes }: Manifest, { diff }: Facts): ReviewView['files'] {
  const counts = new Map(diff.changes.map(({ path, added, removed }) => [path, { added, removed }]));
  return changes
    .filter(({ before, after }) => (after ?? before)?.kind !== 'directory')
    .toSorted((a, b) => riskOf(a) - riskOf(b))
    .map(({ path, status, categories, flags }) => {
      const { added, removed } = counts.get(path) ?? { added: null, removed: null };
      return { path, status, categories, flags, added, removed };
    });
}

function leftOf({ diff }: Facts): ReviewView['left'] {
  return [
    ...diff.findings
      .filter(({ effect }) => effect !== 'noted')
      .map(({ path, kind, effect }) => ({ path, effect, kind })),
    ...diff.violations.map(({ path, kind }) => ({ path, effect: 'out_of_scope', kind })),
    ...diff.held.map(({ path, why }) => ({ path, effect: 'held_back', kind: why })),
  ];
}

const namesMax = 16;

function workIn({ story }: Facts): ReviewView['work'] {
  const { parts, attached } = story.work;
  const namesOf = (key: 'model' | 'lane'): readonly string[] =>
    [...new Set(parts.flatMap(({ worker }) => worker[key] ?? []))].slice(0, namesMax);
  const handOvers = parts.filter(({ from }) => from !== undefined).length;
  return { models: namesOf('model'), lanes: namesOf('lane'), handOvers, snapshots: attached.length };
}

/** What the rules make of it. */
function demandIn(manifest: Manifest, facts: Facts): ReviewView['demand'] {
  const { risk, verification, replay, changes } = manifest;
  const { policy } = facts.policy;
  const asked = demandOf(policy, {
    risk,
    verdict: verification?.verdict,
    replay: replay?.verdict,
    changes,
    lines: linesOf(facts),
  });
  const { demanded } = demandedBy(facts);
  const demand = demanded === undefined ? asked : strictest([asked, demanded]);
  const reviewers = reviewersOf(policy);
  return { ...demand, reviewers, text: demandText(demand, reviewers) };
}

/** Printable, as all in a record of this machine is; of another one nobody knows. */
function divergenceText({ divergence }: NonNullable<Facts['replay']>): string | null {
  if (divergence === undefined) return null;
  const { callId, aspect, expected, found } = divergence;
  return `${callId === undefined ? 'at the end' : `call ${callId}`}: ${aspect.replaceAll('_', ' ')}: ${expected}; found ${found}`;
}
