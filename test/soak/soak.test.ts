import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { getHeapSnapshot, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { failpoints } from '../../src/failpoint.ts';
import { checkJournal } from '../../src/journal/check.ts';
import { parsePolicy, type LoadedPolicy } from '../../src/policy/policy.ts';
import { recover } from '../../src/recovery.ts';
import { Runner, type Run } from '../../src/runner.ts';
import { ToolCall, type ToolCallInput } from '../../src/tools/tool-call.ts';
import { Bench, smallPolicyText } from '../fixtures/bench.ts';
import { countThings, leftOver } from '../fixtures/leaks.ts';
import { objectBytes } from '../fixtures/object-bytes.ts';
import { PrivateEngine } from '../fixtures/private-engine.ts';
import { slopeOf } from '../fixtures/slope.ts';

/**
 * Many sandboxes, and nothing of them stays. On an engine of its own, so that everything can be counted. Quicker:
 * `SOAK_RUNS=50 SOAK_PARALLEL=10 npx vitest run --project soak`.
 */
const runs = Number(process.env['SOAK_RUNS'] ?? 1000);
const parallel = Number(process.env['SOAK_PARALLEL'] ?? 50);

let own: PrivateEngine;
let bench: Bench;
let policy: LoadedPolicy;
const usualTemporary = process.env['TMPDIR'];

beforeAll(async () => {
  // Code that is compiled again and again, and lists of what depends on it, would be most of what a heap gains in an hour.
  setFlagsFromString('--no-opt');
  setFlagsFromString('--no-sparkplug');
  setFlagsFromString('--no-flush-bytecode');
  own = await PrivateEngine.start();
  bench = await Bench.make();
  policy = parsePolicy(smallPolicyText().replace('[base]', `[${await own.image()}]`), 'soak');
  process.env['TMPDIR'] = join(bench.folder, 'tmp');
  await mkdir(join(bench.folder, 'tmp'));
});
afterAll(async () => {
  if (usualTemporary === undefined) delete process.env['TMPDIR'];
  else process.env['TMPDIR'] = usualTemporary;
  await bench.close();
  await own.close();
});

function call(run: Run, id: string, input: ToolCallInput) {
  return run.call(id, ToolCall.parse(input));
}

async function openEchoClose(runner: Runner): Promise<number> {
  const startMs = performance.now();
  const run = await runner.open({ policy });
  const { text } = await call(run, '1', { tool: 'exec', script: 'echo hello' });
  expect(text).toContain('hello');
  await run.close();
  return performance.now() - startMs;
}

test(`${runs} runs one after another leave nothing, take no more memory, and the last are as fast as the first`, async () => {
  const runner = await Runner.create(await own.connect(), bench.dataDir);
  for (let n = 0; n < 5; n++) await openEchoClose(runner);
  const before = await countThings(own);
  const times: number[] = [];
  const heap: [number, number][] = [];
  let halfwayBytes = 0;
  for (let n = 0; n < runs; n++) {
    times.push(await openEchoClose(runner));
    if (n === Math.floor(runs / 2)) halfwayBytes = await ownObjects();
    if (n >= runs / 2 && n % Math.max(1, Math.round(runs / 100)) === 0) heap.push([n, heapUsed()]);
  }
  const objectsBytes = ((await ownObjects()) - halfwayBytes) / (runs / 2);
  const left = await leftOver(own, before);
  const some = Math.min(100, Math.ceil(runs / 4));
  const ratio = median(times.slice(-some)) / median(times.slice(0, some));
  const slopeBytes = slopeOf(heap);
  console.log(
    `${runs} runs: median ${Math.round(median(times))} ms, last ${some} to first ${some}: ${ratio.toFixed(2)} (wanted 1.2), ` +
      `objects ${Math.round(objectsBytes)} bytes a run, heap ${Math.round(slopeBytes)}, left ${JSON.stringify(left)}`,
  );
  await runner.close();
  expect(left).toEqual({});
  expect(ratio).toBeLessThan(runs < 500 ? 4 : 1.2); // few runs measure what else the machine does
  expect(objectsBytes).toBeLessThan(runs < 500 ? 16_384 : 512); // a short run measures the warm-up
  expect(slopeBytes).toBeLessThan(runs < 500 ? 16_384 : 1_024);
  for (const dir of (await bench.dataDir.listRuns()).slice(0, 20))
    expect(await checkJournal(dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
});

test.each([
  ['', {}],
  [' and sandboxes that are ready', { pool: { warmMax: 8, memoryBytes: 2 ** 40 } }],
])(
  `${parallel} at once%s, half of them killed from outside: each ends as what it is, and nothing is left`,
  async (_, options) => {
    const runner = await Runner.create(await own.connect(), bench.dataDir, options);
    await openEchoClose(runner); // what the first one leaves is for all
    const before = await countThings(own);
    if (runner.poolStats !== undefined) {
      await runner.keepReady({ policy }, 8);
      while ((runner.poolStats?.warm ?? 8) < 8) await sleep(100);
    }
    const startMs = performance.now();
    const opened = await Promise.all(Array.from({ length: parallel }, () => runner.open({ policy })));
    const upMs = performance.now() - startMs;
    await Promise.all(
      opened.map(async (run, n) => {
        const { text } = await call(run, 'echo', { tool: 'exec', script: `echo number ${n}` });
        expect(text).toContain(`number ${n}`);
        await call(run, 'sleeping', { tool: 'exec', script: 'sleep 300', yieldMs: 50 });
      }),
    );
    const killed = opened.filter((_, n) => n % 2 === 0);
    await own.docker('kill', ...killed.map((run) => run.sandbox.containerId));
    await Promise.all(killed.map((run) => run.sandbox.lost));
    const closingMs = performance.now();
    await Promise.all(opened.map((run) => run.close()));
    const closedMs = performance.now() - closingMs;
    for (const run of opened) {
      const check = await checkJournal(run.dir.journal);
      expect(check).toMatchObject({ verdict: 'closed', findings: [], calls: 2 });
      const last = await call(run, 'poll', { tool: 'exec_poll', callId: 'sleeping' });
      const kind = killed.includes(run) ? 'sandbox_lost' : 'cancelled';
      expect(last.data).toMatchObject({ state: 'ended', outcome: { kind } });
    }
    const { poolStats } = runner;
    await runner.close();
    const left = await leftOver(own, before);
    console.log(
      `${parallel} at once: up in ${Math.round(upMs)} ms, closed in ${Math.round(closedMs)} ms, left ${JSON.stringify(left)}`,
      poolStats === undefined ? '' : JSON.stringify(poolStats),
    );
    expect(left).toEqual({});
  },
);

test('three runners at a time that are killed at every failpoint, beside one that goes on: gc leaves nothing', async () => {
  const runner = await Runner.create(await own.connect(), bench.dataDir);
  const living = await runner.open({ policy });
  const before = await countThings(own);
  const policyFile = join(bench.folder, 'policy.yaml');
  await writeFile(policyFile, policy.text);
  const input = ['echo begun', 'sleep 60'].map((script) =>
    JSON.stringify({ call: { tool: 'exec', script, yieldMs: 100 } }),
  );
  const queue = failpoints.flatMap((name) => [name, name, name]);
  const die = async (): Promise<void> => {
    for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
      const env = { GLOVEBOX_FAILPOINT: `${name}:kill`, DOCKER_HOST: `unix://${own.socket}` };
      const { signal, stderr } = await bench.cli(['play', '-', '-p', policyFile], { env, input: input.join('\n') });
      expect(stderr, 'the failpoint was never reached').toContain(`failpoint ${name}: kill`);
      expect(signal).toBe('SIGKILL');
      expect(await call(living, `beside-${queue.length}`, { tool: 'exec', script: 'true' })).toMatchObject({
        ok: true,
      });
    }
  };
  await Promise.all([die(), die(), die()]);
  const first = await recover(await own.connect(), bench.dataDir);
  expect(first.runs.length).toBeGreaterThanOrEqual((failpoints.length - 4) * 3);
  const again = await recover(await own.connect(), bench.dataDir);
  expect(again).toMatchObject({ containers: [], volumes: [], runs: [] });
  expect(await call(living, 'last', { tool: 'exec', script: 'echo alive' })).toMatchObject({ ok: true });
  expect(await leftOver(own, before)).toEqual({});
  await living.close();
  await runner.close();
  await recover(await own.connect(), bench.dataDir);
  for (const dir of await bench.dataDir.listRuns()) {
    const check = await checkJournal(dir.journal).catch(() => undefined);
    if (check !== undefined) expect(check).toMatchObject({ verdict: 'closed', findings: [] });
  }
});

/** What this process has made and still holds. */
async function ownObjects(): Promise<number> {
  const chunks: Buffer[] = [];
  for await (const chunk of getHeapSnapshot()) chunks.push(chunk as Buffer);
  return objectBytes(Buffer.concat(chunks).toString());
}

function heapUsed(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  collect();
  return process.memoryUsage().heapUsed;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
