/** Stretches of time of the same length that cover a window; pure. */
export interface Buckets {
  readonly ms: number;
  readonly startsMs: readonly number[];
}

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const widths = [hourMs, 6 * hourMs, dayMs, 7 * dayMs, 28 * dayMs, 364 * dayMs];
/** 1970-01-05 was a Monday: where weeks begin, and with them all that is longer. */
const mondayMs = 4 * dayMs;

export const bucketsMax = 60;

/** As short as they can be with 60 at most; they begin at full hours, days and Mondays of UTC. None where the window is none. */
export function bucketsOf(window: { readonly fromMs: number; readonly toMs: number } | undefined): Buckets {
  if (window === undefined) return { ms: hourMs, startsMs: [] };
  const { fromMs, toMs } = window;
  const span = Math.max(0, toMs - fromMs);
  const least = widths.find((width) => span / width + 1 < bucketsMax);
  const ms = least ?? Math.ceil(span / (bucketsMax - 2) / dayMs) * dayMs;
  const anchor = ms > dayMs ? mondayMs : 0;
  const first = Math.floor((fromMs - anchor) / ms) * ms + anchor;
  const startsMs: number[] = [];
  for (let at = first; at <= Math.max(fromMs, toMs) && startsMs.length < bucketsMax; at += ms) startsMs.push(at);
  return { ms, startsMs };
}

/** Which one; what lies before the first or after the last goes there. */
export function bucketAt({ ms, startsMs }: Buckets, atMs: number): number {
  const place = Math.floor((atMs - (startsMs[0] ?? 0)) / ms);
  return Math.min(Math.max(0, place), Math.max(0, startsMs.length - 1));
}
