import { describe, expect, test } from 'vitest';
import { parseChain, policyFor } from '../policy.ts';
import { lintPolicy } from '../texts/lint.ts';
import { explainPolicy } from '../texts/explain.ts';
import { reachDiff } from '../texts/reach-diff.ts';
import type { ContextTerms, Policy } from './effective-policy.ts';

const file = (context: string, more = ''): string =>
  `apiVersion: glovebox/v1\nkind: Policy\nname: p\nimages: [base]\nfiles: {read: ["**"]}\napprovals: {categories: {schema: {}, release: {}}}\n${context}${more}`;

function load(...texts: readonly string[]): Policy {
  return policyFor(chainOf(...texts), {}).policy;
}

function chainOf(...texts: readonly string[]) {
  return parseChain(texts.map((text, at) => ({ text, source: `${at}.yaml` })));
}

const terms = (...texts: readonly string[]): ContextTerms | undefined => load(...texts).context;

describe('what is asked for of contexts', () => {
  test('is nothing where no layer says anything, and does not change what a policy is', () => {
    expect(load(file(''))).not.toHaveProperty('context');
  });

  test('adds up over the layers, and the shortest age holds', () => {
    const above = file('context: {fresh_before: [schema], max_age_calls: 20}\n');
    expect(terms(above, file('context: {fresh_before: [release], max_age_calls: 5}\n'))).toEqual({
      freshBefore: ['schema', 'release'],
      maxAgeCalls: 5,
    });
    expect(terms(above, file('context: {fresh_before: []}\n'))).toEqual({ freshBefore: ['schema'], maxAgeCalls: 20 });
    expect(terms(above, file(''))).toEqual({ freshBefore: ['schema'], maxAgeCalls: 20 });
  });

  test('is not made weaker by a lower layer', () => {
    const above = file('context: {fresh_before: [schema], max_age_calls: 5}\n');
    expect(() => load(above, file('context: {max_age_calls: 6}\n'))).toThrow(
      /^1\.yaml:\d+:\d+: context\.max_age_calls: 6 is more than what 0\.yaml:\d+:\d+ allows; a lower layer can only narrow$/,
    );
  });

  test('names what a call can be, or does not load', () => {
    expect(() => load(file('context: {fresh_before: [schemas]}\n'))).toThrow(/no category of approvals and no tag/);
    const tagged = 'commands: [{id: a, match: {program: npm}, tags: [dep], effect: allow, tests: {match: [npm ci]}}]\n';
    expect(terms(file('context: {fresh_before: [dep, write_ask]}\n', tagged))?.freshBefore).toEqual([
      'dep',
      'write_ask',
    ]);
    expect(() => load(file('context: {fresh: [schema]}\n'))).toThrow(/fresh/);
    expect(() => load(file('context: {fresh_before: [schema], max_age_calls: 0}\n'))).toThrow(/max_age_calls/);
  });

  test('is explained with who asks for it, and compared', () => {
    const chain = chainOf(
      file('context: {fresh_before: [schema], max_age_calls: 20}\n'),
      file('context: {fresh_before: [release]}\n'),
    );
    const lines = explainPolicy(policyFor(chain, {})).filter(({ key }) => key.startsWith('context.'));
    expect(lines.map(({ key, value, layer }) => [key, value, layer])).toEqual([
      ['context.schema', 'needs a fresh snapshot', 'organisation p'],
      ['context.release', 'needs a fresh snapshot', 'repository p'],
      ['context.max_age_calls', '20', 'organisation p'],
    ]);
    const less = load(file(''));
    const more = load(file('context: {fresh_before: [schema], max_age_calls: 20}\n'));
    const lost = [
      'calls with one context snapshot: 20 instead of no limit',
      'asks what the agent believes before: schema',
    ];
    expect(reachDiff(less, more)).toMatchObject({ gained: [], lost });
    expect(reachDiff(more, less).gained).toHaveLength(2);
  });

  test('with an age and no call that it is for is linted', () => {
    const found = lintPolicy(chainOf(file('context: {max_age_calls: 5}\n')));
    expect(found).toContainEqual(expect.objectContaining({ kind: 'unused', key: 'context.max_age_calls' }));
  });
});
