import { afterAll, beforeAll, expect, test } from 'vitest';
import { failpoints, importFailpoints, poolFailpoints, resumeFailpoints, type Failpoint } from '../../src/failpoint.ts';
import { recover } from '../../src/recovery.ts';
import { Bench, smallPolicyText } from '../fixtures/bench.ts';
import { DyingService } from '../fixtures/dying-service.ts';
import { randomFrom, seedGiven } from '../fixtures/random.ts';
import { StandingLoad } from '../fixtures/standing-load.ts';

/**
 * A service under load is killed at every failpoint, again and again, and started anew; of some runs the sandbox is killed beside it. From
 * the journals, the files in the sandboxes and the engine: no call was lost, none was made twice, and what is unknown says so. Who is
 * started after a death is the next one to die, and takes up what runs as it finds it: nobody waits for the load to come to rest. The
 * same seed makes the same calls and the same deaths: `GLOVEBOX_SEED=1 SOAK_PARALLEL=10 npx vitest run --project soak test/soak/crash.test.ts`;
 * `SOAK_FAILPOINTS=call.kept,pool.taken` plays these alone.
 */
const seed = seedGiven();
const parallel = Number(process.env['SOAK_PARALLEL'] ?? 50);
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
  const deaths = names.map((name) => ({ name, at: `${name}:kill:${1 + Math.floor(next() * timesOf(name))}` }));
  const load = new StandingLoad({ service, dataDir: bench.dataDir, policy, workspace, parallel, next });
  const openingMs = performance.now();
  await service.start();
  await load.begin();
  console.log(`${parallel} runs open after ${Math.round(performance.now() - openingMs)} ms`);
  service.kill();
  await service.died();
  await service.start(whileItWorks(deaths[0]));
  for (const [round, { name, at }] of deaths.entries()) {
    const startMs = performance.now();
    const death = new AbortController();
    const settled = load.round(round, death.signal);
    if (isResume(name)) {
      await load.answered(parallel);
      service.kill();
      await service.died();
      expect(await service.start(at), `${name} is reached`).toBe(false);
    }
    const said = await Promise.race([service.died(), settled.then(() => 'never reached')]);
    load.check();
    const diedMs = performance.now() - startMs;
    death.abort();
    expect(said, name).toContain(`failpoint ${name}`);
    expect(await service.start(whileItWorks(deaths[round + 1])), 'the next one starts').toBe(true);
    const startedMs = performance.now() - startMs;
    console.log(
      `${name}: died after ${Math.round(diedMs)} ms, next one after ${Math.round(startedMs)}; ${load.told()}`,
    );
  }
  await load.end();
  console.log(`seed ${seed}: ${names.length} deaths; ${load.told()}`);
  expect(await service.stop()).toBe(0);
  expect(await bench.containers()).toEqual([]);
  expect(await bench.dataDir.listInstances()).toEqual([]);
});

/** The n-th time that it is reached, up to so many: while runs are used, and in the middle of taking them up. */
function timesOf(name: Failpoint): number {
  if (isResume(name)) return Math.max(1, Math.floor(parallel / 2));
  return name.startsWith('call.') ? parallel * 2 : 2;
}

function isResume(name: Failpoint): boolean {
  return (resumeFailpoints as readonly Failpoint[]).includes(name);
}

/** Of a service that dies while it works; one that dies while it starts is given its place when its time has come. */
function whileItWorks(death: { readonly name: Failpoint; readonly at: string } | undefined): string | undefined {
  return death === undefined || isResume(death.name) ? undefined : death.at;
}
