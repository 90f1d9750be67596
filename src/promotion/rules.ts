import type { PromotionRule } from '../policy/language/promotion.ts';
import type { RiskLevel } from '../policy/language/fields.ts';
import type { Policy } from '../policy/policy.ts';
import type { ReplayRecord } from '../replay/replay-record.ts';
import type { Verdict } from '../verify/verification.ts';
import { Scope } from '../workspace/scope/scope.ts';
import { isLess, type Known } from './review.ts';

/** What has to be so before a bundle goes on. */
export interface Demand {
  readonly action: 'auto' | 'review' | 'never';
  /** How many people have to accept; 0 unless `action` is `review`. */
  readonly reviews: number;
  /** Whether an owner of each changed file is to be among them. */
  readonly owners: boolean;
  /** What led to it, for people. */
  readonly because: readonly string[];
}

export type ReplayVerdict = ReplayRecord['verdict'];

/** What rules ask about. */
export interface Proposal {
  readonly risk: RiskLevel;
  /** Undefined: nobody has verified it. */
  readonly verdict: Verdict | undefined;
  /** What came of making its calls again. Undefined: nobody has. */
  readonly replay?: ReplayVerdict | undefined;
  /** From the top of what the policy is about; not of the repository, where that is larger. */
  readonly changes: readonly { readonly path: string; readonly categories: readonly string[] }[];
  /** Added and removed. */
  readonly lines: number;
}

/**
 * What a policy demands of a proposal; pure. Every layer that says something has to be content: the strictest counts. What no
 * rule fits is reviewed, and what was not verified goes nowhere.
 */
export function demandOf(policy: Pick<Policy, 'promotion' | 'taskClass' | 'lane'>, proposal: Proposal): Demand {
  const layers = policy.promotion ?? [];
  const said = layers.filter(({ rules }) => rules.length > 0);
  const demands = said.map(({ layer, rules }) => {
    const fitting = rules.filter((rule) => fits(rule, policy, proposal));
    return fitting.length === 0
      ? standard(proposal.risk)
      : strictest(fitting.map((rule) => demandBy(rule, `rule ${rule.id} of ${layer}`, proposal.replay)));
  });
  const asked = demands.length === 0 ? standard(proposal.risk) : strictest(demands);
  return strictest([judged(asked, proposal.verdict), asked]);
}

/** Whatever one of them asks. */
export function strictest(demands: readonly Demand[]): Demand {
  const action = demands.some((one) => one.action === 'never')
    ? 'never'
    : demands.some((one) => one.action === 'review')
      ? 'review'
      : 'auto';
  const heard = demands.filter((one) => one.action === action);
  return {
    action,
    reviews: action === 'review' ? Math.max(1, ...heard.map(({ reviews }) => reviews)) : 0,
    owners: action === 'review' && heard.some(({ owners }) => owners),
    because: [...new Set(heard.flatMap(({ because }) => because))],
  };
}

/** How surely a policy wants to know who accepts: as surely as the strictest of its layers. */
export function reviewersOf({ promotion = [] }: Pick<Policy, 'promotion'>): Known {
  return promotion.reduce<Known>(
    (least, { reviewers = 'named' }) => (isLess(least, reviewers) ? reviewers : least),
    'named',
  );
}

export function demandText({ action, reviews, owners }: Demand, reviewers: Known = 'named'): string {
  if (action === 'auto') return 'goes on by itself';
  if (action === 'never') return 'is never promoted';
  const people = reviews === 1 ? 'one review' : `${reviews} reviews`;
  return `needs ${people}${wayTexts[reviewers]}${owners ? ', with the owners of the changed files' : ''}`;
}

const wayTexts: Readonly<Record<Known, string>> = {
  named: '',
  authenticated: ' by people whom a service knows by their keys',
  signed: ' signed with keys of the reviewers',
};

function standard(risk: RiskLevel): Demand {
  const critical = risk === 'critical';
  return {
    action: 'review',
    reviews: critical ? 2 : 1,
    owners: critical,
    because: [`${risk} risk, and no rule of the policy says otherwise`],
  };
}

/** The verification counts whatever the rules say. */
function judged(asked: Demand, verdict: Verdict | undefined): Demand {
  if (verdict === 'passed') return asked;
  if (verdict === 'needs_review') {
    const reviews = asked.action === 'review' ? Math.min(asked.reviews + 1, peopleMax) : 1;
    const because = ['the verification says needs_review: one more person has to look'];
    return asked.action === 'never' ? asked : { action: 'review', reviews, owners: asked.owners, because };
  }
  const because = [verdict === undefined ? 'nobody has verified it' : `the verification says ${verdict}`];
  return { action: 'never', reviews: 0, owners: false, because };
}

const peopleMax = 10;

const replayed = { diverged: 'diverged', incomplete: 'could not make all of its calls again' } as const;

function demandBy(
  { action, reviews = 1, owners = false, repeatable }: PromotionRule,
  because: string,
  replay: ReplayVerdict | undefined,
): Demand {
  if (repeatable === true && replay !== 'clean') {
    const found =
      replay === undefined
        ? 'nobody has replayed it (glovebox replay RUN, then export it again)'
        : `its replay ${replayed[replay]}`;
    return {
      action: 'never',
      reviews: 0,
      owners: false,
      because: [`${because} asks for a run that is repeatable, and ${found}`],
    };
  }
  const people = action === 'review';
  return { action, reviews: people ? reviews : 0, owners: people && owners, because: [because] };
}

/** What lets through has to fit every change; what holds up, one. */
function fits(
  { when = {}, action }: PromotionRule,
  { taskClass, lane }: Pick<Policy, 'taskClass' | 'lane'>,
  { risk, changes, lines }: Proposal,
): boolean {
  const { categories, write_path: globs } = when;
  const some = <T>(list: readonly T[], test: (item: T) => boolean): boolean =>
    action === 'auto' ? list.every(test) : list.some(test);
  if (when.risk?.includes(risk) === false) return false;
  if (when.classes !== undefined && (taskClass === null || !when.classes.includes(taskClass))) return false;
  if (when.lanes !== undefined && (lane === null || !when.lanes.includes(lane))) return false;
  if (when.lines_above !== undefined && lines <= when.lines_above) return false;
  if (when.lines_below !== undefined && lines >= when.lines_below) return false;
  if (categories !== undefined) {
    const known: readonly string[] = categories;
    const covered = (one: Proposal['changes'][number]): boolean =>
      action === 'auto'
        ? one.categories.every((category) => known.includes(category))
        : one.categories.some((category) => known.includes(category));
    if (!some(changes, covered)) return false;
  }
  if (globs !== undefined) {
    const scope = Scope.compile({ read: globs, write: [], scratch: [], deny: [] });
    if (!some(changes, ({ path }) => scope.classOf(path) === 'read')) return false;
  }
  return true;
}
