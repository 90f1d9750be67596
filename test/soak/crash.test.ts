import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { failpoints, importFailpoints, poolFailpoints, resumeFailpoints, type Failpoint } from '../../src/failpoint.ts';
import { recover } from '../../src/recovery.ts';
import { Bench, smallPolicyText } from '../fixtures/bench.ts';
import { callKind, DrivenRun } from '../fixtures/driven-run.ts';
import { DyingService } from '../fixtures/dying-service.ts';
import { randomFrom, seedGiven } from '../fixtures/random.ts';

/**
 * A service under load is killed at every failpoint, again and again, and started anew; of some runs the sandbox is killed beside it. From
 * the journals, the files in the sandboxes and the engine: no call was lost, none was made twice, and what is unknown says so. The
 * same seed makes the same calls and the same deaths: `GLOVEBOX_SEED=1 SOAK_PARALLEL=10 npx vitest run --project soak test/soak/crash.test.ts`;
 * `SOAK_FAILPOINTS=call.kept,pool.taken` plays these alone.
 */
const seed = seedGiven();
const parallel = Number(process.env['SOAK_PARALLEL'] ?? 10);
const callsPerRound = 4;
/** So often runs come and go in one round, at the most, until the failpoint is reached. */
const turnsMax = 8;
const text = smallPolicyText('budget: { max_actions_per_run: 2000, max_parallel_actions: 16 }\n');
const policy = { text: text.replace('command_timeout: 20s', 'command_timeout: 10m') };
const all: readonly Failpoint[] = [...failpoints, ...poolFailpoints, ...importFailpoints, ...resumeFailpoints];
const wanted = process.env['SOAK_FAILPOINTS']?.split(',');
const names = all.filter((name) => wanted === undefined || wanted.includes(name));

let bench: Bench;
let service: DyingService;
let workspace: string;

beforeAll(async () => {
  bench = await Bench.make();
  workspace = await bench.workspace({ 'README.md': 'begun\n', 'src/main.txt': 'begun\n' });
  service = new DyingService(bench.dataDir.path, {}, ['--log-level', 'warn']);
});
afterAll(async () => {
  service.kill();
  await recover(bench.engine, bench.dataDir).catch(() => undefined); // of a test that failed
  await bench.close();
});

test(`${parallel} runs under load, killed at ${names.length} failpoints (seed ${seed}): no call is lost or made twice`, async () => {
  const next = randomFrom(seed);
  await service.start();
  const runs = await Promise.all(Array.from({ length: parallel }, (_, n) => openRun(`first-${n}`, next)));
  const sum = { made: 0, unknown: 0, lost: 0, killed: 0 };
  const end = async (run: DrivenRun): Promise<void> => {
    await run.expectTrue();
    sum.made += run.done.size;
    sum.unknown += run.unknown.size;
    sum.lost += run.lost.size;
  };
  for (const [round, name] of names.entries()) {
    const startMs = performance.now();
    const nth = 1 + Math.floor(next() * (name.startsWith('call.') ? parallel * 2 : 2));
    service.kill();
    await service.died().catch(() => undefined);
    const started = await service.start(`${name}:kill:${name.startsWith('resume.') ? Math.min(nth, parallel) : nth}`);
    const kinds = runs.map(() => Array.from({ length: callsPerRound }, () => callKind(next())));
    const victim = Math.floor(next() * parallel);
    const load = Promise.all(
      runs.map(async (run, n) => {
        for (const [at, kind] of (kinds[n] ?? []).entries()) {
          if (n === victim && at === callsPerRound / 2) await run.kill((id) => execa('docker', ['kill', id]));
          await run.call(`r${round}-${n}-${at}`, kind);
        }
      }),
    );
    const death = new AbortController();
    // Beside the load runs come and go, so that opening and closing are reached too.
    const turnover = async (lane: number): Promise<void> => {
      for (let turn = 0; turn < turnsMax && !death.signal.aborted; turn++) {
        const key = `round-${round}-${lane}-${turn}`;
        if (lane === 0) await writeFile(join(workspace, 'src/main.txt'), key);
        const run = await openRun(key, next, lane === 0 ? { workspace } : {});
        await run.call(`r${round}-extra-${lane}-${turn}`, 'command');
        await end(run);
      }
    };
    const settled = Promise.allSettled([load, turnover(0), turnover(1), turnover(2)]);
    const said = await Promise.race([service.died(), settled.then(() => 'never reached')]);
    death.abort();
    expect(said, name).toContain(`failpoint ${name}`);
    expect(started || name.startsWith('resume.')).toBe(true);
    expect(await service.start(), 'the next one starts').toBe(true);
    for (const each of await settled) if (each.status === 'rejected') throw each.reason;
    const killed = runs[victim];
    if (killed?.isKilled === true) {
      await end(killed);
      sum.killed += 1;
      runs[victim] = await openRun(`after-${round}`, next);
    }
    console.log(`${name}: reached, ${Math.round(performance.now() - startMs)} ms, ${JSON.stringify(sum)}`);
  }
  for (const run of runs) await end(run);
  console.log(
    `seed ${seed}: ${names.length} deaths, ${sum.killed} sandboxes killed; ${sum.made} calls answered, ${sum.unknown} unknown, ` +
      `${sum.lost} lost with their sandboxes`,
  );
  expect(await service.stop()).toBe(0);
  expect(await bench.containers()).toEqual([]);
  expect(await bench.dataDir.listInstances()).toEqual([]);
});

function openRun(key: string, next: () => number, more: { readonly workspace?: string } = {}): Promise<DrivenRun> {
  return DrivenRun.open(service, bench.dataDir, { key, policy, next: randomFrom(next() * 2 ** 32), ...more });
}
