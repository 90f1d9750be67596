import type { SourceFile } from '../language/source-file.ts';

/** What counts when the calls of a run of this policy are made again. */
export interface EffectiveReplay {
  readonly noise: readonly string[];
  readonly network: boolean;
}

/** Noise is what every layer that names some calls so; the network, what no layer refuses. Absent where no layer says anything. */
export function replayOf(chain: readonly SourceFile[]): { readonly replay?: EffectiveReplay } {
  const said = chain.flatMap(({ file }) => (file.replay === undefined ? [] : [file.replay]));
  if (said.length === 0) return {};
  const lists = said.flatMap(({ noise }) => (noise === undefined ? [] : [noise]));
  const [first = [], ...others] = lists;
  const noise = [...new Set(first)].filter((pattern) => others.every((list) => list.includes(pattern)));
  const words = said.flatMap(({ network }) => network ?? []);
  return { replay: { noise, network: words.length > 0 && words.every(Boolean) } };
}

/** Noise that a layer above does not know, and a network that it refuses. */
export function replayProblems(chain: readonly SourceFile[], index: number): readonly string[] {
  const source = chain[index];
  const replay = source?.file.replay;
  if (source === undefined || replay === undefined) return [];
  const problems: string[] = [];
  for (const { file, source: upper } of chain.slice(0, index)) {
    const { noise, network } = file.replay ?? {};
    replay.noise?.forEach((pattern, at) => {
      if (noise?.includes(pattern) === false)
        problems.push(
          `${source.placeOf(['replay', 'noise', at])}: replay.noise.${at}: ${upper} names what is noise, and this is not in it`,
        );
    });
    if (network === false && replay.network === true)
      problems.push(`${source.placeOf(['replay', 'network'])}: replay.network: ${upper} refuses it`);
  }
  return problems;
}
