/** `mixed`: stdout and stderr alternated too often to be told apart any more; both views show these bytes. */
export type SegmentStream = 'stdout' | 'stderr' | 'mixed';

/** The merged view, and each stream alone. Every view has its own offsets. */
export type OutputView = 'merged' | 'stdout' | 'stderr';

export interface Segment {
  /** In the merged view. */
  readonly offset: number;
  readonly length: number;
  readonly stream: SegmentStream;
  /** Since the call was started; of the segment's first byte. */
  readonly tMs: number;
}

/** Where the bytes of a view lie in the merged view. */
export interface Slice {
  readonly offset: number;
  readonly length: number;
}

const segmentsMax = 65_536;
const mergeWithinMs = 1_000;

/** Which bytes of an output came from where. Bounded: past 65,536 segments, alternations become one `mixed` segment. */
export class Segments {
  readonly #streams: SegmentStream[] = [];
  readonly #times: number[] = [];
  /** Where each segment ends, in each view. */
  readonly #ends = { merged: [] as number[], stdout: [] as number[], stderr: [] as number[] };
  #coarse = false;

  get coarse(): boolean {
    return this.#coarse;
  }

  get full(): boolean {
    return this.#streams.length >= segmentsMax;
  }

  get count(): number {
    return this.#streams.length;
  }

  size(view: OutputView): number {
    return this.#ends[view].at(-1) ?? 0;
  }

  push(stream: SegmentStream, length: number, tMs: number): void {
    if (length === 0) return;
    const last = this.#streams.length - 1;
    const sameStream = this.#streams[last] === stream;
    if (last >= 0 && sameStream && (this.full || tMs - (this.#times[last] ?? 0) < mergeWithinMs)) {
      this.#extend(last, stream, length);
    } else if (this.full) {
      this.#blur(last);
      this.#extend(last, 'mixed', length);
    } else {
      const merged = this.size('merged');
      const stdout = this.size('stdout');
      const stderr = this.size('stderr');
      this.#coarse ||= stream === 'mixed';
      this.#streams.push(stream);
      this.#times.push(tMs);
      this.#ends.merged.push(merged + length);
      this.#ends.stdout.push(stream === 'stderr' ? stdout : stdout + length);
      this.#ends.stderr.push(stream === 'stdout' ? stderr : stderr + length);
    }
  }

  /** The segment at this merged offset and those after it. */
  list(offset: number, max: number): Segment[] {
    const found: Segment[] = [];
    for (let n = this.#find('merged', offset); n < this.#streams.length && found.length < max; n++) {
      const start = this.#start('merged', n);
      found.push({
        offset: start,
        length: (this.#ends.merged[n] ?? 0) - start,
        stream: this.#streams[n] ?? 'mixed',
        tMs: this.#times[n] ?? 0,
      });
    }
    return found;
  }

  /** Where up to `maxBytes` of a view from its `offset` lie, at most `slicesMax` pieces. */
  slices(view: OutputView, offset: number, maxBytes: number, slicesMax = 4096): Slice[] {
    const size = this.size(view);
    const end = Math.min(size, offset + maxBytes);
    if (view === 'merged') return end > offset ? [{ offset, length: end - offset }] : [];
    const slices: Slice[] = [];
    for (let n = this.#find(view, offset), at = offset; at < end && slices.length < slicesMax; n++) {
      const stop = Math.min(end, this.#ends[view][n] ?? end);
      if (stop <= at) continue;
      slices.push({ offset: this.#start('merged', n) + at - this.#start(view, n), length: stop - at });
      at = stop;
    }
    return slices;
  }

  #start(view: OutputView, n: number): number {
    return n === 0 ? 0 : (this.#ends[view][n - 1] ?? 0);
  }

  /** The first segment that ends after this offset of the view. */
  #find(view: OutputView, offset: number): number {
    const ends = this.#ends[view];
    let low = 0;
    for (let high = ends.length; low < high;) {
      const middle = (low + high) >> 1;
      if ((ends[middle] ?? 0) > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #extend(n: number, stream: SegmentStream, length: number): void {
    this.#ends.merged[n] = (this.#ends.merged[n] ?? 0) + length;
    if (stream !== 'stderr') this.#ends.stdout[n] = (this.#ends.stdout[n] ?? 0) + length;
    if (stream !== 'stdout') this.#ends.stderr[n] = (this.#ends.stderr[n] ?? 0) + length;
  }

  /** Makes the last segment belong to both streams. */
  #blur(n: number): void {
    const stream = this.#streams[n];
    const length = (this.#ends.merged[n] ?? 0) - this.#start('merged', n);
    if (stream === 'stdout') this.#ends.stderr[n] = (this.#ends.stderr[n] ?? 0) + length;
    if (stream === 'stderr') this.#ends.stdout[n] = (this.#ends.stdout[n] ?? 0) + length;
    this.#streams[n] = 'mixed';
    this.#coarse = true;
  }
}
