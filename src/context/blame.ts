import type { Digest } from '../digest.ts';
import { keptLines } from './line-diff.ts';
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
/** Versions that are compared, the newest; of those before it is not told apart what they wrote. */
const loadedMax = 1_000;

/**
 * Who wrote each line of a file, from its versions. A line belongs to the version in which it came, as long as it stays; one that goes
 * and comes again belongs to whoever brought it back. Line ends: a final newline is no part of a line, a carriage return is. `load`
 * gives the content of a version, undefined where it was not kept.
 */
export async function blame(last: Version, load: (digest: Digest) => Promise<Buffer | undefined>): Promise<Blame> {
  const found = await contentOf(last, load);
  if (typeof found === 'string') return { kind: 'whole', why: found, author: last.author };
  const versions = versionsOf(last);
  let lines: readonly BlamedLine[] = [];
  let unknown: Author[] = [];
  for (const [at, version] of versions.entries()) {
    const content = versions.length - at > loadedMax ? undefined : await contentOf(version, load);
    if (Buffer.isBuffer(content)) {
      lines = next(lines, linesOf(content), severalOf([...unknown, version.author]));
      unknown = [];
    } else unknown.push(version.author);
  }
  return { kind: 'lines', lines };
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

function next(before: readonly BlamedLine[], now: readonly string[], authors: readonly Author[]): BlamedLine[] {
  const kept = keptLines(
    before.map(({ bytes }) => bytes),
    now,
  );
  return now.map((bytes, at) => before[kept[at] ?? -1] ?? { bytes, authors });
}

/** The newest of them in any case. */
function severalOf(authors: readonly Author[]): readonly Author[] {
  return authors.length <= authorsMax ? authors : [...authors.slice(0, authorsMax - 1), ...authors.slice(-1)];
}
