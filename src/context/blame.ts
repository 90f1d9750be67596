import { setImmediate } from 'node:timers/promises';
import type { Digest } from '../digest.ts';
import { DiffWork, keptLines } from './line-diff.ts';
import type { Author, Version } from './versions.ts';

/** A line, without what ends it but for a carriage return. */
export interface BlamedLine {
  /** Bytes as Latin-1. */
  readonly bytes: string;
  /** Who wrote it: one; or one of several, where the contents between them are not known. Oldest first, at most `authorsMax`. */
  readonly authors: readonly Author[];
}

export type Blame =
  | { readonly kind: 'lines'; readonly lines: readonly BlamedLine[] }
  /** It has no lines to be told apart. */
  | { readonly kind: 'whole'; readonly why: 'binary' | 'too_large' | 'not_kept'; readonly author: Author };

/** Of a file whose lines are told apart. */
export const blameBytesMax = 1024 * 1024;
const authorsMax = 8;
/** Versions that are compared, the newest, and their bytes; of those before it is not told apart what they wrote. */
const comparedMax = 1_000;
const comparedBytesMax = 32 * 1024 * 1024;
/** Of all comparisons together: a second or so. */
const stepsMax = 20_000_000;

/**
 * Who wrote each line of a file, from its versions. A line belongs to the version in which it came, as long as it stays; one that goes
 * and comes again belongs to whoever brought it back. Line ends: a final newline is no part of a line, a carriage return is. `load`
 * gives the content of a version, undefined where it was not kept.
 */
export async function blame(last: Version, load: (digest: Digest) => Promise<Buffer | undefined>): Promise<Blame> {
  const found = await contentOf(last, load);
  if (typeof found === 'string') return { kind: 'whole', why: found, author: last.author };
  const versions = versionsOf(last);
  const contents = await newestOf(versions, load);
  let [lines, unknown, stepsLeft]: [readonly BlamedLine[], Author[], number] = [[], [], stepsMax];
  for (const version of versions) {
    const content = contents.get(version);
    if (content === undefined) unknown.push(version.author);
    else {
      const work = new DiffWork(stepsLeft);
      lines = next(lines, linesOf(content), severalOf([...unknown, version.author]), work);
      stepsLeft -= work.stepsTaken;
      unknown = [];
      await setImmediate(); // others have their turn
    }
  }
  return { kind: 'lines', lines };
}

/** Of those that are compared, as far as they are kept. */
async function newestOf(
  versions: readonly Version[],
  load: (digest: Digest) => Promise<Buffer | undefined>,
): Promise<ReadonlyMap<Version, Buffer>> {
  const contents = new Map<Version, Buffer>();
  let bytes = 0;
  for (const version of versions.slice(-comparedMax).reverse()) {
    const content = await contentOf(version, load);
    if (!Buffer.isBuffer(content)) continue;
    bytes += content.length;
    if (bytes > comparedBytesMax) break;
    contents.set(version, content);
  }
  return contents;
}

/** Oldest first. */
function versionsOf(last: Version): readonly Version[] {
  const versions: Version[] = [];
  for (let version: Version | undefined = last; version !== undefined; version = version.before) versions.push(version);
  return versions.reverse();
}

async function contentOf(
  { digest }: Version,
  load: (digest: Digest) => Promise<Buffer | undefined>,
): Promise<Buffer | 'binary' | 'too_large' | 'not_kept'> {
  const content = digest === undefined ? undefined : await load(digest);
  if (content === undefined) return 'not_kept';
  if (content.length > blameBytesMax) return 'too_large';
  return content.subarray(0, sniffedBytes).includes(0) ? 'binary' : content;
}

/** As git tells what is no text. */
const sniffedBytes = 8_000;

function linesOf(content: Buffer): readonly string[] {
  const lines = content.toString('latin1').split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines;
}

function next(
  before: readonly BlamedLine[],
  now: readonly string[],
  authors: readonly Author[],
  work: DiffWork,
): BlamedLine[] {
  const kept = keptLines(
    before.map(({ bytes }) => bytes),
    now,
    work,
  );
  return now.map((bytes, at) => before[kept[at] ?? -1] ?? { bytes, authors });
}

/** The newest of them in any case. */
function severalOf(authors: readonly Author[]): readonly Author[] {
  return authors.length <= authorsMax ? authors : [...authors.slice(0, authorsMax - 1), ...authors.slice(-1)];
}
