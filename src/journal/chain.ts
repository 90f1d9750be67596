import { canonicalJson, digestOf, type Digest } from '../digest.ts';
import { Entry, entryData, type Draft } from './entry.ts';
import { asciiJson, printable } from './printable.ts';

/**
 * How entries are tied together and written. One entry has exactly one line: canonical JSON in printable ASCII. So every
 * changed byte is seen, even one that would parse to the same value, and `cat` of a journal is harmless.
 */
export const firstPrev: Digest = `sha256:${'0'.repeat(64)}`;

export interface Position {
  readonly seq: number;
  readonly prev: Digest;
  readonly run: string;
  readonly at: string;
  readonly mono: number;
}

/**
 * Checks the draft against the schema and chains it; `line` is what stands in the file, newline included. Throws a ZodError on
 * data that a journal cannot hold.
 */
export function sealEntry(draft: Draft, position: Position): { readonly entry: Entry; readonly line: string } {
  // Parsed first, hashed then: the hash is over what will be read back, whatever the schema makes of the draft.
  const open = parsed(draft, position);
  const [before, after] = aroundHash(open);
  const hash = digestOf(`${before},${after}`);
  return { entry: { ...open, hash }, line: `${asciiJson(`${before},"hash":"${hash}",${after}`)}\n` };
}

/** A position is the writer's own: in the first entry it is held against the schema whole, later only what its clocks make of it. */
function parsed(draft: Draft, position: Position): Entry {
  const { type } = draft;
  if (position.seq === 1) return Entry.parse({ v: 1, ...position, type, data: draft.data, hash: firstPrev });
  if (position.at.length !== dateLength || !(position.mono >= 0)) throw new RangeError(`no time: ${position.at}`);
  const data: unknown = entryData[type].parse(draft.data);
  return { v: 1, ...position, type, data, hash: firstPrev } as Entry;
}

/** ISO 8601 with milliseconds and a year of four digits. */
const dateLength = 24;

/** Canonical JSON without `hash`, in two parts: its members come in the order of their names. */
function aroundHash({ at, data, mono, prev, run, seq, type, v }: Entry): readonly [string, string] {
  const before = `{"at":${JSON.stringify(at)},"data":${canonicalJson(data)}`;
  const position = `"mono":${canonicalJson(mono)},"prev":${JSON.stringify(prev)},"run":${JSON.stringify(run)}`;
  return [before, `${position},"seq":${canonicalJson(seq)},"type":${JSON.stringify(type)},"v":${v}}`];
}

/** Without the newline. */
export function formatEntry(entry: Entry): string {
  return asciiJson(canonicalJson(entry));
}

export function hashOf(entry: Entry): Digest {
  const { hash: _, ...open } = entry;
  return digestOf(canonicalJson(open));
}

export type ParsedLine =
  | { readonly kind: 'entry'; readonly entry: Entry }
  /** `stranger`: JSON of another shape (an unknown key or type); `edited`: not the one form that an entry has. */
  | { readonly kind: 'bad'; readonly problem: 'edited' | 'stranger' | 'too_long'; readonly message: string };

export function parseLine(line: string): ParsedLine {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return { kind: 'bad', problem: 'edited', message: 'is not JSON' };
  }
  const parsed = Entry.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = issue === undefined || issue.path.length === 0 ? '' : ` at ${issue.path.map(String).join('.')}`;
    const message = `is not an entry of version 1: ${issue?.message ?? 'unknown shape'}${where}`;
    return { kind: 'bad', problem: 'stranger', message: printable(message).slice(0, 300) };
  }
  if (formatEntry(parsed.data) !== line) {
    return { kind: 'bad', problem: 'edited', message: 'is not written in the one form that this entry has' };
  }
  return { kind: 'entry', entry: parsed.data };
}
