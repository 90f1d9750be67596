import { driftReactions, type Drift, type DriftKind } from '../language/drift.ts';
import type { SourceFile } from '../language/source-file.ts';

/** What is weaker than a layer above asks for: fewer looks, later ones, or a milder reaction. */
export function driftProblems(chain: readonly SourceFile[], index: number): readonly string[] {
  const source = chain[index];
  const drift = source?.file.drift;
  if (source === undefined || drift === undefined) return [];
  return chain.slice(0, index).flatMap((upper) => {
    const there = upper.file.drift;
    if (there === undefined) return [];
    return weaker(drift, there).map(({ path, why, than }) => {
      const [ours, theirs] = [path, path].map((keys) => ['drift', ...keys]);
      return `${source.placeOf(ours ?? [])}: ${ours?.join('.')}: ${why} ${upper.placeOf(theirs ?? [])} ${than}`;
    });
  });
}

interface Weaker {
  readonly path: readonly string[];
  readonly why: string;
  readonly than: string;
}

function weaker(ours: Drift, theirs: Drift): readonly Weaker[] {
  const found: Weaker[] = [];
  const left = theirs.check?.filter((check) => ours.check?.includes(check) === false) ?? [];
  if (left.length > 0) found.push({ path: ['check'], why: `${left.join(', ')} is left out, which`, than: 'asks for' });
  for (const key of ['after_calls_every', 'clock_skew'] as const) {
    const [here, there] = [ours[key], theirs[key]];
    if (here !== undefined && there !== undefined && here > there)
      found.push({ path: [key], why: `${here} is more than the ${there} that`, than: 'allows' });
  }
  for (const kind of Object.keys(theirs.reactions ?? {}) as DriftKind[]) {
    const [here, there] = [ours.reactions?.[kind], theirs.reactions?.[kind]];
    if (here !== undefined && there !== undefined && driftReactions.indexOf(here) < driftReactions.indexOf(there))
      found.push({ path: ['reactions', kind], why: `${here} is weaker than ${there}, which`, than: 'asks for' });
  }
  return found;
}
