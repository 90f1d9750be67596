import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DriftKind } from '../../src/policy/language/drift.ts';
import { confusionTable } from '../fixtures/confusion.ts';
import { causes } from '../fixtures/drift-causes.ts';
import { compareSides, DriftWorld } from '../fixtures/drift-world.ts';

/** Every cause, really made, and what it is called; then two hundred looks at environments that nothing was done to. */
let world: DriftWorld;
beforeAll(async () => {
  world = await DriftWorld.make();
});
afterAll(async () => {
  await world.close();
});

test('of all causes at least 95 in 100 are called what they are, with both values', async () => {
  const pairs: (readonly [DriftKind, string])[] = [];
  const wrong: string[] = [];
  for (const { name, kind, made, than = {} } of causes) {
    const { findings } = compareSides(await world.expected(than), await world.side(made));
    const [first] = findings;
    pairs.push([kind, first?.kind ?? 'nothing']);
    const isRight = first?.kind === kind && first.text !== '' && first.expected !== first.found;
    if (!isRight)
      wrong.push(`${name}: ${kind} was called ${findings.map((one) => `${one.kind} ${one.key}`).join(', ')}`);
  }
  const right = causes.length - wrong.length;
  console.log(
    `${right} of ${causes.length} causes were called what they are\n${confusionTable(pairs)}\n${wrong.join('\n')}`,
  );
  expect(right / causes.length).toBeGreaterThanOrEqual(0.95);
});

test('of two hundred looks at what nobody has touched, in twenty-five runs, none finds anything', async () => {
  const expected = await world.expected({});
  const found: string[] = [];
  for (let runs = 0; runs < 25; runs++) {
    const run = await world.open({});
    for (let looks = 0; looks < 8; looks++) {
      await run.call(`c${looks}`, { tool: 'exec', script: `echo ${looks} > src/b.txt; seq 1000 > /tmp/x` });
      const { fingerprint } = await run.fingerprints.take('asked');
      const { findings } = compareSides(expected, { ...expected, fingerprint });
      found.push(...findings.map(({ kind, key, text }) => `${kind} ${key}: ${text}`));
    }
    await run.close();
  }
  expect(found).toEqual([]);
});
