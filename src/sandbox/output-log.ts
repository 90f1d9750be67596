import type { OutputTotals } from './spec.ts';
import {
  findHeld,
  OutputFile,
  readOutput,
  type EntryStream,
  type HeldOutput,
  type OutputEntry,
} from './output-file.ts';
import { Segments, type OutputView, type Segment } from './segments.ts';

export type { OutputView, Segment } from './segments.ts';

/** Whose output: the directory of the sandbox's ledger, the call's number on the wire. */
export interface OutputPlace {
  readonly directory: string;
  readonly number: number;
}

export interface OutputLogOptions extends OutputPlace {
  /** Bytes of the merged view that are kept; what comes after is dropped and `onLimit` is told once. */
  readonly limitBytes: number;
  /** What all calls of the sandbox together may still keep; counted down here. */
  readonly budget: { leftBytes: number };
  /** Up to here, on the wire, the supervisor may forget: it is on disk. */
  readonly onDurable: (wireBytes: number) => void;
  readonly onLimit: () => void;
  readonly nowMs: () => number;
}

/** A small output as the ledger holds it; larger ones have files of their own. */
export interface InlineOutput {
  readonly bytes: string;
  readonly aux: string;
  readonly entries: readonly (readonly [EntryStream, number, number])[];
}

const inlineMax = 8_192;
const inlineEntriesMax = 256;
const entriesMax = 4_096;
const auxMax = 1_048_576;
const stagingBytes = 16_384;
const copyBelow = 4_096;

/**
 * What one call wrote, on the host. Promises:
 *  - `onDurable` is only told of bytes that have been handed to the kernel, in file or ledger, so what the supervisor
 *    may forget survives the death of this process;
 *  - memory is bounded: at most what is not acknowledged (the supervisor's window), 1 MiB of aux, 65,536 segments;
 *  - the merged view is exact, whatever happens to the separate ones (`coarse`).
 *
 * Up to 8 KiB stay in memory and are not acknowledged until the call has ended (then the ledger takes them): an echo costs no file.
 */
export class OutputLog {
  readonly #place: OutputPlace;
  readonly #options: OutputLogOptions | undefined;
  readonly #segments: Segments;
  readonly #aux: Buffer[] = [];
  #auxBytes = 0;
  #stdoutBytes = 0;
  #stderrBytes = 0;
  #wireBytes = 0;
  #finished = false;
  #limited = false;
  /** What is not in a file: everything as long as there is none, else what waits to be written. */
  #pending: Buffer[] = [];
  #pendingEntries: OutputEntry[] = [];
  #pendingAux: Buffer[] = [];
  #staging: { readonly block: Buffer; used: number } | undefined;
  #file: OutputFile | undefined;
  #spilled = false;
  #fileBytes = 0;
  #broken = false;
  #writing: Promise<void> | undefined;
  #waiters: { readonly beyond: number; readonly wake: () => void }[] = [];

  private constructor(place: OutputPlace, options: OutputLogOptions | undefined, held: HeldOutput | undefined) {
    this.#place = place;
    this.#options = options;
    this.#segments = held?.segments ?? new Segments();
    if (held === undefined) return;
    this.#spilled = true;
    this.#fileBytes = held.outBytes;
    this.#wireBytes = held.wireBytes;
    this.#stdoutBytes = held.stdoutBytes;
    this.#stderrBytes = held.stderrBytes;
    this.#auxBytes = held.aux.length;
    this.#aux.push(held.aux);
  }

  static create(options: OutputLogOptions): OutputLog {
    return new OutputLog(options, options, undefined);
  }

  /** The log of a call that was running when its runner died: whatever had been acknowledged is in it. */
  static reopen(options: OutputLogOptions): OutputLog {
    const held = findHeld(options.directory, options.number);
    const log = new OutputLog(options, options, held);
    if (held === undefined) return log;
    log.#file = OutputFile.reopen(options.directory, options.number, held);
    options.budget.leftBytes -= held.outBytes;
    return log;
  }

  /** What the host has of a call's output, to read only. */
  static view(place: OutputPlace, inline: InlineOutput | undefined): OutputLog {
    const log = new OutputLog(
      place,
      undefined,
      inline === undefined ? findHeld(place.directory, place.number) : undefined,
    );
    log.#finished = true;
    if (inline === undefined) return log;
    for (const [stream, length, tMs] of inline.entries) log.#count(stream, length, tMs);
    log.#pending.push(Buffer.from(inline.bytes, 'base64'));
    log.#aux.push(Buffer.from(inline.aux, 'base64'));
    return log;
  }

  get totals(): OutputTotals {
    return { totalBytes: this.size(), stdoutBytes: this.#stdoutBytes, stderrBytes: this.#stderrBytes };
  }

  /** Nothing more will come. */
  get finished(): boolean {
    return this.#finished;
  }

  /** stdout and stderr alternated so often that they could not be kept apart everywhere. */
  get coarse(): boolean {
    return this.#segments.coarse;
  }

  /** Offset on the wire up to which bytes have arrived here. */
  get wireBytes(): number {
    return this.#wireBytes;
  }

  size(view: OutputView = 'merged'): number {
    return this.#segments.size(view);
  }

  segments(offset = 0, max = 4096): readonly Segment[] {
    return this.#segments.list(offset, max);
  }

  /** What was written to fd 3, at most its first 1 MiB. */
  aux(): Buffer {
    return Buffer.concat(this.#aux);
  }

  /** Up to `maxBytes` of a view. `done`: nothing comes after `nextOffset`, now or later. */
  async read(
    offset: number,
    maxBytes: number,
    view: OutputView = 'merged',
  ): Promise<{ bytes: Buffer; nextOffset: number; done: boolean }> {
    const slices = this.#segments.slices(view, offset, maxBytes);
    const parts: Buffer[] = [];
    const first = slices[0];
    const last = slices.at(-1);
    if (first !== undefined && last !== undefined) {
      const whole = await this.#bytesAt(first.offset, last.offset + last.length - first.offset);
      for (const slice of slices)
        parts.push(whole.subarray(slice.offset - first.offset, slice.offset - first.offset + slice.length));
    }
    const bytes = parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
    const nextOffset = offset + bytes.length;
    return { bytes, nextOffset, done: this.#finished && (nextOffset >= this.size(view) || bytes.length === 0) };
  }

  /** Resolves once the merged view is longer than `offset`, or finished, or `timeoutMs` have passed. */
  async waitBeyond(offset: number, timeoutMs: number): Promise<void> {
    if (this.#finished || this.size() > offset) return;
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#waiters = this.#waiters.filter((waiter) => waiter.wake !== wake);
        resolve();
      };
      const timer = setTimeout(wake, timeoutMs);
      this.#waiters.push({ beyond: offset, wake });
    });
  }

  /** Takes the next bytes off the wire. */
  append(stream: 'stdout' | 'stderr' | 'aux', bytes: Buffer): void {
    const options = this.#options;
    if (options === undefined || this.#finished) return;
    if (this.#broken) {
      this.#wireBytes += bytes.length;
      options.onDurable(this.#wireBytes);
      return;
    }
    const left = Math.min(options.limitBytes - this.size(), options.budget.leftBytes);
    const room = stream === 'aux' ? auxMax - this.#auxBytes : left;
    const kept = bytes.length <= room ? bytes : bytes.subarray(0, Math.max(0, room));
    const tMs = options.nowMs();
    if (kept.length > 0) {
      this.#count(stream, kept.length, tMs);
      this.#note(stream, kept.length, tMs);
      if (stream === 'aux') this.#keepAux(kept);
      else this.#keep(kept);
      if (stream !== 'aux') options.budget.leftBytes -= kept.length;
    }
    if (kept.length < bytes.length) {
      this.#count('dropped', bytes.length - kept.length, tMs);
      this.#note('dropped', bytes.length - kept.length, tMs);
      if (stream !== 'aux') this.#limit();
    }
    if (!this.#small) this.#write();
    if (this.#waiters.length > 0) this.#wake();
  }

  /** Everything that arrived is on disk; from then on it stays acknowledged. */
  async flush(): Promise<void> {
    if (this.#options === undefined) return;
    if (this.#pendingEntries.length > 0) this.#write();
    await this.#writing;
  }

  /** No more comes. Returns what the ledger must hold, or `undefined` where files have it all. */
  async finish(): Promise<InlineOutput | undefined> {
    this.#finished = true;
    this.#wake();
    if (this.#spilled) {
      await this.flush();
      this.#file?.close();
      return undefined;
    }
    return {
      bytes: Buffer.concat(this.#pending).toString('base64'),
      aux: this.aux().toString('base64'),
      entries: this.#pendingEntries.map((entry) => [entry.stream, entry.length, entry.tMs] as const),
    };
  }

  get #small(): boolean {
    return !this.#spilled && this.#wireBytes <= inlineMax && this.#pendingEntries.length <= inlineEntriesMax;
  }

  #count(stream: EntryStream, length: number, tMs: number): void {
    this.#wireBytes += length;
    if (stream === 'aux') this.#auxBytes += length;
    if (stream === 'aux' || stream === 'dropped') return;
    if (stream !== 'stderr') this.#stdoutBytes += length;
    if (stream === 'stderr') this.#stderrBytes += length;
    this.#segments.push(stream, length, tMs);
  }

  /**
   * Queues the index entry. Neighbours of one stream become one. Once segments are coarse, or too many entries wait,
   * one entry for each of output, aux and dropped is enough: only their sums matter for going on after a crash.
   */
  #note(stream: EntryStream, length: number, tMs: number): void {
    const entries = this.#pendingEntries;
    const coarse = this.#segments.full || entries.length >= entriesMax;
    const at = coarse ? entries.findLastIndex((entry) => kindOf(entry.stream) === kindOf(stream)) : entries.length - 1;
    const last = entries[at];
    if (last === undefined || (last.stream !== stream && !coarse)) {
      entries.push({ stream, length, tMs });
      return;
    }
    entries[at] = { stream: last.stream === stream ? stream : 'mixed', length: last.length + length, tMs: last.tMs };
  }

  /** Small pieces are copied together, so that none of them holds on to the chunk it came in. */
  #keep(bytes: Buffer): void {
    if (bytes.length >= copyBelow) {
      this.#staging = undefined;
      this.#pending.push(bytes);
      return;
    }
    const staging = this.#staging;
    if (staging === undefined || staging.used + bytes.length > staging.block.length) {
      const block = Buffer.allocUnsafeSlow(this.#pending.length === 0 ? Math.max(64, bytes.length) : stagingBytes);
      bytes.copy(block, 0);
      this.#staging = { block, used: bytes.length };
      this.#pending.push(block.subarray(0, bytes.length));
      return;
    }
    const start = this.#pending.at(-1)?.byteOffset ?? 0;
    bytes.copy(staging.block, staging.used);
    staging.used += bytes.length;
    this.#pending[this.#pending.length - 1] = staging.block.subarray(start - staging.block.byteOffset, staging.used);
  }

  #keepAux(bytes: Buffer): void {
    const copy = Buffer.from(bytes);
    this.#aux.push(copy);
    this.#pendingAux.push(copy);
    if (this.#aux.length > 64) this.#aux.splice(0, this.#aux.length, Buffer.concat(this.#aux));
  }

  #limit(): void {
    if (this.#limited) return;
    this.#limited = true;
    this.#options?.onLimit();
  }

  /** One batch is in flight at a time; what arrives meanwhile is the next one. */
  #write(): void {
    if (this.#writing !== undefined || this.#options === undefined) return;
    this.#writing = this.#drain(this.#options).finally(() => {
      this.#writing = undefined;
    });
  }

  async #drain(options: OutputLogOptions): Promise<void> {
    try {
      this.#spilled = true;
      this.#file ??= OutputFile.create(options.directory, options.number);
      while (this.#pendingEntries.length > 0) {
        const [out, aux, entries] = [this.#pending, this.#pendingAux, this.#pendingEntries];
        const [wireUpTo, outUpTo] = [this.#wireBytes, this.size()];
        this.#pending = [];
        this.#pendingAux = [];
        this.#pendingEntries = [];
        this.#staging = undefined;
        await this.#file.append(out, Buffer.concat(aux), entries);
        this.#fileBytes = outUpTo;
        options.onDurable(wireUpTo);
      }
    } catch {
      // The host's disk takes no more: the call ends as over its limit. Its end comes after its output, so that is let
      // through unread: a sandbox that waits to be heard would look as if it did not obey.
      this.#broken = true;
      this.#pending = [];
      this.#pendingAux = [];
      this.#pendingEntries = [];
      this.#limit();
      options.onDurable(this.#wireBytes);
    }
  }

  async #bytesAt(offset: number, lengthBytes: number): Promise<Buffer> {
    if (!this.#spilled) return Buffer.concat(this.#pending).subarray(offset, offset + lengthBytes);
    if (offset + lengthBytes > this.#fileBytes) await this.flush();
    return readOutput(this.#place.directory, this.#place.number, offset, lengthBytes);
  }

  #wake(): void {
    const size = this.size();
    for (const waiter of this.#waiters) if (this.#finished || size > waiter.beyond) waiter.wake();
  }
}

function kindOf(stream: EntryStream): 'output' | 'aux' | 'dropped' {
  return stream === 'aux' || stream === 'dropped' ? stream : 'output';
}
