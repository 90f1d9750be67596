import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { recover } from '../../src/recovery.ts';
import { Bench, smallPolicyText } from '../fixtures/bench.ts';
import { DrivenRun } from '../fixtures/driven-run.ts';
import { DyingService } from '../fixtures/dying-service.ts';
import { Inspector } from '../fixtures/inspector.ts';
import { playLoad } from '../fixtures/load.ts';
import { countThings, leftOver } from '../fixtures/leaks.ts';
import { objectBytes } from '../fixtures/object-bytes.ts';
import { PrivateEngine } from '../fixtures/private-engine.ts';
import { randomFrom, seedGiven } from '../fixtures/random.ts';
import { slopeOf } from '../fixtures/slope.ts';
import { importSetupImage } from '../fixtures/tiny-image.ts';

/**
 * Many runs at once through a service, in rounds: what they ask for is quick, long, much, slowly read, cut off, asked for twice and killed,
 * and of some the sandbox is killed from outside. On an engine of its own, so that everything can be counted. The same seed makes the
 * same calls: `GLOVEBOX_SEED=1 SOAK_PARALLEL=10 SOAK_ROUNDS=3 npx vitest run --project soak test/soak/load.test.ts`.
 */
const seed = seedGiven();
const parallel = Number(process.env['SOAK_PARALLEL'] ?? 50);
const rounds = Number(process.env['SOAK_ROUNDS'] ?? 6);
const callsPerRun = 20;
/** Until compiled code and caches are as large as ever. */
const warmUp = Math.min(1, rounds - 1);

const usualTemporary = process.env['TMPDIR'];
let own: PrivateEngine;
let bench: Bench;
let service: DyingService;
let inspector: Inspector | undefined;

beforeAll(async () => {
  own = await PrivateEngine.start();
  bench = await Bench.make();
  process.env['TMPDIR'] = join(bench.folder, 'tmp'); // ours alone, so that what is left there can be counted
  await mkdir(join(bench.folder, 'tmp'));
  const env = { DOCKER_HOST: `unix://${own.socket}` };
  service = new DyingService(bench.dataDir.path, env, ['--log-level', 'warn']);
});
afterAll(async () => {
  inspector?.close();
  service.kill();
  await recover(await own.connect(), bench.dataDir).catch(() => undefined); // of a test that failed
  await bench.close();
  await own.close();
  if (usualTemporary === undefined) delete process.env['TMPDIR'];
  else process.env['TMPDIR'] = usualTemporary;
});

test(`${rounds} times ${parallel} runs at once, ${callsPerRun} calls each (seed ${seed}): none is lost or doubled, and nothing is left`, async () => {
  const image = await importSetupImage(await own.connect(), 'glovebox-test/load:1');
  const extra = 'budget: { max_actions_per_run: 2000, max_parallel_actions: 16 }\n';
  const text = smallPolicyText(extra)
    .replace('[base]', `[${image}]`)
    .replace('command_timeout: 20s', 'command_timeout: 10m');
  const next = randomFrom(seed);
  await service.start();
  const first = await openOne({ key: 'first', policy: { text }, next });
  await first.expectTrue();
  expect(await service.stop()).toBe(0);
  const before = await countThings(own); // with what the first run leaves for all
  inspector = await Inspector.attach(await service.startInspected());
  await fill({ text });
  const heap: [number, number][] = [];
  const objects: [number, number][] = [];
  const descriptors: number[] = [];
  const sum = { calls: 0, lost: 0, killed: 0, callMs: 0 };
  for (let round = 0; round < rounds; round++) {
    const done = await playLoad({
      service,
      dataDir: bench.dataDir,
      policy: { text },
      round,
      parallel,
      callsPerRun,
      next,
      killContainer,
    });
    for (const name of ['calls', 'lost', 'killed', 'callMs'] as const) sum[name] += done[name];
    await atRest();
    heap.push([round * parallel, await inspector.heapBytes()]);
    objects.push([round * parallel, objectBytes(await inspector.snapshot())]);
    descriptors.push((await readdir(`/proc/${service.pid}/fd`)).length);
    const perSecond = Math.round(done.calls / (done.callMs / 1000));
    console.log(
      `round ${round}: open ${Math.round(done.openMs)} ms, ${perSecond} calls/s, closed ${Math.round(done.closeMs)} ms, ` +
        `heap ${heap.at(-1)?.[1]} bytes, of it objects ${objects.at(-1)?.[1]}, resident ${await resident()}, descriptors ${descriptors.at(-1)}`,
    );
  }
  inspector.close();
  const [heapSlope, slopeBytes] = [slopeOf(heap.slice(warmUp)), slopeOf(objects.slice(warmUp))];
  expect(await service.stop()).toBe(0);
  const left = await leftOver(own, before);
  const perSecond = Math.round(sum.calls / (sum.callMs / 1000));
  console.log(
    `seed ${seed}: ${rounds * parallel} runs, ${sum.calls} calls answered at ${perSecond} a second, ${sum.killed} sandboxes killed ` +
      `(${sum.lost} calls lost with them), objects ${Math.round(slopeBytes)} bytes a run, ` +
      `heap ${Math.round(heapSlope)}, left ${JSON.stringify(left)}`,
  );
  expect(left).toEqual({});
  expect(await bench.dataDir.listInstances()).toEqual([]);
  expect(await readdir(join(bench.dataDir.path, 'sandboxes'))).toEqual([]);
  expect(descriptors.at(-1)).toBeLessThanOrEqual((descriptors[0] ?? 0) + 4);
  if (rounds - warmUp >= 4) expect(slopeBytes).toBeLessThan(objectsPerRunMax);
  if (rounds - warmUp >= 4) expect(heapSlope).toBeLessThan(heapPerRunMax);
});

/** Bytes. A run that is held on to is a hundred times as many; compiled code still grows while the service goes on. */
const objectsPerRunMax = 1_024;
const heapPerRunMax = 8_192;

/** As many events as a service keeps, so that more of them are no more memory; each call is two. */
async function fill(policy: object): Promise<void> {
  const runs = await Promise.all([0, 1, 2, 3].map((n) => openOne({ key: `fill-${n}`, policy, next: randomFrom(n) })));
  const lane = async (run: DrivenRun, of: number): Promise<void> => {
    for (let n = of; n < eventsKept / 8; n += 8)
      await service.insist('PUT', `/v1/runs/${run.id}/calls/f${n}`, { tool: 'list', path: '.' });
  };
  await Promise.all(runs.flatMap((run) => Array.from({ length: 8 }, (_, of) => lane(run, of))));
  await Promise.all(runs.map((run) => service.insist('POST', `/v1/runs/${run.id}/close`, {})));
}

const eventsKept = 8_192;

const killContainer = (id: string): Promise<unknown> => own.docker('kill', id);

function openOne(asked: Parameters<typeof DrivenRun.open>[2]): Promise<DrivenRun> {
  return DrivenRun.open(service, bench.dataDir, asked);
}

/** No run is open or being closed, and no sandbox is being made. */
async function atRest(): Promise<void> {
  await expect.poll(busy, { timeout: 60_000, interval: 200 }).toBe('');
  await sleep(500); // timers of connections
}

async function busy(): Promise<string> {
  const answer = await service.begin('GET', '/metrics');
  let text = '';
  for await (const part of answer as AsyncIterable<Buffer>) text += part.toString();
  const lines = text
    .split('\n')
    .filter((line) => /^glovebox_(runs_open|runs_opening|pool_making|http_streams_open) /.test(line));
  return lines.filter((line) => !line.endsWith(' 0')).join(', ');
}

async function resident(): Promise<string> {
  const [, kib = '?'] = /VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${service.pid}/status`, 'utf8')) ?? [];
  return `${kib} KiB`;
}
