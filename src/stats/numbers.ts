/** With fewer a share says little. */
const shareOfMin = 10;
/** With fewer a median is one of a handful. */
const medianOfMin = 5;
/** With fewer the 95th percentile is the greatest one. */
const p95OfMin = 20;

/** How many of how many. Where there are none, nothing is a share: null, never a division by zero. */
export interface Share {
  readonly count: number;
  readonly of: number;
  readonly share: number | null;
  /** Wilson's interval: where the share lies that these came from, 95 times in 100. */
  readonly low: number | null;
  readonly high: number | null;
  /** Too few to say much. */
  readonly few: boolean;
}

export interface Spread {
  readonly n: number;
  readonly median: number | null;
  /** null: fewer than 20. */
  readonly p95: number | null;
  readonly few: boolean;
}

export function shareOf(count: number, of: number): Share {
  if (of === 0) return { count, of, share: null, low: null, high: null, few: true };
  const share = count / of;
  const middle = share + z2 / (2 * of);
  const reach = z * Math.sqrt((share * (1 - share)) / of + z2 / (4 * of * of));
  const whole = 1 + z2 / of;
  const low = rounded(Math.max(0, (middle - reach) / whole));
  const high = rounded(Math.min(1, (middle + reach) / whole));
  return { count, of, share: rounded(share), low, high, few: of < shareOfMin };
}

/** Of numbers in any order, which stay as they are. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = Float64Array.from(values).sort();
  const n = sorted.length;
  const at = (rank: number): number => sorted[Math.min(n - 1, Math.max(0, rank))] ?? 0;
  const median = n === 0 ? null : Math.round((at(Math.floor((n - 1) / 2)) + at(Math.floor(n / 2))) / 2);
  // The nearest rank: a value that was there, at most one in twenty above it.
  const p95 = n < p95OfMin ? null : Math.round(at(Math.ceil(n * 0.95) - 1));
  return { n, median, p95, few: n < medianOfMin };
}

/** What one costs; null where there is none. */
export function per(total: number, of: number): number | null {
  return of === 0 ? null : Math.round((total / of) * 100) / 100;
}

const z = 1.96;
const z2 = z * z;

function rounded(share: number): number {
  return Math.round(share * 10_000) / 10_000;
}

/** Of counts that others say: what is beyond all counting stays the largest count there is, and no count is none. */
export function plus(count: number, more: number): number {
  return Math.min(Number.MAX_SAFE_INTEGER, count + more);
}
