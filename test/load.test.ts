import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Bench, smallPolicyText } from './fixtures/bench.ts';
import { DyingService } from './fixtures/dying-service.ts';
import { playLoad } from './fixtures/load.ts';
import { randomFrom, seedGiven } from './fixtures/random.ts';

/** What `test/soak/load.test.ts` does with many, on the shared engine: `GLOVEBOX_SEED` plays the same again. */
const seed = seedGiven();

let bench: Bench;
let service: DyingService;

beforeAll(async () => {
  bench = await Bench.make();
  service = new DyingService(bench.dataDir.path, {}, ['--log-level', 'warn', '--warm', '0']);
  await service.start();
});
afterAll(async () => {
  service.kill();
  await bench.close();
});

test(`runs at once, quick, slow, flooding, cancelled, one killed (seed ${seed}): no call is lost or doubled, and nothing is left`, async () => {
  const killContainer = (id: string): Promise<unknown> => execa('docker', ['kill', id]);
  const much = { parallel: 3, callsPerRun: 8, round: 0, policy: { text: smallPolicyText() }, next: randomFrom(seed) };
  const done = await playLoad({ service, dataDir: bench.dataDir, killContainer, ...much });
  expect(done.killed).toBeGreaterThan(0);
  expect(await service.stop()).toBe(0);
  expect(await bench.containers()).toEqual([]);
});
