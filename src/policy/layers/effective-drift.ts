import {
  driftChecks,
  driftKinds,
  driftReactions,
  type Drift,
  type DriftCheck,
  type DriftKind,
  type DriftReaction,
} from '../language/drift.ts';
import type { SourceFile } from '../language/source-file.ts';
import { standardDrift } from '../language/standards.ts';

/** What of its environment a run looks at, and what follows from what it finds. */
export interface EffectiveDrift {
  readonly check: readonly DriftCheck[];
  readonly afterCallsEvery: number;
  readonly clockSkewMs: number;
  /** Of every kind. */
  readonly reactions: Readonly<Record<DriftKind, DriftReaction>>;
}

/** What holds where no layer says anything. */
export const noDriftRules: EffectiveDrift = driftRules([]);

/** All looks that a layer asks for; of numbers the least, of reactions the strictest. Absent where no layer says anything. */
export function driftOf(chain: readonly SourceFile[]): { readonly drift?: EffectiveDrift } {
  const said = chain.flatMap(({ file }) => (file.drift === undefined ? [] : [file.drift]));
  return said.length === 0 ? {} : { drift: driftRules(said) };
}

function driftRules(said: readonly Drift[]): EffectiveDrift {
  const least = (key: 'after_calls_every' | 'clock_skew'): number => {
    const numbers = said.flatMap((one) => one[key] ?? []);
    return numbers.length === 0 ? standardDrift[key] : Math.min(...numbers);
  };
  const lists = said.flatMap(({ check }) => (check === undefined ? [] : [check]));
  const asked = lists.length === 0 ? standardDrift.check : lists.flat();
  const strictest = (kind: DriftKind): DriftReaction => {
    const words = said.flatMap(({ reactions }) => reactions?.[kind] ?? []);
    return driftReactions.findLast((word) => words.includes(word)) ?? 'note';
  };
  return {
    check: driftChecks.filter((check) => asked.includes(check)),
    afterCallsEvery: least('after_calls_every'),
    clockSkewMs: least('clock_skew'),
    reactions: byKind(strictest),
  };
}

function byKind<T>(of: (kind: DriftKind) => T): Readonly<Record<DriftKind, T>> {
  const kinds = Object.keys(driftKinds) as DriftKind[];
  return Object.fromEntries(kinds.map((kind) => [kind, of(kind)])) as Record<DriftKind, T>;
}
