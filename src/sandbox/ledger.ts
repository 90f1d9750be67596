import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  write,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { RunnerError } from '../errors.ts';
import type { SandboxSpec } from './container-body.ts';
import type { CallTerms } from './exec-spec.ts';
import type { InlineOutput } from './output-log.ts';
import type { CallEnd } from './spec.ts';

/** What a runner needs to find a sandbox's calls again, one JSON line each, written before it takes effect. */
export type LedgerLine =
  | {
      readonly kind: 'sandbox';
      readonly containerId: string;
      readonly spec: SandboxSpec;
      /** Of this PID 1; what it knew is gone with it. */
      readonly startedAt?: string;
    }
  /** Numbers up to here may have been used for calls that are not in the ledger (file verbs). */
  | { readonly kind: 'numbers'; readonly upTo: number }
  | {
      readonly kind: 'call';
      readonly number: number;
      readonly id: string;
      /** By the clock of the machine. */
      readonly startedMs: number;
      readonly terms: CallTerms;
    }
  /** The command has ended and all its output is here: inline, or in files of its own. */
  | { readonly kind: 'done'; readonly number: number; readonly end: CallEnd; readonly output?: InlineOutput };

export const ledgerName = 'ledger.ndjson';

export class Ledger {
  #directory: string;
  readonly #fd: number;
  #at: number;
  #open = true;
  #pending = '';
  #writing: Promise<void> | undefined;

  private constructor(directory: string, fd: number, at: number) {
    this.#directory = directory;
    this.#fd = fd;
    this.#at = at;
  }

  get directory(): string {
    return this.#directory;
  }

  static create(directory: string): Ledger {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const path = join(directory, ledgerName);
    try {
      return new Ledger(directory, openSync(path, 'wx', 0o600), 0);
    } catch (cause) {
      throw new RunnerError(
        'internal',
        `${path}: cannot make the ledger of a new sandbox; every sandbox needs a directory of its own`,
        { cause },
      );
    }
  }

  /** Goes on after a crash; half a line at the end was never said. */
  static reopen(directory: string): { ledger: Ledger; lines: readonly LedgerLine[] } {
    const { lines, bytes } = read(directory);
    const fd = openSync(join(directory, ledgerName), 'r+');
    ftruncateSync(fd, bytes);
    return { ledger: new Ledger(directory, fd, bytes), lines };
  }

  /** With all that is beside it, into a directory that is not there yet or empty, of the same file system. */
  moveTo(directory: string): void {
    renameSync(this.#directory, directory);
    this.#directory = directory;
  }

  /** In the kernel's hands when this returns, and what waited before it: it survives the death of this process. */
  note(line: LedgerLine): void {
    if (!this.#open) return;
    const waiting = this.#pending;
    const bytes = Buffer.from(`${waiting}${JSON.stringify(line)}\n`);
    const at = this.#at;
    this.#pending = '';
    this.#at += bytes.length;
    try {
      for (let done = 0; done < bytes.length;) done += writeSync(this.#fd, bytes, done, bytes.length - done, at + done);
    } catch (error) {
      this.#pending = waiting; // whoever waits for it learns of the failure by its own try
      this.#at = at;
      throw error;
    }
  }

  /** The same, a moment later and together with others: often the next call's note takes it along. */
  append(line: LedgerLine): Promise<void> {
    if (!this.#open) return Promise.resolve();
    this.#pending += `${JSON.stringify(line)}\n`;
    this.#writing ??= setImmediate().then(() => this.#drain());
    return this.#writing;
  }

  async close(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing.catch(() => undefined);
    if (!this.#open) return;
    this.#open = false;
    fsyncSync(this.#fd);
    closeSync(this.#fd);
  }

  async #drain(): Promise<void> {
    try {
      while (this.#pending !== '') {
        const bytes = Buffer.from(this.#pending);
        this.#pending = '';
        const at = this.#at;
        this.#at += bytes.length;
        // A trip through the thread pool costs more than a few bytes do.
        const write = bytes.length <= atOnceMax ? writeAtOnce : writeAt;
        for (let done = 0; done < bytes.length;) done += await write(this.#fd, bytes, done, at + done);
      }
    } finally {
      this.#writing = undefined;
    }
  }
}

/** The ledger of a sandbox, live or not, without changing it. */
export function readLedger(directory: string): readonly LedgerLine[] {
  return read(directory).lines;
}

/** What the calls that have ended had written. */
export function endedBytes(lines: readonly LedgerLine[]): number {
  return lines.reduce((sum, line) => sum + (line.kind === 'done' ? line.end.output.totalBytes : 0), 0);
}

function read(directory: string): { lines: LedgerLine[]; bytes: number } {
  const path = join(directory, ledgerName);
  if (statSync(path, { throwIfNoEntry: false }) === undefined)
    throw new RunnerError(
      'sandbox_lost',
      `${path}: there is no ledger of this sandbox; its calls cannot be found again`,
    );
  const content = readFileSync(path);
  const bytes = content.lastIndexOf(0x0a) + 1;
  const lines = content.toString('utf8', 0, bytes).split('\n').slice(0, -1);
  return { lines: lines.map((line) => JSON.parse(line) as LedgerLine), bytes };
}

const atOnceMax = 65_536;

function writeAtOnce(fd: number, bytes: Buffer, done: number, position: number): number {
  return writeSync(fd, bytes, done, bytes.length - done, position);
}

function writeAt(fd: number, bytes: Buffer, done: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    write(fd, bytes, done, bytes.length - done, position, (error, count) =>
      error === null ? resolve(count) : reject(error),
    );
  });
}
