import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf, type Digest } from '../digest.ts';
import type { EntryData, FileMark } from '../journal/entry.ts';
import { FileError, type Files, type WalkItem, type WalkOptions } from '../sandbox/spec.ts';
import type { Change, Tree } from '../workspace/change-set.ts';
import type { UpperEntry, UpperLook } from '../workspace/layer/upper-look.ts';
import type { ContentPack } from './content-pack.ts';
import { boundedMarks } from './file-marks.ts';
import { RecordedFiles } from './recorded-files.ts';
import { Writers, type Suspects } from './writers.ts';

/** What can be seen of a workspace without asking its sandbox. */
export type Sight =
  /** All that was written over the base. */
  | {
      readonly kind: 'upper';
      all(): Promise<UpperLook>;
      at(path: string): UpperEntry | undefined;
    }
  /** Nothing but what it began with. */
  | { readonly kind: 'base'; at(path: string): Digest | undefined };

export interface FileWatchParts {
  readonly files: Files;
  readonly pack: Pick<ContentPack, 'keep' | 'close'>;
  readonly sight: Sight;
  readonly record: (seen: EntryData<'files.seen'>) => Promise<unknown>;
  /** How long after a command has ended it is looked at what it wrote, unless another call comes first. */
  readonly pauseMs?: number;
  /** The clock by which files are stamped. */
  readonly nowMs?: () => number;
}

/** When a command has ended, and when no process of it is left; neither ever rejects. */
interface Until {
  readonly ended: Promise<unknown>;
  readonly gone: Promise<unknown>;
}

/**
 * Who wrote which file of a run. What file verbs write is known; what commands write is looked at when there is time. Promises:
 *  - a call never waits for it, but a file verb that writes where a command may have written before it, and whoever says `exact`;
 *  - each look is bounded in entries, bytes and time. Where there is too much to see, nothing is looked at until the end, and then
 *    what changed is on record as written by one of all calls since;
 *  - it says no more than it knows: of several calls that may have written something it names the first and the last;
 *  - whatever fails here fails nobody else.
 */
export class FileWatch {
  readonly #parts: FileWatchParts;
  readonly #writers = new Writers();
  /** What was last on record of a path; `undefined` as a value: nobody knows. */
  readonly #known = new Map<string, Digest | 'gone' | undefined>();
  #stamps: ReadonlyMap<string, string> = new Map();
  /** Asked for one by one since a command last began or ended. */
  readonly #asked = new Set<string>();
  /** Being written to by file verbs, each by so many. */
  readonly #inWriting = new Map<string, number>();
  /** The same since a look began: what it has seen of these may be old. */
  #touched = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;
  /** Something has ended since the last look. */
  #isDue = false;
  #isBlind = false;
  #isOver = false;

  readonly #nowMs: () => number;

  constructor(parts: FileWatchParts) {
    this.#parts = parts;
    this.#nowMs = parts.nowMs ?? (() => Date.now());
  }

  /** A command begins. Times by the wall clock. */
  begin(callId: string, begunMs: number, { ended, gone }: Until): void {
    const writer = this.#writers.begin(callId, begunMs);
    this.#asked.clear();
    void ended.then(() => {
      writer.endedMs = this.#nowMs();
      this.#due();
    });
    void gone.then(() => {
      writer.goneMs = this.#nowMs();
      if (writer.goneMs - (writer.endedMs ?? 0) > 1) this.#due();
    });
  }

  /** A call that has written what nobody here has seen, or is about to. */
  beganBefore(callId: string, begunMs: number): void {
    this.#writers.begin(callId, begunMs).goneMs = this.#nowMs();
    this.#due();
  }

  /** Somebody may have written what nobody has looked at yet. */
  get isWaiting(): boolean {
    return this.#writers.any && !this.#isOver;
  }

  /** For a call that writes by file verbs; `marks` is filled as it does. */
  recorded(callId: string, marks: FileMark[]): Files {
    return new RecordedFiles(this.#parts.files, {
      writing: (path) => this.#writing(path),
      keep: (digest, bytes) => this.#parts.pack.keep(digest, bytes),
      unpacking: (until) => this.begin(callId, this.#nowMs(), { ended: until, gone: until }),
      wrote: (mark) => {
        marks.push(mark);
        this.#note(mark);
      },
    });
  }

  /** Before a file verb writes to these paths: what commands may have made of them is on record once it resolves. */
  async beforeWriting(paths: readonly string[]): Promise<void> {
    if (!this.isWaiting) return;
    const asked = paths.filter((path) => this.#mayDiffer(path));
    if (asked.length === 0) return;
    await this.#quietly(async () => {
      const marks = (await this.#read(asked)).filter((mark) => this.#isNews(mark));
      for (const path of asked) this.#asked.add(path);
      await this.#record('look', this.#writers.suspects(), marks);
    });
  }

  /** What commands have written until now is on record once it resolves, as far as it can be seen. */
  async look(): Promise<void> {
    await this.#looking;
    if (!this.#isDue || this.#isBlind || this.#isOver || this.#parts.sight.kind === 'base') return;
    this.#stopTimer();
    this.#looking = this.#quietly(() => this.#lookOnce()).finally(() => (this.#looking = undefined));
    await this.#looking;
  }

  /** With the changes as they were collected: they are what counts. */
  async settle(changes: ReadonlyMap<string, Change>, base: () => Tree): Promise<void> {
    await this.look();
    await this.#quietly(async () => {
      const marks = [...this.#changed(changes), ...this.#restored(changes, base)].filter((mark) => this.#isNews(mark));
      await this.#record('collected', this.#writers.suspects(), marks);
      this.#writers.seenSince(this.#nowMs());
    });
  }

  /** A snapshot was laid over the workspace: nobody of this run wrote what is there now. */
  async restored(changes: ReadonlyMap<string, Change>, base: () => Tree): Promise<void> {
    await this.#quietly(async () => {
      for (const mark of [...this.#changed(changes), ...this.#restored(changes, base)]) this.#note(mark);
      const { sight } = this.#parts;
      if (sight.kind === 'base') return;
      this.#stamps = new Map([...(await sight.all()).entries].map(([path, { stamp }]) => [path, stamp]));
    });
  }

  async close(): Promise<void> {
    this.#isOver = true;
    this.#stopTimer();
    await Promise.race([this.#looking, sleep(lastLookMs, undefined, { ref: false })]);
    await this.#parts.pack.close();
  }

  #stopTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #writing(path: string): () => void {
    this.#touched.add(path);
    this.#inWriting.set(path, (this.#inWriting.get(path) ?? 0) + 1);
    return () => {
      const left = (this.#inWriting.get(path) ?? 1) - 1;
      if (left > 0) this.#inWriting.set(path, left);
      else this.#inWriting.delete(path);
    };
  }

  /** Without asking the sandbox. */
  #mayDiffer(path: string): boolean {
    const { sight } = this.#parts;
    if (sight.kind === 'base') return this.#writers.anyRuns || !this.#asked.has(path);
    const entry = sight.at(path);
    return entry !== undefined && entry.stamp !== this.#stamps.get(path);
  }

  #due(): void {
    this.#isDue = true;
    this.#asked.clear();
    if (this.#parts.sight.kind === 'base' || this.#isBlind || this.#isOver) return;
    this.#timer ??= setTimeout(() => void this.look(), this.#parts.pauseMs ?? pauseMs).unref();
    this.#timer.refresh();
  }

  async #lookOnce(): Promise<void> {
    const { sight } = this.#parts;
    if (sight.kind === 'base') return;
    this.#isDue = false;
    this.#touched = new Set(this.#inWriting.keys());
    const begunMs = this.#nowMs();
    const { entries, whole } = await sight.all();
    this.#isBlind = !whole || entries.size + this.#known.size > knownMax;
    if (this.#isBlind) return;
    const { asked, stamps, left, moving } = this.#newsIn(entries);
    const bySuspects = new Map<string, { suspects: Suspects; marks: FileMark[] }>();
    for (const mark of await this.#marksOf(asked, entries)) {
      if (this.#touched.has(mark.path)) stamps.delete(mark.path); // the next look asks again
      if (this.#touched.has(mark.path) || (mark.kind !== 'unread' && !this.#isNews(mark))) continue;
      // What appears where something went may have been moved, and its time says when it was written, not when it came there.
      const isTimed = !moving || this.#stamps.has(mark.path) || this.#known.has(mark.path);
      const suspects = this.#suspectsOf(isTimed ? entries.get(mark.path) : undefined);
      const group = bySuspects.get(JSON.stringify(suspects)) ?? { suspects, marks: [] };
      group.marks.push(mark);
      bySuspects.set(JSON.stringify(suspects), group);
    }
    for (const { suspects, marks } of bySuspects.values()) await this.#record('look', suspects, marks);
    this.#stamps = stamps;
    if (left > 0) this.#due();
    else this.#writers.seenSince(begunMs);
  }

  /** Paths that are not as they were at the last look, as many as one look asks for. */
  #newsIn(entries: ReadonlyMap<string, UpperEntry>): {
    readonly asked: readonly string[];
    readonly stamps: Map<string, string>;
    readonly left: number;
    /** Something went. */
    readonly moving: boolean;
  } {
    const missing = [...this.#stamps.keys()].filter((path) => !entries.has(path) && this.#known.get(path) !== 'gone');
    const [asked, stamps] = [missing.slice(0, askedMax), new Map<string, string>()];
    for (const path of missing.slice(askedMax)) stamps.set(path, '');
    const isNew = (path: string, { stamp }: UpperEntry): boolean => this.#stamps.get(path) !== stamp;
    const moving =
      missing.length > 0 || [...entries].some(([path, entry]) => entry.kind === 'hidden' && isNew(path, entry));
    let left = missing.length - asked.length;
    for (const [path, entry] of entries) {
      const { stamp, changedMs } = entry;
      // Written before anybody began, it came with the run; unless something was moved, which need not change its time.
      const isOld = !moving && this.#writers.suspects(changedMs).calls === 0;
      if (isOld || !isNew(path, entry)) stamps.set(path, stamp);
      else if (asked.length >= askedMax) left++;
      else {
        stamps.set(path, stamp);
        asked.push(path);
      }
    }
    return { asked, stamps, left, moving };
  }

  async #marksOf(asked: readonly string[], entries: ReadonlyMap<string, UpperEntry>): Promise<readonly FileMark[]> {
    const marks: FileMark[] = [];
    const toRead: string[] = [];
    for (const path of asked) {
      const kind = entries.get(path)?.kind ?? 'hidden';
      if (kind === 'file') toRead.push(path);
      else marks.push({ kind: kind === 'hidden' ? 'gone' : 'unread', path });
    }
    return [...marks, ...(await this.#read(toRead))];
  }

  #suspectsOf(entry: UpperEntry | undefined): Suspects {
    const suspects = this.#writers.suspects(entry?.kind === 'hidden' ? undefined : entry?.changedMs);
    return suspects.calls > 0 ? suspects : this.#writers.suspects();
  }

  /** As the sandbox shows them now; the contents are hashed here, and kept. */
  async #read(paths: readonly string[]): Promise<readonly FileMark[]> {
    const marks = new Map<string, FileMark>();
    const large: string[] = [];
    let bytesLeft = readBytesMax;
    for await (const item of this.#walk(paths, { contents: true, fileBytesMax: wholeBytesMax })) {
      const path = pathOf(item);
      if (item.kind === 'unreadable') marks.set(path, { kind: item.code === 'not_found' ? 'gone' : 'unread', path });
      else if (item.entry.type === 'directory') marks.set(path, { kind: 'gone', path }); // the file that was there is
      else if (item.entry.type !== 'file') marks.set(path, { kind: 'unread', path });
      else if (item.content !== undefined || item.entry.sizeBytes === 0) {
        const content = item.content ?? new Uint8Array();
        const digest = digestOf(content);
        marks.set(path, { kind: 'content', path, digest });
        this.#parts.pack.keep(digest, content);
      } else {
        marks.set(path, { kind: 'unread', path });
        bytesLeft -= item.entry.sizeBytes;
        if (bytesLeft >= 0) large.push(path);
      }
    }
    for await (const item of this.#walk(large, { digests: true })) {
      if (item.kind === 'unreadable' || item.entry.digest === undefined) continue;
      marks.set(pathOf(item), { kind: 'content', path: pathOf(item), digest: item.entry.digest });
    }
    return [...marks.values()];
  }

  /** Each of these paths, and nothing below; no link is followed. One that is not there ends a walk: it goes on behind it. */
  async *#walk(paths: readonly string[], options: WalkOptions): AsyncGenerator<Exclude<WalkItem, { kind: 'end' }>> {
    const rest = [...paths];
    for (let some = rest.splice(0, askedAtOnce); some.length > 0; some = rest.splice(0, askedAtOnce)) {
      try {
        for await (const item of this.#parts.files.walk(some, { ...options, ...onlyThese })) {
          if (item.kind === 'end') break;
          yield item;
        }
      } catch (error) {
        const at = error instanceof FileError ? some.indexOf(error.path) : -1;
        if (!(error instanceof FileError) || at < 0) throw error;
        yield { kind: 'unreadable', path: error.path, code: error.code };
        rest.unshift(...some.slice(at + 1));
      }
    }
  }

  *#changed(changes: ReadonlyMap<string, Change>): Generator<FileMark> {
    for (const [path, change] of changes) {
      if (change.kind === 'file') yield { kind: 'content', path, digest: change.digest };
      else if (change.kind === 'deleted') yield { kind: 'gone', path };
      else if (change.kind === 'symlink' && this.#known.has(path)) yield { kind: 'unread', path };
    }
  }

  /** What is on record as written, and is as in the base after all. */
  *#restored(changes: ReadonlyMap<string, Change>, base: () => Tree): Generator<FileMark> {
    for (const path of this.#known.keys()) {
      if (changes.has(path)) continue;
      const before = base().get(path);
      if (before?.kind === 'file') yield { kind: 'content', path, digest: before.digest };
    }
  }

  async #record(how: 'look' | 'collected', suspects: Suspects, marks: readonly FileMark[]): Promise<void> {
    for (const mark of marks) this.#note(mark);
    for (const bounded of boundedMarks(marks, entriesMax)) await this.#parts.record({ how, ...suspects, ...bounded });
  }

  #note(mark: FileMark): void {
    const from = mark.kind === 'moved' ? mark.from : mark.path;
    if (mark.kind === 'moved' || mark.kind === 'gone') this.#noteBelow(mark, from);
    if (mark.kind === 'moved') this.#know(mark.path, this.#known.get(from));
    this.#know(from, valueOf(mark));
  }

  /** What lay in a directory that went, or went elsewhere. */
  #noteBelow(mark: FileMark, from: string): void {
    for (const [path, value] of this.#known) {
      if (!path.startsWith(`${from}/`) || value === 'gone') continue;
      if (mark.kind === 'moved') this.#know(mark.path + path.slice(from.length), value);
      this.#know(path, 'gone');
    }
  }

  #know(path: string, value: Digest | 'gone' | undefined): void {
    if (this.#known.size < knownMax || this.#known.has(path)) this.#known.set(path, value);
  }

  #isNews(mark: FileMark): boolean {
    if (this.#known.has(mark.path)) return this.#known.get(mark.path) !== valueOf(mark);
    const { sight } = this.#parts;
    return sight.kind === 'upper' || (sight.at(mark.path) ?? 'gone') !== valueOf(mark);
  }

  /** Who cannot be seen is not blamed: what fails here is told by nobody but the record that is missing. */
  async #quietly(work: () => Promise<void>): Promise<void> {
    await work().catch(() => {
      this.#isBlind = true;
    });
  }
}

const pauseMs = 50;
const lastLookMs = 2_000;
/** Of one look; the rest has its turn at the next. */
const askedMax = 1024;
const askedAtOnce = 512;
const onlyThese = { includeRoot: true, depthMax: 0, contentBytesMax: 32 * 1024 * 1024 };
const wholeBytesMax = 256 * 1024;
/** Hashed inside, of one look. */
const readBytesMax = 64 * 1024 * 1024;
const knownMax = 20_000;
/** Of one look or one diff. */
const entriesMax = 16;

function valueOf(mark: FileMark): Digest | 'gone' | undefined {
  return mark.kind === 'content' ? mark.digest : mark.kind === 'unread' ? undefined : 'gone';
}

function pathOf(item: Exclude<WalkItem, { kind: 'end' }>): string {
  const path = item.kind === 'entry' ? item.entry.path : item.path;
  return path.startsWith('./') ? path.slice(2) : path;
}
