import type { Judgement } from './judgement.ts';
import type { RunFacts } from './run-facts.ts';

interface Kin {
  readonly run: string;
  readonly parent: string | null;
  readonly openedAt: string;
  readonly firstReview: Judgement['firstReview'];
  readonly calls: number;
  readonly lines: number | null;
  readonly facts: Pick<RunFacts, 'lane' | 'class' | 'models' | 'policy'>;
}

/** What it took after the first review. */
interface Correction {
  readonly calls: number;
  /** null: not kept. */
  readonly lines: number | null;
}

/** A change that somebody has reviewed: a run, with all that were forked from it. */
export interface ReviewedChange {
  /** Of the run that was reviewed first. */
  readonly facts: Kin['facts'];
  readonly accepted: boolean;
  readonly correction: Correction;
}

/**
 * Which runs work on the same change: a run and its forks, and theirs. What was opened of them after the first review is
 * correction. Only runs that are forks or were reviewed are kept in mind.
 */
export class Lineage {
  readonly #kin = new Map<string, Kin>();

  add(facts: RunFacts, { firstReview }: Judgement): void {
    const { run, forkedFrom: parent, openedAt, calls, linesSinceFork: lines } = facts;
    if (parent === null && firstReview === null) return;
    const { lane, class: taskClass, models, policy } = facts;
    const kept = { lane, class: taskClass, models, policy };
    this.#kin.set(run, { run, parent, openedAt, firstReview, calls, lines, facts: kept });
  }

  /** In the order of the runs that were reviewed first. */
  reviewed(): readonly ReviewedChange[] {
    const families = new Map<string, Kin[]>();
    const roots = new Map<string, string>();
    for (const kin of this.#kin.values()) {
      const root = this.#rootOf(kin.run, roots);
      const family = families.get(root);
      if (family === undefined) families.set(root, [kin]);
      else family.push(kin);
    }
    return [...families.values()].flatMap(changeOf);
  }

  /** The oldest of its ancestors that is known by name. A chain that bites its own tail ends where it does. */
  #rootOf(run: string, roots: Map<string, string>): string {
    const path = new Set<string>();
    let root = run;
    for (;;) {
      const known = roots.get(root);
      if (known !== undefined) {
        root = known;
        break;
      }
      path.add(root);
      const parent = this.#kin.get(root)?.parent ?? null;
      if (parent === null || path.has(parent)) break;
      root = parent;
    }
    for (const one of path) roots.set(one, root);
    return root;
  }
}

function changeOf(family: readonly Kin[]): readonly ReviewedChange[] {
  let first: (Kin & { readonly firstReview: NonNullable<Kin['firstReview']> }) | undefined;
  for (const kin of family) {
    const { firstReview } = kin;
    if (firstReview === null) continue;
    const isEarlier = first === undefined || before(firstReview.at, kin.run, first.firstReview.at, first.run);
    if (isEarlier) first = { ...kin, firstReview };
  }
  if (first === undefined) return [];
  const { at, verdict } = first.firstReview;
  const later = family.filter(({ openedAt }) => openedAt > at);
  const lines = later.reduce<number | null>(
    (sum, one) => (sum === null || one.lines === null ? null : sum + one.lines),
    0,
  );
  const calls = later.reduce((sum, one) => sum + one.calls, 0);
  return [{ facts: first.facts, accepted: verdict === 'accepted', correction: { calls, lines } }];
}

function before(at: string, run: string, thanAt: string, thanRun: string): boolean {
  return at === thanAt ? run < thanRun : at < thanAt;
}
