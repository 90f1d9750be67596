/** One line of `bench/report.json`. `ratio`: how many times better than the peer; null without one. */
export interface Row {
  readonly name: string;
  readonly ours: number;
  readonly peer: number | null;
  readonly peerName: string | null;
  readonly unit: string;
  readonly ratio: number | null;
  readonly target: string;
  readonly met: boolean;
}

export interface Target {
  /** In the row's unit: at most (latency, bytes) or, for rates, at least. */
  readonly bound?: number;
  readonly ratio?: number;
}

/** Rounds of ours and of the peer's in turn, so that a machine that slows down slows both. Medians, in milliseconds. */
export async function inTurn(
  rounds: number,
  ours: () => Promise<unknown>,
  peer?: { rounds: number; work: () => Promise<unknown> },
): Promise<{ ours: number; peer: number | null }> {
  const times = { ours: [] as number[], peer: [] as number[] };
  for (let n = 0; n < 3; n++) await ours();
  await peer?.work();
  const every = peer === undefined ? 0 : Math.max(1, Math.floor(rounds / peer.rounds));
  for (let n = 0; n < rounds; n++) {
    times.ours.push(await timed(ours));
    if (peer !== undefined && n % every === 0) times.peer.push(await timed(peer.work));
  }
  return { ours: median(times.ours), peer: times.peer.length === 0 ? null : median(times.peer) };
}

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** For times and sizes: less is better. */
export function lessIsBetter(
  name: string,
  unit: string,
  measured: { ours: number; peer: number | null },
  peerName: string | null,
  target: Target,
): Row {
  const ratio = measured.peer === null ? null : measured.peer / measured.ours;
  const met =
    (target.bound === undefined || measured.ours <= target.bound) &&
    (target.ratio === undefined || (ratio ?? 0) >= target.ratio);
  return {
    name,
    ours: round(measured.ours),
    peer: measured.peer === null ? null : round(measured.peer),
    peerName,
    unit,
    ratio: ratio === null ? null : round(ratio),
    target: targetText(target, '<=', unit),
    met,
  };
}

/** For rates: more is better. */
export function moreIsBetter(
  name: string,
  unit: string,
  measured: { ours: number; peer: number | null },
  peerName: string | null,
  target: Target,
): Row {
  const ratio = measured.peer === null ? null : measured.ours / measured.peer;
  const met =
    (target.bound === undefined || measured.ours >= target.bound) &&
    (target.ratio === undefined || (ratio ?? 0) >= target.ratio);
  return {
    name,
    ours: round(measured.ours),
    peer: measured.peer === null ? null : round(measured.peer),
    peerName,
    unit,
    ratio: ratio === null ? null : round(ratio),
    target: targetText(target, '>=', unit),
    met,
  };
}

function targetText(target: Target, sign: string, unit: string): string {
  const parts = [
    target.bound === undefined ? '' : `${sign} ${target.bound} ${unit}`,
    target.ratio === undefined ? '' : `ratio >= ${target.ratio}`,
  ];
  return parts.filter((part) => part !== '').join(', ') || 'reported';
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}
