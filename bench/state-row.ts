import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { newId } from '../src/ids.ts';
import { Store } from '../src/store/store.ts';
import { lessIsBetter, median, type Row } from './measure.ts';

const rounds = 1000;

/** One commit to `state.db`, a run's row: with durability `process`, and beside it `power`. No engine, no peer. */
export async function stateRow(): Promise<readonly Row[]> {
  const dir = await mkdtemp(join(tmpdir(), 'glovebox-bench-state-'));
  const [ours, safest] = [Store.open(dir), Store.open(dir, { durability: 'power' })];
  const times = { ours: [] as number[], safest: [] as number[] };
  try {
    for (let n = 0; n < rounds; n++) {
      times.ours.push(commit(ours));
      if (n % 5 === 0) times.safest.push(commit(safest));
    }
  } finally {
    ours.close();
    safest.close();
    await rm(dir, { recursive: true, force: true });
  }
  const p95 = (values: readonly number[]): number =>
    values.toSorted((a, b) => a - b)[Math.floor(values.length * 0.95)] ?? 0;
  const rows = { ours: median(times.ours), peer: median(times.safest) };
  return [
    lessIsBetter('state-commit', 'ms', rows, 'durability power', { bound: 1 }),
    lessIsBetter('state-commit-p95', 'ms', { ours: p95(times.ours), peer: p95(times.safest) }, 'durability power', {}),
  ];
}

function commit(store: Store): number {
  const none = { name: null, lane: null, class: null, closedAt: null, outcome: null, summary: null };
  const whose = { team: 'a', identity: 'bench', keyId: 'k', policy: 'bench', state: 'open' } as const;
  const started = performance.now();
  store.runs.insert({ id: newId(), ...whose, ...none, openedAt: new Date().toISOString() });
  return performance.now() - started;
}
