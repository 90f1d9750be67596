import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { sandboxLabels } from '../src/engine/labels.ts';
import { newId } from '../src/ids.ts';
import { readAccepted, resolveImage } from '../src/images/accepted.ts';
import { Runner } from '../src/runner.ts';
import { defaultLimits } from '../src/sandbox/container-body.ts';
import { Sandbox } from '../src/sandbox/sandbox.ts';
import { reconcile } from '../src/service/reconcile.ts';
import { Bench, smallPolicy } from './fixtures/bench.ts';

let bench: Bench;
let runner: Runner;

beforeEach(async () => {
  bench = await Bench.make();
  runner = await Runner.create(bench.engine, bench.dataDir);
});
afterEach(async () => {
  await runner.close();
  await bench.close();
});

/** Sandboxes with our labels of a runner that is dead. */
async function strangers(count: number): Promise<void> {
  const image = await resolveImage(bench.engine, await readAccepted(bench.dataDir.path), 'base');
  for (let n = 0; n < count; n++) {
    const id = newId();
    await bench.dataDir.sandboxes.assign(id, newId());
    const labels = sandboxLabels({
      owner: bench.dataDir.owner,
      instance: newId(),
      sandbox: id,
      created: new Date(),
    });
    const spec = { id, image, runtime: 'runc', limits: defaultLimits, labels } as const;
    await Sandbox.open(bench.engine, spec, { directory: `${bench.folder}/${id}` });
  }
}

test('where most sandboxes are unknown to the service nothing is touched, unless somebody says so', async () => {
  await strangers(4);
  const parts = { runner, engine: bench.engine, dataDir: bench.dataDir };
  await expect(reconcile({ ...parts, known: () => false })).rejects.toMatchObject({ code: 'data_dir_unusable' });
  expect(await bench.containers()).toHaveLength(4);
  const { removed } = await reconcile({ ...parts, known: () => false, takeStrangers: true });
  expect(removed.containers).toHaveLength(4);
  expect(await bench.containers()).toEqual([]);
  const again = await reconcile(parts);
  expect([again.resumed, again.lost, again.removed.containers]).toEqual([[], [], []]);
});

test('what is left of a run whose container could not be removed is found once the engine works again', async () => {
  const run = await runner.open({ policy: smallPolicy() });
  const failing = vi.spyOn(bench.engine, 'destroy').mockRejectedValue(new Error('the engine does not answer'));
  await expect(run.close('finished', '')).rejects.toThrow('the engine does not answer');
  failing.mockRestore();
  expect(await bench.containers()).toHaveLength(1);
  await runner.closeLost(run.id, 'it did not close');
  expect(await bench.containers()).toEqual([]);
  expect(await bench.dataDir.sandboxes.list()).toEqual([]);
});
