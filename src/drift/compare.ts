import type { DriftKind } from '../policy/language/drift.ts';
import { inLikelihood, type DriftFinding } from './findings.ts';
import { sectionNames, type Fingerprint, type Section, type SectionName, type Sections } from './fingerprint.ts';
import { clockFindings, pressureFindings, processFindings } from './moments.ts';
import { textOf } from './texts.ts';

/** What two environments differ in. */
export interface Comparison {
  /** The likeliest cause first. */
  readonly findings: readonly DriftFinding[];
  /** How many more there are of a kind than are told. */
  readonly more: Readonly<Partial<Record<DriftKind, number>>>;
  /** Sections that only one of the two has: nobody could look there. */
  readonly unseen: readonly SectionName[];
}

export interface CompareOptions {
  readonly clockSkewMs: number;
  /** What has happened in the one and not in the other, beside the fingerprints. */
  readonly besides?: readonly DriftFinding[];
}

/** So many of one kind are told; who differs in a thousand packages differs in the first of them. */
const perKindMax = 8;

/** Pure: what was expected, what was found, and which of the differences explains most. */
export function compareFingerprints(
  expected: Pick<Fingerprint, 'sections'>,
  found: Pick<Fingerprint, 'sections'>,
  { clockSkewMs, besides = [] }: CompareOptions,
): Comparison {
  const [a, b] = [expected.sections, found.sections];
  const differing = sectionNames.flatMap((name) => sectionFindings(name, a, b)).filter(isNotFollowing);
  const moments = [
    ...clockFindings(a.clock, b.clock, clockSkewMs),
    ...pressureFindings(a.pressure, b.pressure),
    ...processFindings(a.processes, b.processes),
  ];
  const unseen = sectionNames.filter((name) => (a[name] === undefined) !== (b[name] === undefined));
  return { ...bounded(inLikelihood([...besides, ...differing, ...moments])), unseen };
}

/** A limit that was asked for otherwise is held otherwise too, and a lock file out of step has another text: said once. */
function isNotFollowing({ kind, source, key }: DriftFinding, _: number, all: readonly DriftFinding[]): boolean {
  // Less room where something is mounted is what a limit says more plainly.
  if (source === 'mounts' && kind === 'resource_pressure') return !all.some((other) => other.source === 'limits');
  const leading =
    source === 'limits'
      ? key.replace(/^(?:engine|kernel)\./, 'asked.')
      : source === 'lockfiles'
        ? key.replace(/ sha256$/, '')
        : key;
  return leading === key || !all.some((other) => other.source === source && other.key === leading);
}

function bounded(findings: readonly DriftFinding[]): Pick<Comparison, 'findings' | 'more'> {
  const counts = new Map<DriftKind, number>();
  const told = findings.filter(({ kind }) => {
    const count = (counts.get(kind) ?? 0) + 1;
    counts.set(kind, count);
    return count <= perKindMax;
  });
  const over = [...counts].filter(([, count]) => count > perKindMax);
  return { findings: told, more: Object.fromEntries(over.map(([kind, count]) => [kind, count - perKindMax])) };
}

/** Of which section every entry is a difference by itself. */
const kinds: Readonly<Partial<Record<SectionName, DriftKind>>> = {
  packages: 'packages',
  system_files: 'system_file',
  users: 'system_file',
  tools: 'tool_version',
  env: 'env',
  locale: 'env',
  time_zone: 'env',
  kernel: 'engine',
  engine: 'engine',
  runtime: 'engine',
  cpu: 'engine',
  limits: 'resource_pressure',
  egress: 'egress',
  network: 'egress',
  lockfiles: 'lockfile',
  mounts: 'mount',
};

/** Of the others these keys tell; the rest are names, and the same thing may have two. */
const telling: Readonly<Partial<Record<SectionName, { readonly kind: DriftKind; readonly keys: readonly string[] }>>> =
  {
    image: { kind: 'image', keys: ['id', 'environment'] },
    policy: { kind: 'policy', keys: ['digest'] },
    base: { kind: 'base_moved', keys: ['digest'] },
  };

function sectionFindings(name: SectionName, a: Sections, b: Sections): readonly DriftFinding[] {
  const [expected, found] = [a[name], b[name]];
  if (expected === undefined || found === undefined || expected.digest === found.digest) return [];
  const told = telling[name];
  if (told !== undefined) return ofKeys(name, told.kind, told.keys, expected, found).slice(0, 1);
  const kind = kinds[name];
  if (kind === undefined) return [];
  const keys = new Set([...Object.keys(expected.evidence), ...Object.keys(found.evidence)]);
  const seen = ofKeys(name, kindOfKey, [...keys], expected, found, kind);
  return seen.length > 0 ? seen : [beyondEvidence(name, kind, expected, found)];
}

/** Fewer processors, or less room, is less to work with, whatever it is called. */
function kindOfKey(name: SectionName, key: string, kind: DriftKind, was?: string, is?: string): DriftKind {
  const isRoom = name === 'mounts' && was !== undefined && is !== undefined && sizeless(was) === sizeless(is);
  return isRoom || (name === 'cpu' && key === 'cores') ? 'resource_pressure' : kind;
}

function sizeless(mount: string): string {
  return mount.replaceAll(/(?:size|nr_inodes)=[^\s,]*/g, '');
}

type KindOf = DriftKind | typeof kindOfKey;

function ofKeys(
  source: SectionName,
  kindOf: KindOf,
  keys: readonly string[],
  expected: Section,
  found: Section,
  standard: DriftKind = 'engine',
): readonly DriftFinding[] {
  return keys.flatMap((key) => {
    const [was, is] = [valueOf(expected, key), valueOf(found, key)];
    if (was === is || isBeyond(expected, was) || isBeyond(found, is)) return [];
    const kind = typeof kindOf === 'string' ? kindOf : kindOf(source, key, standard, was, is);
    const finding = { kind, source, key, expected: was, found: is };
    return [{ ...finding, text: textOf(finding) }];
  });
}

/** It may be among those that there was no room for. */
function isBeyond({ more }: Section, value: string | undefined): boolean {
  return value === undefined && more > 0;
}

/** Keys are anybody's: `constructor` is no entry of every section. */
function valueOf({ evidence }: Section, key: string): string | undefined {
  return Object.hasOwn(evidence, key) ? evidence[key] : undefined;
}

/** They differ in what there was no room for. */
function beyondEvidence(source: SectionName, kind: DriftKind, expected: Section, found: Section): DriftFinding {
  const finding = { kind, source, key: '(more)', expected: expected.digest, found: found.digest };
  return { ...finding, text: textOf(finding) };
}
