import type { Share, Spread } from './numbers.ts';
import type { Numbers } from './stats.ts';

/** Numbers as people read them: on a terminal and on the page. What there is too little of carries a question mark. */
const fewSign = '?';
export const none = '-';

export function shareText({ count, of, share, few }: Share): string {
  return share === null ? none : `${count}/${of} ${percentText(share)}${few ? fewSign : ''}`;
}

export function medianText({ median, few }: Spread): string {
  return median === null ? none : `${timeText(median)}${few ? fewSign : ''}`;
}

/** Of fewer than 20 there is none. */
export function p95Text({ n, p95 }: Spread): string {
  if (p95 !== null) return timeText(p95);
  return n === 0 ? none : `n<20`;
}

function percentText(share: number): string {
  return `${Math.round(share * 100)} %`;
}

export function timeText(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 3_600_000) return `${(ms / 60_000).toFixed(ms < 600_000 ? 1 : 0)} min`;
  return ms < 172_800_000 ? `${(ms / 3_600_000).toFixed(1)} h` : `${(ms / 86_400_000).toFixed(1)} d`;
}

export function countText(count: number): string {
  if (count < 10_000) return String(Math.round(count));
  if (count < 1_000_000) return `${(count / 1000).toFixed(count < 100_000 ? 1 : 0)}k`;
  return `${(count / 1_000_000).toFixed(1)}M`;
}

/** How many changes were worked on again, and what that took, on average. */
export function correctionText({ changes, corrected, calls, lines, linesUnknown }: Numbers['correction']): string {
  if (changes === 0) return none;
  const known = corrected - linesUnknown;
  const each = known <= 0 ? '' : `, ${countText(lines / known)} lines`;
  return corrected === 0
    ? `0/${changes}`
    : `${corrected}/${changes}: ${countText(calls / corrected)} calls${each} each`;
}

export function approvalsText({ asked, denied, unanswered, waitMs }: Numbers['approvals']): string {
  if (asked === 0) return none;
  const refused = denied + unanswered;
  return `${asked}, ${refused} refused, ${medianText(waitMs)}`;
}

/** The two most frequent. */
export function mostText(byName: Readonly<Record<string, number>>): string {
  const shown = Object.entries(byName).slice(0, 2);
  return shown.length === 0 ? none : shown.map(([name, count]) => `${name.replaceAll('_', ' ')} ${count}`).join(', ');
}

/** What one accepted change costs, in each currency that somebody named. */
export function moneyText(money: Numbers['cost']['money']): string {
  const told = money.flatMap(({ currency, perAccepted }) =>
    perAccepted === null ? [] : [`${amountText(perAccepted)} ${currency}`],
  );
  return told.length === 0 ? none : told.join(', ');
}

export function growthText({ verdict, failures, accepted, runs }: Numbers['growth']): string {
  const halves = `failures ${failures.join(' then ')}, accepted changes ${accepted.join(' then ')}, runs ${runs.join(' then ')}`;
  switch (verdict) {
    case 'grows_faster':
      return `failures grow faster than accepted changes (${halves})`;
    case 'does_not':
      return `failures do not grow faster than accepted changes (${halves})`;
    case 'too_few':
      return `too few to say whether failures grow faster than accepted changes (${halves})`;
  }
}

function amountText(amount: number): string {
  return amount >= 1 ? amount.toFixed(2) : amount.toPrecision(2);
}
