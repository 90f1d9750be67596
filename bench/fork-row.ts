import type { Run } from '../src/runner.ts';
import type { Bed } from './bed.ts';
import { lessIsBetter, median, timed, type Row } from './measure.ts';
import { WorkspaceBed } from './workspace-bed.ts';

const filesInBase = 500;
const changes = 20;
const rounds = 10;

/** Snapshot of a run with 20 changes in 500 files, and a second sandbox that holds just that, ready for a call. */
export async function fork({ bed }: { bed: Bed }): Promise<readonly Row[]> {
  const place = await WorkspaceBed.make(bed);
  const { runner, policy } = place;
  const open: Run[] = [];
  try {
    const run = await runner.open({ policy, workspace: place.files('workspace', filesInBase) });
    open.push(run);
    const script = `for n in $(seq ${changes}); do echo changed > src/p0/d$n/f0.js; done`;
    const edited = await run.call('1', { tool: 'exec', script });
    if (!edited.ok) throw new Error(edited.text);
    const times: number[] = [];
    for (let n = 0; n < rounds; n++) {
      times.push(await timed(async () => void open.push(...(await runner.fork(run)))));
      await open.pop()?.close();
    }
    return [lessIsBetter('fork', 'ms', { ours: median(times), peer: null }, null, { bound: 250 })];
  } finally {
    for (const run of open) await run.close();
    await place.close();
  }
}
