import type { Share } from '../numbers.ts';
import type { Numbers, Stats } from '../stats.ts';
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
} from '../texts.ts';
import { escapeHtml } from './escape.ts';

/** Of the table of failures: more columns nobody reads. */
const columnsMax = 8;

/** The tables of one grouping; what stands in them is escaped here. */
export function tablesOf(stats: Stats): string {
  const { groups, all } = stats;
  const rows = groups.length > 1 ? [...groups, { name: 'all', numbers: all }] : groups;
  return [
    panel('What came out', tableOf(stats.by, cameOut, rows)),
    panel('What it took', tableOf(stats.by, itTook, rows)),
    panel('Failures by class', failuresTable(rows)),
    panel('Do failures grow faster than accepted changes?', growthList(rows)),
  ].join('\n');
}

interface Row {
  readonly name: string;
  readonly numbers: Numbers;
}

interface Column {
  readonly title: string;
  readonly about: string;
  /** Escaped. */
  readonly cell: (numbers: Numbers) => string;
}

const cameOut: readonly Column[] = [
  { title: 'Runs', about: 'closed runs', cell: ({ runs }) => countText(runs) },
  { title: 'Finished', about: 'of these, closed as finished', cell: ({ outcomes }) => countText(outcomes.finished) },
  {
    title: 'Median',
    about: 'time to completion of finished runs',
    cell: (of) => escapeHtml(medianText(of.completionMs)),
  },
  { title: 'P95', about: '95 of 100 took no longer', cell: ({ completionMs }) => escapeHtml(p95Text(completionMs)) },
  { title: 'Accepted', about: 'changes that are accepted', cell: ({ accepted }) => countText(accepted) },
  {
    title: 'At first review',
    about: 'accepted by their first review',
    cell: ({ firstReview }) => shareCell(firstReview),
  },
  { title: 'Rolled back', about: 'promotions that were taken back', cell: ({ rolledBack }) => shareCell(rolledBack) },
  { title: 'Verification failed', about: 'failed or broken', cell: (of) => shareCell(of.failedVerification) },
  {
    title: 'Correction',
    about: 'work after the first review',
    cell: (of) => escapeHtml(correctionText(of.correction)),
  },
];

const itTook: readonly Column[] = [
  { title: 'Failures', about: 'of all classes', cell: ({ failures }) => countText(failures.total) },
  {
    title: 'Denied',
    about: 'calls that were not let in',
    cell: ({ denied, calls }) => `${countText(denied)} of ${countText(denied + calls)}`,
  },
  { title: 'Flaky', about: 'repeated gates that did not agree', cell: ({ flaky }) => shareCell(flaky) },
  { title: 'Approvals', about: 'asked, refused, median wait', cell: (of) => escapeHtml(approvalsText(of.approvals)) },
  {
    title: 'Drift',
    about: 'findings',
    cell: ({ drift }) => (drift.total === 0 ? none : escapeHtml(mostText(drift.byKind))),
  },
  { title: 'CPU per change', about: 'accepted change', cell: ({ cost }) => maybe(cost.cpuMsPerAccepted, timeText) },
  {
    title: 'Tokens per change',
    about: 'as harnesses say',
    cell: ({ cost }) => maybe(cost.tokens.perAccepted, countText),
  },
  { title: 'Cost per change', about: 'as harnesses say', cell: ({ cost }) => escapeHtml(moneyText(cost.money)) },
];

function tableOf(by: string, columns: readonly Column[], rows: readonly Row[]): string {
  const head = columns.map(
    ({ title, about }) => `<th scope="col" title="${escapeHtml(about)}">${escapeHtml(title)}</th>`,
  );
  const body = rows.map(({ name, numbers }, at) => {
    const shown = escapeHtml(name);
    const cells = columns.map(({ cell }) => `<td>${cell(numbers)}</td>`).join('');
    const isAll = at === rows.length - 1 && rows.length > 1;
    return `<tr${isAll ? ' class="all"' : ''}><th scope="row">${shown}</th>${cells}</tr>`;
  });
  return `<table><thead><tr><th scope="col">${escapeHtml(by)}</th>${head.join('')}</tr></thead><tbody>${body.join('\n')}</tbody></table>`;
}

/** A row for each class, the most frequent first, with a bar of its part of the column. */
function failuresTable(rows: readonly Row[]): string {
  const all = rows.at(-1)?.numbers.failures;
  if (all === undefined || all.total === 0) return '<p>None.</p>';
  const shown = rows.length > columnsMax ? [...rows.slice(0, columnsMax - 1), ...rows.slice(-1)] : rows;
  const head = shown.map(({ name }) => `<th scope="col">${escapeHtml(name)}</th>`).join('');
  const body = Object.keys(all.byClass).map((kind) => {
    const cells = shown.map(({ numbers: { failures } }) => {
      const count = failures.byClass[kind] ?? 0;
      const part = failures.total === 0 ? 0 : count / failures.total;
      return `<td>${barOf(part)} ${countText(count)}</td>`;
    });
    return `<tr><th scope="row">${escapeHtml(kind.replaceAll('_', ' '))}</th>${cells.join('')}</tr>`;
  });
  const more =
    rows.length > shown.length ? `<p class="quiet">${rows.length - shown.length} more groups are not shown.</p>` : '';
  return `<table><thead><tr><th scope="col">class</th>${head}</tr></thead><tbody>${body.join('\n')}</tbody></table>${more}`;
}

function growthList(rows: readonly Row[]): string {
  const items = rows.map(({ name, numbers: { growth } }) => {
    const sign = { grows_faster: '▲', does_not: '–', too_few: '?' }[growth.verdict];
    return `<li class="${growth.verdict}"><b>${sign} ${escapeHtml(name)}</b> ${escapeHtml(growthText(growth))}</li>`;
  });
  return `<ul class="growth">${items.join('\n')}</ul>`;
}

/** The share as a bar, with a line from end to end of its interval. */
function shareCell(of: Share): string {
  const { share, low, high } = of;
  const text = escapeHtml(shareText(of));
  if (share === null || low === null || high === null) return text;
  const [from, to] = [(low * width).toFixed(1), (high * width).toFixed(1)];
  const line = `<path class="interval" d="M${from} 5H${to}M${from} 2v6M${to} 2v6"/>`;
  return `${barOf(share, line)} <span title="between ${Math.round(low * 100)} % and ${Math.round(high * 100)} %">${text}</span>`;
}

function barOf(part: number, more = ''): string {
  const filled = (Math.min(1, Math.max(0, part)) * width).toFixed(1);
  const bar = `<rect class="track" width="${width}" height="10" rx="2"/><rect class="part" width="${filled}" height="10" rx="2"/>`;
  return `<svg class="bar" viewBox="0 0 ${width} 10" width="${width}" height="10" aria-hidden="true">${bar}${more}</svg>`;
}

const width = 60;

function maybe(value: number | null, text: (value: number) => string): string {
  return value === null ? none : escapeHtml(text(value));
}

function panel(title: string, content: string): string {
  return `<section class="panel"><h2>${title}</h2><div class="scroll">${content}</div></section>`;
}
