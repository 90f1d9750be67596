import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DataDir } from '../src/data-dir/data-dir.ts';
import { parsePolicy } from '../src/policy/policy.ts';
import { Runner, type Run } from '../src/runner.ts';
import type { Bed } from './bed.ts';
import { lessIsBetter, median, timed, type Row } from './measure.ts';

const filesInBase = 500;
const changes = 20;
const rounds = 10;

/** Snapshot of a run with 20 changes in 500 files, and a second sandbox that holds just that, ready for a call. */
export async function fork({ bed }: { bed: Bed }): Promise<readonly Row[]> {
  const folder = await mkdtemp(join(tmpdir(), 'glovebox-bench-'));
  const runner = await Runner.create(bed.engine, await DataDir.open(join(folder, 'data')));
  const open: Run[] = [];
  try {
    const policy = parsePolicy(policyText(bed.image), 'bench');
    const run = await runner.open({ policy, workspace: await workspaceIn(folder) });
    open.push(run);
    await run.call('1', { tool: 'exec', script: `for n in $(seq ${changes}); do echo changed > src/$n/f; done` });
    const times: number[] = [];
    for (let n = 0; n < rounds; n++) {
      times.push(await timed(async () => void open.push(...(await runner.fork(run)))));
      await open.pop()?.close();
    }
    return [lessIsBetter('fork', 'ms', { ours: median(times), peer: null }, null, { bound: 250 })];
  } finally {
    for (const run of open) await run.close();
    await runner.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function workspaceIn(folder: string): Promise<string> {
  for (let n = 0; n < filesInBase; n++) {
    await mkdir(join(folder, 'workspace/src', `${n}`), { recursive: true });
    await writeFile(join(folder, 'workspace/src', `${n}`, 'f'), `file ${n}\n`.repeat(100));
  }
  return join(folder, 'workspace');
}

function policyText(image: string): string {
  return `apiVersion: glovebox/v1
kind: Policy
name: bench
images: ["${image}"]
files: { read: ["**"], write: ["**"] }
`;
}
