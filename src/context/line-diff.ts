/**
 * For each line of `now` the line of `before` that it is, or -1 where it is new. What is given is in order on both sides: no two
 * lines have one origin, and none cross. Lines that stand once on either side anchor the rest (patience), between them the
 * shortest way is taken (Myers). Time and memory are bounded: of a part with more than `editsMax` edits nothing is told apart, nor of
 * one that is looked at when `work` is done.
 */
export function keptLines(before: readonly string[], now: readonly string[], work = new DiffWork()): Int32Array {
  const kept = new Int32Array(now.length).fill(-1);
  const ids = new Map<string, number>();
  const idOf = (line: string): number => {
    const known = ids.get(line);
    if (known !== undefined) return known;
    ids.set(line, ids.size);
    return ids.size - 1;
  };
  const sides = { before: Int32Array.from(before, idOf), now: Int32Array.from(now, idOf) };
  const parts: Part[] = [{ a: 0, aEnd: before.length, b: 0, bEnd: now.length }];
  for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
    const middle = trimmed(sides, part, kept);
    if (middle.a === middle.aEnd || middle.b === middle.bEnd) continue;
    const anchors = anchorsIn(sides, middle);
    if (anchors.length === 0) shortestWay(sides, middle, kept, work);
    else parts.push(...between(middle, anchors));
  }
  return kept;
}

const editsMax = 1_000;

/** Of one comparison: four parts of which nothing can be told apart, or thousands of hunks. */
const stepsMax = 2_000_000;

/** Steps of shortest ways that may be taken yet: many parts, each within its own bound, would take half a minute. */
export class DiffWork {
  readonly #most: number;
  stepsTaken = 0;

  /** `within`: what comparisons before this one have left of a bound on all of them. */
  constructor(within = stepsMax) {
    this.#most = Math.min(within, stepsMax);
  }

  /** False: they are more than there are left. */
  take(steps: number): boolean {
    if (this.stepsTaken + steps > this.#most) return false;
    this.stepsTaken += steps;
    return true;
  }
}

interface Sides {
  readonly before: Int32Array;
  readonly now: Int32Array;
}

/** Lines `a` to before `aEnd` on one side, `b` to before `bEnd` on the other. */
interface Part {
  readonly a: number;
  readonly aEnd: number;
  readonly b: number;
  readonly bEnd: number;
}

function trimmed({ before, now }: Sides, part: Part, kept: Int32Array): Part {
  let { a, aEnd, b, bEnd } = part;
  while (a < aEnd && b < bEnd && before[a] === now[b]) kept[b++] = a++;
  while (a < aEnd && b < bEnd && before[aEnd - 1] === now[bEnd - 1]) kept[--bEnd] = --aEnd;
  return { a, aEnd, b, bEnd };
}

/** Pairs of lines that stand once on each side, as many as keep their order. */
function anchorsIn({ before, now }: Sides, { a, aEnd, b, bEnd }: Part): readonly (readonly [number, number])[] {
  const [placeOf, twice] = [new Map<number, number>(), new Set<number>()];
  for (let at = a; at < aEnd; at++) countOnce(before[at] ?? -1, at, placeOf, twice);
  const [otherOf, otherTwice] = [new Map<number, number>(), new Set<number>()];
  for (let at = b; at < bEnd; at++) countOnce(now[at] ?? -1, at, otherOf, otherTwice);
  const pairs: [number, number][] = [];
  for (const [line, other] of otherOf) {
    const place = placeOf.get(line);
    if (place !== undefined && !twice.has(line) && !otherTwice.has(line)) pairs.push([place, other]);
  }
  return longestRising(pairs);
}

function countOnce(line: number, at: number, placeOf: Map<number, number>, twice: Set<number>): void {
  if (placeOf.has(line)) twice.add(line);
  else placeOf.set(line, at);
}

/** Of pairs in the order of their second, the most that rise in their first too. */
function longestRising(pairs: readonly [number, number][]): readonly (readonly [number, number])[] {
  const tails: number[] = [];
  const previous = new Int32Array(pairs.length).fill(-1);
  for (const [at, [place]] of pairs.entries()) {
    let [low, high] = [0, tails.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((pairs[tails[middle] ?? 0]?.[0] ?? 0) < place) low = middle + 1;
      else high = middle;
    }
    if (low > 0) previous[at] = tails[low - 1] ?? -1;
    tails[low] = at;
  }
  const chosen: (readonly [number, number])[] = [];
  for (let at = tails.at(-1) ?? -1; at >= 0; at = previous[at] ?? -1) {
    const pair = pairs[at];
    if (pair !== undefined) chosen.push(pair);
  }
  return chosen.reverse();
}

/** Each part begins with its anchor, which `trimmed` then takes. */
function* between(part: Part, anchors: readonly (readonly [number, number])[]): Generator<Part> {
  let { a, b } = part;
  for (const [place, other] of anchors) {
    yield { a, aEnd: place, b, bEnd: other };
    [a, b] = [place, other];
  }
  yield { a, aEnd: part.aEnd, b, bEnd: part.bEnd };
}

/** An O(ND) Difference Algorithm and Its Variations, Myers 1986: the greedy one, with a trace to go back by. */
function shortestWay({ before, now }: Sides, { a, aEnd, b, bEnd }: Part, kept: Int32Array, work: DiffWork): void {
  const [n, m] = [aEnd - a, bEnd - b];
  const max = Math.min(n + m, editsMax);
  const furthest = new Int32Array(2 * max + 3);
  const trace: Int32Array[] = [];
  for (let edits = 0; edits <= max; edits++) {
    if (!work.take(edits + 1)) return;
    for (let k = -edits; k <= edits; k += 2) {
      const down = k === -edits || (k !== edits && reach(furthest, max, k - 1) < reach(furthest, max, k + 1));
      let x = down ? reach(furthest, max, k + 1) : reach(furthest, max, k - 1) + 1;
      while (x < n && x - k < m && before[a + x] === now[b + x - k]) x++;
      furthest[k + max + 1] = x;
      if (x >= n && x - k >= m) return goBack(trace, edits, k, x, { a, b }, kept);
    }
    trace.push(furthest.slice(max + 1 - edits, max + 2 + edits));
  }
}

function reach(furthest: Int32Array, max: number, k: number): number {
  return furthest[k + max + 1] ?? 0;
}

function goBack(
  trace: readonly Int32Array[],
  edits: number,
  lastK: number,
  lastX: number,
  { a, b }: Pick<Part, 'a' | 'b'>,
  kept: Int32Array,
): void {
  let [x, k] = [lastX, lastK];
  for (let left = edits; left >= 0; left--) {
    const row = trace[left - 1];
    const at = (other: number): number => row?.[other + left - 1] ?? -1;
    const down = k === -left || (k !== left && at(k - 1) < at(k + 1));
    const fromK = down ? k + 1 : k - 1;
    const startX = left === 0 ? 0 : down ? at(fromK) : at(fromK) + 1;
    for (; x > startX; x--) kept[b + x - 1 - k] = a + x - 1;
    if (left === 0) return;
    [x, k] = [at(fromK), fromK];
  }
}
