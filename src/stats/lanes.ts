import { bucketsOf } from './buckets.ts';
import { unjudged, type Judgement } from './judgement.ts';
import { Lineage, type ReviewedChange } from './lineage.ts';
import type { RunFacts } from './run-facts.ts';
import { groupings, type Grouping, type Stats } from './stats.ts';
import { countedOf, Tally, type Counted, type Window } from './tally.ts';

/** Names in parentheses are ours. */
const noName = '(none)';
const severalNames = '(several)';
const otherNames = '(others)';

/** Of one grouping: names come from outside, and there may be any number of them. */
export const groupsMax = 200;

export interface LanesOptions {
  /** Only these; default all. */
  readonly by?: readonly Grouping[];
  /** End of the window, which begins when the first run was opened. */
  readonly nowMs: number;
}

/**
 * The facts of many runs, put together by lane, class, model and policy. Promises:
 *  - every number is finite, or null where there is nothing to count;
 *  - in memory there are a few numbers a run, never its facts;
 *  - whoever adds the same runs, in whatever order, gets the same numbers, as long as there are no more than 200 groups.
 */
export class Lanes {
  readonly #options: LanesOptions;
  readonly #all = new Tally();
  readonly #groups: ReadonlyMap<Grouping, Map<string, Tally>>;
  readonly #lineage = new Lineage();
  readonly #seen = { open: 0, made: 0, unreadable: 0, unread: 0 };
  #firstMs = Number.POSITIVE_INFINITY;

  constructor(options: LanesOptions) {
    this.#options = options;
    this.#groups = new Map((options.by ?? groupings).map((by) => [by, new Map<string, Tally>()]));
  }

  add(facts: RunFacts, judgement: Judgement = unjudged): void {
    if (facts.outcome === null) this.#seen.open += 1;
    else if (facts.purpose !== 'task') this.#seen.made += 1;
    else this.#count(countedOf(facts, facts.outcome, judgement));
  }

  /** Runs of which there are no facts. */
  missed(kind: 'unreadable' | 'unread' | 'open', runs = 1): void {
    this.#seen[kind] += runs;
  }

  /** What has come together so far; adding may go on afterwards. */
  stats(by: Grouping): Stats {
    const window = this.#window();
    const buckets = bucketsOf(window);
    const changes = this.#lineage.reviewed();
    const groups = this.#groups.get(by) ?? new Map<string, Tally>();
    const changesOf = (group: string): readonly ReviewedChange[] =>
      changes.filter(({ facts }) => nameIn(groups, groupOf(facts, by)) === group);
    const named = [...groups].map(([name, tally]) => ({
      name,
      numbers: tally.numbers(window, buckets, changesOf(name)),
    }));
    return {
      v: 1,
      from: window === undefined ? null : new Date(window.fromMs).toISOString(),
      to: new Date(this.#options.nowMs).toISOString(),
      by,
      seen: { ...this.#seen },
      buckets: { ms: buckets.ms, starts: buckets.startsMs.map((at) => new Date(at).toISOString()) },
      all: this.#all.numbers(window, buckets, changes),
      groups: named.sort((a, b) => b.numbers.runs - a.numbers.runs || (a.name < b.name ? -1 : 1)),
    };
  }

  #count(counted: Counted): void {
    const { facts, judgement, openedMs } = counted;
    this.#firstMs = Math.min(this.#firstMs, openedMs);
    this.#lineage.add(facts, judgement);
    this.#all.add(counted);
    for (const [by, groups] of this.#groups) tallyOf(groups, groupOf(facts, by)).add(counted);
  }

  #window(): Window | undefined {
    const fromMs = this.#firstMs;
    return fromMs === Number.POSITIVE_INFINITY ? undefined : { fromMs, toMs: this.#options.nowMs };
  }
}

function groupOf({ lane, class: taskClass, models, policy }: Grouped, by: Grouping): string {
  switch (by) {
    case 'lane':
      return lane ?? noName;
    case 'class':
      return taskClass ?? noName;
    case 'policy':
      return policy;
    case 'model':
      return models.length > 1 ? severalNames : (models[0] ?? noName);
  }
}

type Grouped = Pick<RunFacts, 'lane' | 'class' | 'models' | 'policy'>;

/** Where a group is counted. */
function nameIn(groups: ReadonlyMap<string, Tally>, wanted: string): string {
  return groups.has(wanted) || groups.size < groupsMax ? wanted : otherNames;
}

function tallyOf(groups: Map<string, Tally>, wanted: string): Tally {
  const name = nameIn(groups, wanted);
  const found = groups.get(name);
  if (found !== undefined) return found;
  const made = new Tally();
  groups.set(name, made);
  return made;
}
