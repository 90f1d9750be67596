import type { RunDir } from '../data-dir/data-dir.ts';
import { readEntries } from '../journal/read.ts';
import { Ledger, type Promotion } from './ledger.ts';

/** A file that a run changes, and that an earlier promotion of another run had changed before it was rolled back. */
export interface Setback {
  readonly path: string;
  readonly run: string;
  readonly promotion: string;
  readonly reason: string;
  readonly at: string;
}

/** What was promoted and taken back on these paths, the latest first; `below` is where the workspace lies in its repository. */
export function setbacksOn(
  promotions: readonly Promotion[],
  paths: readonly string[],
  below?: string,
): readonly Setback[] {
  const wanted = new Map(paths.map((path) => [below === undefined ? path : `${below}/${path}`, path]));
  return promotions
    .flatMap(({ id, intended, rolledBack }) =>
      rolledBack === undefined
        ? []
        : intended.paths.flatMap((path) => {
            const found = wanted.get(path);
            const { reason, at } = rolledBack;
            return found === undefined ? [] : [{ path: found, run: intended.run, promotion: id, reason, at }];
          }),
    )
    .sort((a, b) => (a.at < b.at ? 1 : -1));
}

/** The same of a run with its workspace where its journal says, by what its data directory has on record; `counts`: which runs do. */
export async function setbacksOfRun(
  dataDir: { readonly path: string },
  { journal }: Pick<RunDir, 'journal'>,
  paths: readonly string[],
  counts: (run: string) => boolean = () => true,
): Promise<readonly Setback[]> {
  const promotions = (await new Ledger(dataDir).list()).filter(
    ({ intended, rolledBack }) => rolledBack !== undefined && counts(intended.run),
  );
  return promotions.length === 0 ? [] : setbacksOn(promotions, paths, await belowOf(journal));
}

/** Where the workspace lies in its repository. */
async function belowOf(journal: string): Promise<string | undefined> {
  for await (const entry of readEntries(journal))
    if (entry.type === 'sandbox.started') return entry.data.workspace.below;
  return undefined;
}
