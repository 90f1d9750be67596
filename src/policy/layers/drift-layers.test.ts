import { expect, test } from 'vitest';
import { isRunnerError } from '../../errors.ts';
import { driftKinds, driftReactions } from '../language/drift.ts';
import { lintPolicy } from '../texts/lint.ts';
import { explainPolicy } from '../texts/explain.ts';
import { reachDiff } from '../texts/reach-diff.ts';
import { noDriftRules, parseChain, policyFor, type LoadedPolicy } from '../policy.ts';

const head = (name: string): string =>
  `apiVersion: glovebox/v1\nkind: Policy\nname: ${name}\nimages: [base]\nfiles: {read: ["**"]}\n`;

const chainOf = (texts: readonly string[]) =>
  parseChain(texts.map((text, at) => ({ text: head(`layer${at}`) + text, source: `${at}.yaml` })));
const load = (...texts: readonly string[]): LoadedPolicy => policyFor(chainOf(texts), {});

function messageOf(...texts: readonly string[]): string {
  try {
    load(...texts);
    return 'no error';
  } catch (error) {
    if (isRunnerError(error, 'invalid_policy')) return error.message;
    throw error;
  }
}

test('a policy that says nothing of drift means what it meant before there was such a thing', () => {
  expect(load('').policy).not.toHaveProperty('drift');
});

test('where nobody says otherwise it is looked at open and at close, and what is found is noted', () => {
  expect(noDriftRules).toMatchObject({ check: ['open', 'close'], afterCallsEvery: 10, clockSkewMs: 2000 });
  expect(new Set(Object.values(noDriftRules.reactions))).toEqual(new Set(['note']));
  expect(Object.keys(noDriftRules.reactions)).toEqual(Object.keys(driftKinds));
  expect(load('drift: {}\n').policy.drift).toEqual(noDriftRules);
});

test('looks of all layers hold, the shortest times and the strictest reactions', () => {
  const above = 'drift: {check: [open], after_calls_every: 9, reactions: {image: stop, env: note}}\n';
  const below = 'drift: {check: [open, after_calls], after_calls_every: 3, clock_skew: 1s, reactions: {env: verify}}\n';
  const { drift } = load(above, below).policy;
  expect(drift).toMatchObject({ check: ['open', 'after_calls'], afterCallsEvery: 3, clockSkewMs: 1000 });
  expect(drift?.reactions).toMatchObject({ image: 'stop', env: 'verify', mount: 'note' });
});

test.each<readonly [string, string, string, string]>([
  ['fewer looks', '{check: [open, close]}', '{check: [open]}', 'close is left out, which 0.yaml'],
  ['no look at all', '{check: [open]}', '{check: []}', 'open is left out'],
  ['later looks', '{after_calls_every: 2}', '{after_calls_every: 3}', '3 is more than the 2'],
  ['a clock that may be further off', '{clock_skew: 1s}', '{clock_skew: 2s}', '2000 is more than the 1000'],
  ...driftReactions
    .slice(1)
    .map(
      (word, at) =>
        [
          `${driftReactions[at]} instead of ${word}`,
          `{reactions: {mount: ${word}}}`,
          `{reactions: {mount: ${driftReactions[at]}}}`,
          `drift.reactions.mount: ${driftReactions[at]} is weaker than ${word}`,
        ] as const,
    ),
])('%s than a layer above asks for does not load', (_, above, below, message) => {
  expect(messageOf(`drift: ${above}\n`, `drift: ${below}\n`)).toContain(message);
  expect(messageOf(`drift: ${below}\n`, `drift: ${above}\n`)).toBe('no error');
});

test.each([
  ['a kind that there is not', '{reactions: {images: stop}}'],
  ['a reaction that there is not', '{reactions: {image: retry}}'],
  ['a look that there is not', '{check: [always]}'],
  ['a look twice', '{check: [open, open]}'],
  ['a number without a unit', '{clock_skew: 2}'],
])('%s does not load', (_, text) => {
  expect(messageOf(`drift: ${text}\n`)).not.toBe('no error');
});

test('explain says who decided each, and is silent where nobody says anything', () => {
  const keys = (loaded: LoadedPolicy) => explainPolicy(loaded).filter(({ key }) => key.startsWith('drift.'));
  expect(keys(load(''))).toEqual([]);
  const lines = keys(load('drift: {reactions: {image: fail}}\n', 'drift: {check: [open, after_calls]}\n'));
  expect(lines.map(({ key, value }) => [key, value])).toEqual([
    ['drift.check', 'open, after_calls, every 10 calls'],
    ['drift.clock_skew', '2s'],
    ['drift.image', 'fail'],
  ]);
  expect(lines[2]?.place).toMatch(/^0\.yaml:/);
  expect(lines[0]?.place).toMatch(/^1\.yaml:/);
});

test('diff tells a stricter policy from a milder one', () => {
  const [mild, strict] = [load(''), load('drift: {check: [after_calls], clock_skew: 1s, reactions: {mount: fail}}\n')];
  const { gained, lost } = reachDiff(mild.policy, strict.policy);
  expect(lost).toEqual(expect.arrayContaining(['on drift: fail (mount)', 'looks for drift at: after_calls']));
  expect(lost).toContain('clock skew: 1s instead of 2s');
  expect(lost).toContain('calls between looks for drift: 10 instead of no limit');
  expect(gained).toEqual(['looks for drift at no longer: open', 'looks for drift at no longer: close']);
});

test('lint finds a count of calls that nothing looks after', () => {
  const kinds = (text: string) => lintPolicy(chainOf([text])).map(({ key }) => key);
  expect(kinds('drift: {after_calls_every: 3}\n')).toContain('drift.after_calls_every');
  expect(kinds('drift: {check: [after_calls], after_calls_every: 3}\n')).not.toContain('drift.after_calls_every');
});
