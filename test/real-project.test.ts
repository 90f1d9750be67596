import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { removeEnvironment } from '../src/environment/build.ts';
import { listEnvironmentLocks } from '../src/environment/lock.ts';
import { bugfixPolicy, changed, npmEnvironment, openBuilt, sh } from './fixtures/real/project.ts';
import { fetchQs } from './fixtures/real/sources.ts';
import { openRunnerBench } from './fixtures/runner-bench.ts';

const { bench, runner } = await openRunnerBench();

afterAll(async () => {
  const { path } = bench.dataDir;
  for (const lock of await listEnvironmentLocks(path)) await removeEnvironment(bench.engine, path, lock);
});

test('a project of others with npm dependencies: its own test suite is green, a broken one is not', async () => {
  const workspace = await mkdtemp(join(bench.folder, 'qs-'));
  await fetchQs(workspace);
  const policy = bugfixPolicy('node', npmEnvironment, ['lib/**', 'test/**']);
  const run = await openBuilt(runner, policy, workspace);
  expect(await sh(run, 'npm test')).toMatch(/# tests 743\n# pass {2}743/);
  await sh(run, "sed -i \"s/'indices'/'brackets'/\" lib/stringify.js");
  await expect(sh(run, 'npm test')).rejects.toThrow(/# fail/);
  await run.close();
  expect(changed(run)).toEqual(['lib/stringify.js']);
}, 300_000);
