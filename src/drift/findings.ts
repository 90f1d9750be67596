import { printable } from '../journal/printable.ts';
import type { DriftKind } from '../policy/language/drift.ts';
import type { SectionName } from './fingerprint.ts';

/** Where something was seen that is otherwise: a section of a fingerprint, or what happened while the run was open. */
export type DriftSource = SectionName | 'container' | 'calls' | 'hosts';

/** One thing that is not as it was expected. Both values are shown, never obeyed: they may be anybody's text. */
export interface DriftFinding {
  readonly kind: DriftKind;
  readonly source: DriftSource;
  /** Which variable, package, file, limit… */
  readonly key: string;
  /** Undefined: there was none. */
  readonly expected: string | undefined;
  readonly found: string | undefined;
  /** One line for a person: what is otherwise, and what that does. */
  readonly text: string;
  /** The call that did it, where that is known. */
  readonly callId?: string;
}

/** How something came out is not only another value: it has happened, and is what failed. `decisive`: much follows from it. */
export type Weight = 'happened' | 'from_outside' | 'decisive' | 'differs';

const shownMax = 200;

/** Bounded, and on one line. */
export function shown(text: string): string {
  const line = printable(text).replaceAll(/\s+/g, ' ');
  return line.length <= shownMax ? line : `${line.slice(0, shownMax)}…`;
}

/** `18.19.0 instead of 20.11.1`, `missing (20.11.1 was expected)`, `there (18.19.0), and was not expected` */
export function insteadText(expected: string | undefined, found: string | undefined): string {
  if (found === undefined) return `missing (${brief(expected ?? '')} was expected)`;
  if (expected === undefined) return `there (${brief(found)}), and was not expected`;
  return `${brief(found)} instead of ${brief(expected)}`;
}

/** Nobody reads the whole of a digest. */
function brief(text: string): string {
  return shown(text.replaceAll(/(sha256:[0-9a-f]{12})[0-9a-f]{52}/g, '$1'));
}

/**
 * From the likeliest cause to the least. What has happened goes before what is merely otherwise, and what was done from outside, which is
 * decisive, and rare, right after it. Then what commands use themselves, a cause before its effects: a package before the programs that
 * came with it, and these before the files that they are; rules of egress before the variables that tell programs of them; another
 * runtime before what it mounts. Then the clock and what is left running. Last come the envelopes, which explain what nothing more exact
 * does: base, image, machine, and the policy, which says most of all that.
 */
const likeliest: readonly (readonly [Weight, DriftKind])[] = [
  ['happened', 'resource_pressure'],
  ['happened', 'egress'],
  ['happened', 'engine'],
  ['from_outside', 'engine'],
  ['from_outside', 'egress'],
  ['from_outside', 'mount'],
  ['from_outside', 'resource_pressure'],
  ['from_outside', 'process_left'],
  ['differs', 'lockfile'],
  ['differs', 'packages'],
  ['differs', 'tool_version'],
  ['differs', 'egress'],
  ['differs', 'env'],
  ['decisive', 'engine'],
  ['differs', 'mount'],
  ['differs', 'system_file'],
  ['differs', 'resource_pressure'],
  ['differs', 'clock'],
  ['happened', 'process_left'],
  ['differs', 'process_left'],
  ['differs', 'base_moved'],
  ['differs', 'image'],
  ['differs', 'engine'],
  ['differs', 'policy'],
];

function weightOf({ source, kind }: DriftFinding): Weight {
  if (source === 'container') return 'from_outside';
  if (source === 'calls' || source === 'hosts') return 'happened';
  if (source === 'pressure' && kind === 'resource_pressure') return 'happened';
  return source === 'runtime' ? 'decisive' : 'differs';
}

/** The likeliest cause first; among equals by key, so that the same two give the same order. */
export function inLikelihood(findings: readonly DriftFinding[]): readonly DriftFinding[] {
  const place = (finding: DriftFinding): number => {
    const at = likeliest.findIndex(([weight, kind]) => weight === weightOf(finding) && kind === finding.kind);
    return at < 0 ? likeliest.length : at;
  };
  return [...findings].sort((a, b) => place(a) - place(b) || changeOf(a) - changeOf(b) || compareText(a.key, b.key));
}

/** Another value says more than something that is gone, and that more than something that came. */
function changeOf({ expected, found }: DriftFinding): number {
  if (expected !== undefined && found !== undefined) return 0;
  return found === undefined ? 1 : 2;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
