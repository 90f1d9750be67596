import { expect, test } from 'vitest';
import { driftProblems, refuseDrifted } from './drifted.ts';
import type { Facts } from './facts.ts';

type Drifted = Facts['story']['drifted'];

const found = (reaction: Drifted[number]['reaction']): Drifted[number] => ({
  kind: 'mount',
  source: 'mounts',
  key: '/data',
  text: 'the mount /data is there',
  reaction,
});
const facts = (drifted: Drifted, verdict?: string) =>
  ({ story: { drifted }, ...(verdict === undefined ? {} : { verification: { verdict } }) }) as unknown as Facts;

test('a run without drift, or whose drift its policy only notes, stops or reclassifies, leaves as it is', () => {
  expect(driftProblems(facts([]))).toEqual([]);
  expect(driftProblems(facts([found('stop'), found('reclassify')]))).toEqual([]);
});

test('a run that drift has failed is not exported, verified or not', () => {
  for (const verdict of [undefined, 'passed'])
    expect(() => refuseDrifted('r1', facts([found('verify'), found('fail')], verdict))).toThrow(
      'run r1 is not exported: its environment has drifted (mount: the mount /data is there): nothing of it is exported; do its work again in another run',
    );
});

test('one that is to be verified again is exported once it has passed', () => {
  const drifted = [found('verify')];
  expect(() => refuseDrifted('r1', facts(drifted))).toThrow('glovebox verify r1');
  expect(() => refuseDrifted('r1', facts(drifted, 'failed'))).toThrow('the verification says failed');
  expect(driftProblems(facts(drifted, 'passed'))).toEqual([]);
});
