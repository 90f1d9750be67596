import type { EntryData } from '../journal/entry.ts';
import { Run } from './run.ts';
import type { RunSnapshot } from './snapshot.ts';

/** Where a fork starts. Its sandbox is made while the snapshot is still being taken. */
export interface Origin {
  readonly forkedFrom: NonNullable<EntryData<'run.opened'>['forkedFrom']>;
  readonly scratch: boolean;
  /** Of a run that is open, pending until `begin`: what it takes of this process would keep the engine waiting for its work. */
  readonly snapshot: Promise<RunSnapshot>;
  /** May be called by each fork. */
  begin(): void;
}

export function originOf(source: Run | RunSnapshot): Origin {
  const base = source.base.digest;
  if (!(source instanceof Run)) {
    const forkedFrom = { run: source.run, snapshot: source.digest, base };
    return { forkedFrom, scratch: source.scratch, snapshot: Promise.resolve(source), begin: () => undefined };
  }
  let begin = (): void => undefined;
  const after = new Promise<void>((resolve) => {
    begin = () => void setImmediate(resolve); // once the request to the engine is on its way
  });
  const snapshot = source.snapshot({ after });
  snapshot.catch(() => undefined); // whoever waits for it hears of it
  return { forkedFrom: { run: source.id, base }, scratch: false, snapshot, begin };
}
