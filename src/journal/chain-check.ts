import type { Digest } from '../digest.ts';
import { firstPrev, hashOf, type ParsedLine } from './chain.ts';
import type { Entry } from './entry.ts';
import { Findings, type Finding, type FindingKind } from './finding.ts';

/**
 * Follows the chain line by line and, after a break, finds its feet again, so that one change gives one finding and the
 * rest of the file is still checked.
 */
export class ChainCheck {
  readonly #findings = new Findings();
  /** Entry that belongs on the next line. */
  #expected = 1;
  /** What its `prev` must be; undefined = the line before was unreadable and this one is taken at its word. */
  #prev: Digest | undefined = firstPrev;
  /** The first of two swapped lines, until the second has been seen. */
  #ahead: Entry | undefined;
  run: string | undefined;
  last: Entry | undefined;
  entries = 0;

  get head(): Digest | undefined {
    return this.last?.hash;
  }

  get findings(): readonly Finding[] {
    return this.#findings.list;
  }

  add(line: number, kind: FindingKind, message: string): void {
    this.#findings.add(line, kind, message);
  }

  push(line: number, parsed: ParsedLine, next: ParsedLine | undefined): void {
    if (parsed.kind === 'bad') {
      this.add(line, parsed.problem, `the line ${parsed.message}`);
      this.#skip(next);
      return;
    }
    const { entry } = parsed;
    this.entries += 1;
    if (hashOf(entry) !== entry.hash) {
      this.add(line, 'edited', `entry ${entry.seq} does not have the hash that it states`);
      this.#skip(next);
      return;
    }
    this.run ??= entry.run;
    if (entry.run !== this.run) {
      this.add(line, 'wrong_run', `an entry of run ${entry.run} in the journal of run ${this.run}`);
      this.#skip(next);
      return;
    }
    if (entry.seq === this.#expected) this.#follow(line, entry, next);
    else this.#outOfPlace(line, entry, next);
  }

  #follow(line: number, entry: Entry, next: ParsedLine | undefined): void {
    if (this.#prev !== undefined && entry.prev !== this.#prev) this.#forged(line, entry, next);
    this.last = this.#ahead ?? entry;
    this.#ahead = undefined;
    this.#expected = this.last.seq + 1;
    this.#prev = this.last.hash;
  }

  /** Two lines do not fit, and each fits its own hash. The one after them tells which of the two it has known. */
  #forged(line: number, entry: Entry, next: ParsedLine | undefined): void {
    const known = next?.kind !== 'entry' || next.entry.prev === entry.hash;
    if (known && line > 1) this.add(line - 1, 'forged', `rewritten with a new hash; line ${line} names ${entry.prev}`);
    else this.add(line, 'forged', `rewritten with a new hash; it does not follow the line before`);
  }

  #outOfPlace(line: number, entry: Entry, next: ParsedLine | undefined): void {
    const expected = this.#expected;
    const nextSeq = next?.kind === 'entry' ? next.entry.seq : undefined;
    if (entry.seq === expected + 1 && nextSeq === expected) {
      this.add(line, 'swapped', `lines ${line} and ${line + 1} are swapped`);
      this.#ahead = entry;
    } else if (nextSeq === expected || (entry.seq < expected && nextSeq !== expected + 1)) {
      const kind = entry.seq < expected ? 'duplicated' : 'misplaced';
      this.add(line, kind, `entry ${entry.seq} stands here ${kind === 'duplicated' ? 'again' : 'too early'}`);
    } else if (nextSeq === expected + 1) {
      this.add(line, 'misplaced', `entry ${entry.seq} stands where entry ${expected} belongs`);
      this.#expected += 1;
      this.#prev = undefined;
    } else {
      const missing =
        entry.seq === expected + 1 ? `entry ${expected} is` : `entries ${expected} to ${entry.seq - 1} are`;
      this.add(line, 'dropped', `${missing} missing before this line`);
      this.last = entry;
      this.#expected = entry.seq + 1;
      this.#prev = entry.hash;
    }
  }

  /** A line that says nothing: it stands for the entry that belongs there, unless that one comes next. */
  #skip(next: ParsedLine | undefined): void {
    if (next?.kind === 'entry' && next.entry.seq === this.#expected) return;
    this.#expected += 1;
    this.#prev = undefined;
  }
}
