import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { messageOf } from '../errors.ts';
import { readEnds, type JournalEnds } from '../journal/ends.ts';
import { readEntries } from '../journal/read.ts';
import type { RunRow } from './runs.ts';
import type { Store } from './store.ts';

/** What was put right. */
export interface Synced {
  /** Runs that the store did not have. */
  readonly added: readonly string[];
  /** Runs that the store had as open and that are closed. */
  readonly closed: readonly string[];
  /** Runs whose journals cannot be read, with the reason. */
  readonly unreadable: readonly { readonly id: string; readonly reason: string }[];
}

/**
 * Brings the store's runs in line with what their journals say; all of them, where the store is new. Journals are the truth: a run
 * that the store has as open and that has no journal never began. What the store has as closed is not looked at again. Runs that
 * nobody opened by a service are none of its. Doing it twice changes nothing.
 */
export async function syncRuns(store: Store, dataDir: DataDir): Promise<Synced> {
  const added: string[] = [];
  const closed: string[] = [];
  const unreadable: { id: string; reason: string }[] = [];
  const dirs = new Map((await dataDir.listRuns()).map((dir) => [dir.id, dir]));
  for (const dir of dirs.values()) {
    const known = store.runs.find(dir.id);
    if (known?.state === 'closed') continue;
    try {
      const ends = await readEnds(dir.journal);
      if (known !== undefined) {
        if (settle(store, known, ends)) closed.push(dir.id);
      } else if (add(store, dir, ends)) added.push(dir.id);
      // The store may be one that was put back from an older copy.
      if (ends !== undefined && ends.closed === undefined) await addCallers(store, dir);
    } catch (error) {
      unreadable.push({ id: dir.id, reason: messageOf(error) });
    }
  }
  for (const row of openRows(store)) if (!dirs.has(row.id) && settle(store, row, undefined)) closed.push(row.id);
  return { added, closed, unreadable };
}

function* openRows(store: Store): Generator<RunRow> {
  for (const state of ['opening', 'open'] as const) {
    let before: string | undefined;
    for (;;) {
      const rows = store.runs.list({ state, before, limit: 500 });
      yield* rows;
      before = rows.at(-1)?.id;
      if (before === undefined) break;
    }
  }
}

/** True when it was not so before. */
function settle(store: Store, row: RunRow, ends: JournalEnds | undefined): boolean {
  if (ends === undefined) {
    const closedAt = row.openedAt;
    return store.runs.update(row.id, { state: 'closed', outcome: 'failed', closedAt });
  }
  if (ends.closed === undefined) {
    if (row.state === 'opening') store.runs.update(row.id, { state: 'open' });
    return false;
  }
  const { outcome, summary } = ends.closed;
  return store.runs.update(row.id, {
    state: 'closed',
    outcome,
    summary: summary || null,
    closedAt: ends.closedAt ?? null,
  });
}

/** Of an open run, so that nobody who takes part in it answers for it. */
async function addCallers(store: Store, dir: RunDir): Promise<void> {
  const callers = new Set<string>();
  for await (const { type, data } of readEntries(dir.journal)) {
    const isCall = type === 'call.intended' || type === 'call.denied';
    const says = isCall || type === 'participant.joined' || type === 'context.attached';
    if (says && data.by !== undefined) callers.add(data.by);
  }
  for (const caller of callers) store.runs.addCaller(dir.id, caller);
}

function add(store: Store, dir: RunDir, ends: JournalEnds | undefined): boolean {
  if (ends?.opened.by === undefined || ends.run !== dir.id) return false;
  const { by, policy } = ends.opened;
  const { lane, taskClass } = policy.effective;
  const row: RunRow = {
    id: dir.id,
    team: by.team,
    identity: by.identity,
    keyId: by.key,
    name: by.name ?? null,
    state: ends.closed === undefined ? 'open' : 'closed',
    policy: policy.name,
    lane: typeof lane === 'string' ? lane : null,
    class: typeof taskClass === 'string' ? taskClass : null,
    openedAt: ends.openedAt,
    closedAt: ends.closedAt ?? null,
    outcome: ends.closed?.outcome ?? null,
    summary: ends.closed?.summary || null,
  };
  store.runs.insert(row);
  return true;
}
