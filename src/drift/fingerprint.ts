import { z } from 'zod';
import { canonicalJson, digestOf, digestPattern, type Digest } from '../digest.ts';

/**
 * What the environment of a command was, in sections that are compared one by one. Promises:
 *  - one environment has one digest, whenever, wherever and by whomever it was taken: what changes from moment to moment is kept,
 *    and is not in it;
 *  - a digest covers all that was found, also what there was no room for; what is shown of it is bounded;
 *  - a section that nobody could look at is absent, never empty.
 *
 * Keys and values may be anybody's text: they are not to be shown unescaped.
 */
export const sectionNames = [
  'image',
  'packages',
  'system_files',
  'tools',
  'users',
  'env',
  'locale',
  'time_zone',
  'clock',
  'kernel',
  'engine',
  'runtime',
  'limits',
  'cpu',
  'egress',
  'policy',
  'base',
  'lockfiles',
  'mounts',
  'network',
  'processes',
  'pressure',
] as const;
export type SectionName = (typeof sectionNames)[number];

/** What is never twice the same: kept as evidence, and not in the digest of the whole. */
export const momentSections: ReadonlySet<SectionName> = new Set(['clock', 'processes', 'pressure']);

const evidenceMax = 8192;
const keyMax = 256;
const valueMax = 512;

const digest = z.custom<Digest>((value) => typeof value === 'string' && digestPattern.test(value), 'not a digest');
const evidence = z
  .record(z.string().max(keyMax), z.string().max(valueMax))
  .refine((found) => Object.keys(found).length <= evidenceMax, `more than ${evidenceMax} entries`);

const sectionShape = z.strictObject({ digest, evidence, more: z.int().nonnegative(), rest: digest.optional() });
type SectionShape = Readonly<z.infer<typeof sectionShape>>;

/** `digest` is of the other three. `rest`: of the entries there was no room for, `more` of them. */
export const Section = sectionShape
  .refine(({ more, rest }) => more > 0 === (rest !== undefined), 'what is left out has a digest, and nothing else has')
  .refine((found) => digestOfSection(found) === found.digest, 'its digest is not that of what it holds');
export type Section = SectionShape;

export type Sections = Readonly<Partial<Record<SectionName, Section>>>;

export const Fingerprint = z
  .strictObject({
    v: z.literal(1),
    /** `host`: of a machine itself, for telling what differs from a sandbox. */
    of: z.enum(['sandbox', 'host']),
    at: z.iso.datetime({ precision: 3 }),
    sections: z.partialRecord(z.enum(sectionNames), Section),
    /** Equal for equal environments. */
    digest,
  })
  .refine((found) => comparableDigest(found.sections) === found.digest, 'its digest is not that of its sections');
export type Fingerprint = Readonly<z.infer<typeof Fingerprint>>;

/** What was found, by name. Sorted, clipped and bounded here: `shown` says how much of it is kept as evidence. */
export function sectionOf(found: ReadonlyMap<string, string>, shown: number = evidenceMax): Section {
  const all = [...found].map(([key, value]) => [keyOf(key), clipped(value, valueMax)] as const);
  all.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const room = Math.min(shown, evidenceMax);
  const left = all.slice(room);
  const content = {
    evidence: Object.fromEntries(all.slice(0, room)),
    more: left.length,
    ...(left.length === 0 ? {} : { rest: digestOf(canonicalJson(left)) }),
  };
  return { ...content, digest: digestOfSection(content) };
}

/** The same of what has few entries, by name; what is undefined could not be found out, and is left out. */
export function sectionFrom(found: Readonly<Record<string, string | number | boolean | undefined>>): Section {
  return sectionOf(
    new Map(Object.entries(found).flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)]]))),
  );
}

export function fingerprintOf(of: Fingerprint['of'], at: Date, sections: Sections): Fingerprint {
  return { v: 1, of, at: at.toISOString(), sections, digest: comparableDigest(sections) };
}

/** The one text of a fingerprint. */
export function canonicalFingerprint(fingerprint: Fingerprint): string {
  return canonicalJson(fingerprint);
}

/** Sections that an image decides: large, and the same for each run on it. They are kept beside a document, by their digests. */
export const apartNames: readonly SectionName[] = ['packages', 'system_files'];

/** The text that it is kept as, without what is kept apart. */
export function encodeDocument(fingerprint: Fingerprint): string {
  const sections: Record<string, unknown> = { ...fingerprint.sections };
  for (const name of apartNames) {
    const section = fingerprint.sections[name];
    if (section !== undefined) sections[name] = { apart: section.digest };
  }
  return canonicalJson({ ...fingerprint, sections });
}

const Apart = z.strictObject({ apart: digest });

const FingerprintDocument = z
  .strictObject({
    ...Fingerprint.shape,
    sections: z.partialRecord(z.enum(sectionNames), z.union([Apart, Section])),
  })
  .refine(
    ({ sections }) => Object.entries(sections).every(([name, found]) => isApart(name) === 'apart' in found),
    'what stands in it is not what belongs there',
  )
  .refine(
    (found) => comparedDigest(keptDigests(found.sections)) === found.digest,
    'its digest is not that of its sections',
  );
/** A fingerprint as it is kept: without the sections that stand beside it. */
type FingerprintDocument = Readonly<z.infer<typeof FingerprintDocument>>;

/** Of `encodeDocument`. Throws what is wrong with it. */
export function parseKept(text: string): FingerprintDocument {
  const kept = FingerprintDocument.parse(JSON.parse(text));
  if (canonicalJson(kept) !== text) throw new Error('it is not written in the one form that it has');
  return kept;
}

/** Of `encodeSection`. Throws what is wrong with it. */
export function parseSection(text: string, named: Digest): Section {
  return Section.parse({ ...z.looseObject({}).parse(JSON.parse(text)), digest: named });
}

type KeptSections = Readonly<Partial<Record<SectionName, Section | Readonly<z.infer<typeof Apart>>>>>;

/** Of each section, wherever it stands. */
export function keptDigests(sections: KeptSections): Readonly<Partial<Record<SectionName, Digest>>> {
  return Object.fromEntries(
    Object.entries(sections).map(([name, found]) => [name, 'apart' in found ? found.apart : found.digest]),
  );
}

function isApart(name: string): boolean {
  return apartNames.some((one) => one === name);
}

/** Its digest names it, wherever it is kept and in a journal: moments are in it. Bind to this, compare `fingerprint.digest`. */
export function documentDigest(fingerprint: Fingerprint): Digest {
  return digestOf(encodeDocument(fingerprint));
}

/** The text that a section is kept as: its digest is that of the section. */
export function encodeSection({ evidence: shown, more, rest }: Omit<Section, 'digest'>): string {
  return canonicalJson({ evidence: shown, more, rest });
}

/** As a journal names them. */
export function sectionDigests(sections: Sections): Readonly<Partial<Record<SectionName, Digest>>> {
  return Object.fromEntries(Object.entries(sections).map(([name, section]) => [name, section.digest]));
}

function comparableDigest(sections: Sections): Digest {
  return comparedDigest(sectionDigests(sections));
}

function comparedDigest(digests: Readonly<Partial<Record<SectionName, Digest>>>): Digest {
  const compared = Object.entries(digests).filter(([name]) => !momentSections.has(name as SectionName));
  return digestOf(canonicalJson({ v: 1, sections: Object.fromEntries(compared) }));
}

function digestOfSection(section: Omit<SectionShape, 'digest'>): Digest {
  return digestOf(encodeSection(section));
}

/** A parser would take that one name for something else than a key. */
function keyOf(name: string): string {
  return name === '__proto__' ? '"__proto__"' : clipped(name, keyMax);
}

/** Two long texts that differ anywhere still differ. */
function clipped(text: string, max: number): string {
  if (text.length <= max) return text;
  const tail = `… ${digestOf(text)}`;
  return `${text.slice(0, max - tail.length)}${tail}`;
}
