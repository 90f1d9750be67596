import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { causes, quickCauses } from './fixtures/drift-causes.ts';
import { compareSides, DriftWorld } from './fixtures/drift-world.ts';

/** What is really otherwise is called what it is, first of all. `test/soak/drift.test.ts` has all causes. */
let world: DriftWorld;
beforeAll(async () => {
  world = await DriftWorld.make();
});
afterAll(async () => {
  await world.close();
});

describe('a cause that is injected', () => {
  test.each(causes.filter(({ name }) => quickCauses.includes(name)))(
    '$name: $kind',
    async ({ kind, made, than = {} }) => {
      const { findings } = compareSides(await world.expected(than), await world.side(made));
      expect(findings.map((finding) => finding.kind)[0]).toBe(kind);
    },
  );
});

test('two runs that nothing was done to differ in nothing, and neither do two looks at one', async () => {
  const [expected, found] = [await world.expected({}), await world.side({})];
  expect(compareSides(expected, found)).toEqual({ findings: [], more: {}, unseen: [] });
});

test('all that the quick ones name is there', () => {
  expect(causes.length).toBeGreaterThanOrEqual(60);
  expect(new Set(causes.map(({ name }) => name)).size).toBe(causes.length);
  for (const name of quickCauses) expect(causes.some((cause) => cause.name === name)).toBe(true);
});
