import { afterAll, beforeAll, expect, test } from 'vitest';
import { observe } from '../../src/drift/observed.ts';
import { readEntries } from '../../src/journal/read.ts';
import type { DriftKind } from '../../src/policy/language/drift.ts';
import { confusionTable } from '../fixtures/confusion.ts';
import { causes } from '../fixtures/drift-causes.ts';
import { compareSides, DriftWorld } from '../fixtures/drift-world.ts';

/** Every cause, really made, and what it is called; then two hundred runs to whose environment nothing was done. */
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

test('of two hundred runs that nobody has touched none finds anything, in itself or beside the first', async () => {
  const expected = await world.expected({});
  const found: string[] = [];
  for (let runs = 0; runs < 200; runs++) {
    const run = await world.open({ policy: 'drift: { check: [open, after_calls, close], after_calls_every: 1 }' });
    const script = `echo ${runs} > src/b.txt; seq 1000 > /tmp/x; mkdir -p build; date > build/when`;
    expect(await run.call('c1', { tool: 'exec', script })).toMatchObject({ ok: true });
    const { fingerprint } = await run.fingerprints.take('asked');
    await run.close();
    const observed = await observe(readEntries(run.dir.journal));
    for await (const entry of readEntries(run.dir.journal))
      if (entry.type === 'drift.found') found.push(...entry.data.findings.map(({ text }) => `in itself: ${text}`));
    const { findings } = compareSides(expected, { fingerprint, observed });
    found.push(...findings.filter(({ kind }) => kind !== 'policy').map(({ kind, text }) => `${kind}: ${text}`));
  }
  expect(found).toEqual([]);
});
