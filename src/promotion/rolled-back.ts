import type { Promotion } from './ledger.ts';

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
