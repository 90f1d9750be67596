import type { EntryData } from '../journal/entry.ts';
import { Run } from './run.ts';
import type { RunSnapshot } from './snapshot.ts';

/** Where a fork starts. Its sandbox is made while the snapshot is still being taken. */
export interface Origin {
  readonly forkedFrom: NonNullable<EntryData<'run.opened'>['forkedFrom']>;
  /** Who has worked there last. */
  readonly worker: EntryData<'lane.handed_over'>['from'];
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
    const worker = { run: source.run, ...source.worker };
    return { forkedFrom, worker, scratch: source.scratch, snapshot: Promise.resolve(source), begin: () => undefined };
  }
  let begin = (): void => undefined;
  const after = new Promise<void>((resolve) => {
    begin = () => void setImmediate(resolve); // once the request to the engine is on its way
  });
  const snapshot = source.snapshot({ after });
  snapshot.catch(() => undefined); // whoever waits for it hears of it
  const worker = { run: source.id, ...source.worker };
  return { forkedFrom: { run: source.id, base }, worker, scratch: false, snapshot, begin };
}
