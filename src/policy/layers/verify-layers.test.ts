import { expect, test } from 'vitest';
import { isRunnerError } from '../../errors.ts';
import { parseChain, policyFor, type Policy } from '../policy.ts';

const head = (name: string): string =>
  `apiVersion: glovebox/v1\nkind: Policy\nname: ${name}\nimages: [base]\nfiles: {read: ["**"]}\n`;

function load(texts: readonly string[], taskClass?: string): Policy {
  const chain = parseChain(texts.map((text, at) => ({ text: head(`layer${at}`) + text, source: `${at}.yaml` })));
  return policyFor(chain, { taskClass }).policy;
}

function messageOf(...texts: readonly string[]): string {
  try {
    load(texts);
    return 'no error';
  } catch (error) {
    if (isRunnerError(error, 'invalid_policy')) return error.message;
    throw error;
  }
}

test('a policy that says nothing of it means what it meant before there was such a thing', () => {
  expect(load([''])).not.toHaveProperty('verify');
});

test('gates of all layers hold, for the class of the task; of numbers and words the strictest', () => {
  const above =
    'verify: {gates: [{id: unit, run: [a]}], reruns: {same: 5, base: 1}, diff: {files: 10, binary: deny}}\n';
  const below =
    'classes: {docs: {}, fix: {}}\nverify: {gates: [{id: types, script: b, classes: [fix], timeout: 5s, required: false}], reruns: {same: 9}, diff: {lines: 50}}\n';
  const { verify } = load([above, below], 'fix');
  expect(verify?.gates.map(({ id, required, timeoutMs }) => [id, required, timeoutMs])).toEqual([
    ['unit', true, 600_000],
    ['types', false, 5_000],
  ]);
  expect(verify?.reruns).toEqual({ same: 9, shuffled: 3, noNetwork: 3, halfCpu: 3, base: 1 });
  expect(verify?.diff).toEqual({ files: 10, lines: 50, generated: 'review', binary: 'deny' });
  expect(load([above, below], 'docs').verify?.gates.map(({ id }) => id)).toEqual(['unit']);
});

test('inputs may name path sets', () => {
  const { verify } = load([
    'path_sets: {checks: ["check.sh", "tools/**"]}\nverify: {gates: [{id: a, run: [a], inputs: [$checks, b]}]}\n',
  ]);
  expect(verify?.gates[0]?.inputs).toEqual(['check.sh', 'tools/**', 'b']);
});

test.each<readonly [string, readonly string[], string]>([
  ['a gate of two minds', ['verify: {gates: [{id: a, run: [a], script: b}]}\n'], 'either `run` or `script`'],
  ['a gate that does nothing', ['verify: {gates: [{id: a}]}\n'], 'either `run` or `script`'],
  ['a name of ours', ['verify: {gates: [{id: scope, run: [a]}]}\n'], 'one that every candidate passes through'],
  ['an id twice', ['verify: {gates: [{id: a, run: [a]}, {id: a, run: [b]}]}\n'], 'the id a twice'],
  [
    'an id from above',
    ['verify: {gates: [{id: a, run: [a]}]}\n', 'verify: {gates: [{id: a, run: ["true"]}]}\n'],
    'is taken by 0.yaml',
  ],
  ['no such class', ['verify: {gates: [{id: a, run: [a], classes: [fix]}]}\n'], 'no task class "fix"'],
  ['no such profile', ['verify: {gates: [{id: a, run: [a], egress: [npm]}]}\n'], 'no egress profile "npm"'],
  [
    'a path that climbs',
    ['verify: {gates: [{id: a, run: [a], report: {kind: tap, path: /tmp/../etc/x}}]}\n'],
    'without `..`',
  ],
  ['a NUL', ['verify: {gates: [{id: a, script: "a\\0b"}]}\n'], 'NUL'],
  ['fewer reruns', ['verify: {reruns: {same: 5}}\n', 'verify: {reruns: {same: 4}}\n'], '4 is fewer than the 5'],
  ['more files', ['verify: {diff: {files: 5}}\n', 'verify: {diff: {files: 6}}\n'], '6 is more than the 5'],
  [
    'a weaker word',
    ['verify: {diff: {binary: deny}}\n', 'verify: {diff: {binary: review}}\n'],
    'review is weaker than deny',
  ],
])('%s does not load', (_, texts, message) => {
  expect(messageOf(...texts)).toContain(message);
});
