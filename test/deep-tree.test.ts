import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { labelKeys } from '../src/engine/labels.ts';
import { Runner } from '../src/runner.ts';
import { Layer } from '../src/workspace/layer/layer.ts';
import { parsePolicy } from '../src/policy/policy.ts';
import { Bench, smallPolicyText } from './fixtures/bench.ts';
import { elsewhere } from './fixtures/elsewhere.ts';

let bench: Bench;

beforeAll(async () => {
  bench = await Bench.make();
});
afterAll(() => bench.close());

/** A directory takes a block: 20,000 of them must fit. */
const policy = parsePolicy(smallPolicyText().replace('workspace: 32MiB', 'workspace: 160MiB'), 'test');

const digger = `import os
for top in ('src', 'build'):
    os.makedirs(top, exist_ok=True)
    os.chdir(top)
    for _ in range(10_000):
        os.mkdir('d')
        os.chdir('d')
    open('leaf', 'w').write('deep')
    os.chdir('/workspace')
open('src/found.txt', 'w').write('beside it')
print('dug')`;

test.each(['overlay', 'copy'])(
  'a tree 10,000 directories deep keeps no tool, snapshot or diff waiting, is named, and goes with the run (%s)',
  async (strategy) => {
    const runner = await Runner.create(strategy === 'copy' ? elsewhere(bench.engine) : bench.engine, bench.dataDir);
    const run = await runner.open({
      policy,
      workspace: await bench.workspace({ 'src/a.txt': 'one\n' }),
    });
    expect(await Layer.isThere(run.dir.layer)).toBe(strategy === 'overlay');
    const dug = await run.call('dig', { tool: 'exec', script: `python3 - <<'end'\n${digger}\nend` });
    expect(dug.text).toMatch(/^dug/);

    const startedMs = performance.now();
    for (const [callId, tool] of [
      ['l', 'list'],
      ['g', 'glob'],
      ['s', 'grep'],
    ] as const) {
      const asked = tool === 'list' ? { tool, path: 'src' } : { tool, pattern: tool === 'glob' ? '**/leaf' : 'deep' };
      expect((await run.call(callId, asked)).text.length, tool).toBeLessThan(40_000);
    }
    await expect(run.snapshot({ scratch: true })).rejects.toMatchObject({
      code: 'export_refused',
      message: expect.stringMatching(/too deep|limit_exceeded/),
    });
    await run.close();
    expect(performance.now() - startedMs).toBeLessThan(20_000);

    expect(run.candidate?.findings).toEqual(
      expect.arrayContaining([expect.objectContaining({ kind: 'limit_exceeded', effect: 'incomplete' })]),
    );
    expect(await bench.containers()).toEqual([]);
    expect(
      await bench.engine.listVolumes({ [labelKeys.owner]: bench.dataDir.owner, [labelKeys.workspace]: '' }),
    ).toEqual([]);
    expect(await Layer.isThere(run.dir.layer)).toBe(false);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(run.id);
    await runner.close();
  },
  60_000,
);
