import { setTimeout as sleep } from 'node:timers/promises';
import { parsePolicy, type LoadedPolicy } from '../src/policy/policy.ts';
import { Runner, type OpenRequest, type Run } from '../src/runner.ts';
import { BaseStore } from '../src/workspace/base/bases.ts';
import type { Bed } from './bed.ts';
import { lessIsBetter, median, timed, type Row } from './measure.ts';
import { WorkspaceBed } from './workspace-bed.ts';

const rounds = 15;
/** Of what is only reported. */
const fewRounds = 7;
const coldRounds = 3;
const filesInBase = 500;

/** From asking for a run to the first result of a command in it, from a pool that is full; beside the same without one. */
export async function warmOpen({ bed }: { bed: Bed }): Promise<readonly Row[]> {
  const place = await WorkspaceBed.make(bed);
  const policy = policyWith(bed.image, '');
  try {
    const workspace = place.files('workspace', filesInBase);
    const based = async (of: LoadedPolicy): Promise<OpenRequest> => {
      const run = await place.runner.open({ policy: of, workspace });
      const bases = await (await BaseStore.open(place.dataDir.basesDir)).list();
      await run.close();
      return { policy: of, base: bases.find(({ holders }) => holders.includes(run.id))?.key ?? '' };
    };
    const git = policyWith(bed.image, 'git: true');
    const egress = policyWith(bed.image, '', 'egress: { profiles: { web: [{ id: w, host: [example.com] }] } }');
    const measure = async (name: string, request: OpenRequest, bound?: number): Promise<Row> => {
      // One for each kind: what waits of another kind would keep this one from being made.
      const warm = await Runner.create(bed.engine, place.dataDir, { pool: { warmMax: 1, memoryBytes: 2 ** 40 } });
      await warm.keepReady(request, 1);
      const times = { warm: [] as number[], cold: [] as number[] };
      const count = bound === undefined ? fewRounds : rounds;
      const every = Math.ceil(count / coldRounds);
      for (let n = 0; n < count; n++) {
        await filled(warm);
        times.warm.push(await toFirstResult(warm, request));
        if (n % every === 0) times.cold.push(await toFirstResult(place.runner, request));
      }
      const measured = { ours: median(times.warm), peer: median(times.cold) };
      await warm.close();
      return lessIsBetter(name, 'ms', measured, 'the same without a pool', bound === undefined ? {} : { bound });
    };
    return [
      await measure('warm-open', { policy }, 15),
      await measure('warm-open/base', await based(policy), 15),
      await measure('warm-open/git', await based(git)),
      await measure('warm-open/egress', { policy: egress }),
    ];
  } finally {
    await place.close();
  }
}

async function filled(runner: Runner): Promise<void> {
  while (runner.poolStats?.warm !== 1 || runner.poolStats.making > 0) await sleep(10);
  await sleep(100); // for what is being removed
}

async function toFirstResult(runner: Runner, request: OpenRequest): Promise<number> {
  let run: Run | undefined;
  const ms = await timed(async () => {
    run = await runner.open(request);
    const result = await run.call('first', { tool: 'exec', argv: ['echo', 'hi'] });
    if (!result.ok) throw new Error(result.text);
  });
  await run?.close();
  return ms;
}

/** The limits of the shipped policies for work on a repository. */
function policyWith(image: string, files: string, more = ''): LoadedPolicy {
  const text = `apiVersion: glovebox/v1
kind: Policy
name: warm
images: ["${image}"]
files:
  read: ["**"]
  write: ["**"]
  ${files}
limits: { memory: 2GiB, cpus: 2, pids: 512, workspace: 1GiB, tmp: 256MiB }
${more}
`;
  return parsePolicy(text, 'bench');
}
