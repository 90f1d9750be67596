import { Gauge, type Registry } from 'prom-client';
import type { Numbers, Stats } from '../stats/stats.ts';

/** Of each grouping, those with most runs: so many names there are at most, whatever harnesses call their models. */
const groupsMax = 10;

type Labels = 'by' | 'name';

interface Told {
  readonly metric: string;
  readonly help: string;
  readonly value: (numbers: Numbers) => number | null;
}

const told: readonly Told[] = [
  { metric: 'runs', help: 'Closed runs.', value: ({ runs }) => runs },
  { metric: 'completion_seconds_median', help: 'Of finished runs.', value: (of) => seconds(of.completionMs.median) },
  {
    metric: 'completion_seconds_p95',
    help: 'Of finished runs; from 20 on.',
    value: (of) => seconds(of.completionMs.p95),
  },
  { metric: 'accepted_changes', help: 'Changes that are accepted.', value: ({ accepted }) => accepted },
  {
    metric: 'reviewed_changes',
    help: 'Changes that somebody has reviewed.',
    value: ({ firstReview }) => firstReview.of,
  },
  {
    metric: 'accepted_at_first_review',
    help: 'Reviewed changes whose first review accepted.',
    value: ({ firstReview }) => firstReview.count,
  },
  { metric: 'promotions', help: 'That were done.', value: ({ rolledBack }) => rolledBack.of },
  { metric: 'rollbacks', help: 'Promotions that were taken back.', value: ({ rolledBack }) => rolledBack.count },
  { metric: 'correction_calls', help: 'Calls after the first review.', value: ({ correction }) => correction.calls },
  { metric: 'drift_findings', help: 'Findings of drift.', value: ({ drift }) => drift.total },
  { metric: 'cpu_seconds', help: 'Processor time of commands.', value: ({ cost }) => seconds(cost.cpuMs) },
  {
    metric: 'failures_grow_faster',
    help: '1: failures grow faster than accepted changes.',
    value: ({ growth }) => Number(growth.verdict === 'grows_faster'),
  },
];

/**
 * The statistics of the last 30 days for Prometheus, as they were a minute ago: gauges, since a window moves. Labels: what is grouped by,
 * and the ten largest groups of it; `by="all"` is all of them.
 */
export function registerStats(registry: Registry, seen: () => readonly Stats[] | undefined): void {
  for (const { metric, help, value } of told)
    gauge(registry, `glovebox_stats_${metric}`, help, ['by', 'name'], (set) => {
      for (const { labels, numbers } of labelled(seen())) {
        const found = value(numbers);
        if (found !== null) set(labels, found);
      }
    });
  gauge(registry, 'glovebox_stats_failures', 'Failures by class.', ['by', 'name', 'class'], (set) => {
    for (const { labels, numbers } of labelled(seen()))
      for (const [name, count] of Object.entries(numbers.failures.byClass)) set({ ...labels, class: name }, count);
  });
}

function gauge<L extends string>(
  registry: Registry,
  name: string,
  help: string,
  labelNames: readonly L[],
  fill: (set: (labels: Record<L, string>, value: number) => void) => void,
): void {
  const made: Gauge<L> = new Gauge<L>({
    name,
    help: `${help} Of the last 30 days.`,
    labelNames: [...labelNames],
    registers: [],
    collect() {
      made.reset();
      fill((labels, value) => made.set(labels as Partial<Record<L, string>>, value));
    },
  });
  registry.registerMetric(made);
}

function labelled(all: readonly Stats[] | undefined): readonly { labels: Record<Labels, string>; numbers: Numbers }[] {
  const [first] = all ?? [];
  if (first === undefined || all === undefined) return [];
  const groups = all.flatMap(({ by, groups: of }) =>
    of.slice(0, groupsMax).map(({ name, numbers }) => ({ labels: { by, name }, numbers })),
  );
  return [{ labels: { by: 'all', name: '' }, numbers: first.all }, ...groups];
}

function seconds(ms: number | null): number | null {
  return ms === null ? null : ms / 1000;
}
