import pc from 'picocolors';
import { printable } from '../../journal/printable.ts';
import type { Numbers, Stats } from '../../stats/stats.ts';
import {
  approvalsText,
  correctionText,
  countText,
  growthText,
  medianText,
  moneyText,
  mostText,
  none,
  p95Text,
  shareText,
  timeText,
} from '../../stats/texts.ts';
import { table } from '../terminal.ts';
import { plural } from '../../plural.ts';

const nameMax = 32;

/** For people: what came out, what it took, and what is to be looked at. */
export function statsLines(stats: Stats): readonly string[] {
  const { by, groups, all, from, to } = stats;
  if (all.runs === 0) return [...emptyLines(stats), ...leftOutLines(stats)];
  const rows = [...groups, ...(groups.length > 1 ? [{ name: 'all', numbers: all }] : [])];
  const named = rows.map(({ name, numbers }) => [printable(name).slice(0, nameMax), numbers] as const);
  const title = by.toUpperCase();
  return [
    `${pc.bold(plural(all.runs, 'run'))}, by ${by}, ${dayOf(from)} to ${dayOf(to)}`,
    '',
    table([[title, ...cameOutTitles], ...named.map(([name, numbers]) => [name, ...cameOut(numbers)])]),
    '',
    table([[title, ...itTookTitles], ...named.map(([name, numbers]) => [name, ...itTook(numbers)])]),
    '',
    ...growthLines(stats),
    pc.dim('? = too few to say much (5 for a median, 20 for p95, 10 for a share); docs/stats.md defines every number'),
    ...leftOutLines(stats),
  ];
}

const cameOutTitles = ['RUNS', 'FINISHED', 'MEDIAN', 'P95', 'ACCEPTED', 'AT FIRST REVIEW', 'ROLLED BACK', 'CORRECTION'];

function cameOut(numbers: Numbers): readonly string[] {
  const { runs, outcomes, completionMs, accepted, firstReview, rolledBack, correction } = numbers;
  return [
    countText(runs),
    countText(outcomes.finished),
    medianText(completionMs),
    p95Text(completionMs),
    countText(accepted),
    shareText(firstReview),
    shareText(rolledBack),
    correctionText(correction),
  ];
}

const itTookTitles = [
  'FAILURES',
  'MOST OFTEN',
  'FLAKY',
  'APPROVALS',
  'DRIFT',
  'CPU/CHANGE',
  'TOKENS/CHANGE',
  'COST/CHANGE',
];

function itTook({ failures, flaky, approvals, drift, cost }: Numbers): readonly string[] {
  const { cpuMsPerAccepted: cpuMs, tokens, money } = cost;
  return [
    countText(failures.total),
    mostText(failures.byClass),
    shareText(flaky),
    approvalsText(approvals),
    drift.total === 0 ? none : `${countText(drift.total)}: ${mostText(drift.byKind)}`,
    cpuMs === null ? none : timeText(cpuMs),
    tokens.perAccepted === null ? none : countText(tokens.perAccepted),
    moneyText(money),
  ];
}

function growthLines({ all, groups, by }: Stats): readonly string[] {
  const found = groups.filter(({ numbers }) => numbers.growth.verdict === 'grows_faster');
  const lines = found.map(({ name, numbers }) => pc.yellow(`${by} ${printable(name)}: ${growthText(numbers.growth)}`));
  const whole = `all: ${growthText(all.growth)}`;
  return [...lines, all.growth.verdict === 'grows_faster' ? pc.yellow(whole) : whole];
}

function emptyLines({ from, to }: Stats): readonly string[] {
  const when = from === null ? '' : ` from ${dayOf(from)} to ${dayOf(to)}`;
  return [`no run was closed${when} in what was looked at; --since all looks at every run, glovebox runs lists them`];
}

function leftOutLines({ seen: { open, made, unreadable, unread } }: Stats): readonly string[] {
  const left = [
    [open, 'still open'],
    [made, 'made to verify or replay others'],
    [unreadable, 'not what was written (glovebox check says more)'],
    [unread, 'not read yet: ask again'],
  ] as const;
  const told = left.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`);
  return told.length === 0 ? [] : [pc.dim(`left out: ${told.join(', ')}`)];
}

function dayOf(at: string | null): string {
  return at?.slice(0, 10) ?? none;
}
