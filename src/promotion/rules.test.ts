import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parsePolicy, type Policy } from '../policy/policy.ts';
import { demandOf, reviewersOf, type Demand, type Proposal } from './rules.ts';
import { tightenedBy } from './tighten.ts';

function policyOf(promotion: string): Policy {
  const head = 'apiVersion: glovebox/v1\nkind: Policy\nname: p\nimages: [base]\nfiles: {read: ["**"]}\n';
  return parsePolicy(`${head}promotion: ${promotion}\n`, 'p.yaml').policy;
}

const docs = { path: 'docs/a.md', categories: ['documentation'] };
const code = { path: 'src/a.ts', categories: ['source'] };
const hook = { path: '.husky/x', categories: ['execution_bearing'] };

function asked(promotion: string | undefined, over: Partial<Proposal> = {}): Omit<Demand, 'because'> {
  const policy = promotion === undefined ? { taskClass: null, lane: null } : policyOf(promotion);
  const proposal = { risk: 'low', verdict: 'passed', changes: [docs], lines: 10, ...over } as const;
  const { because, ...demand } = demandOf(policy, proposal);
  expect(because.length).toBeGreaterThan(0);
  return demand;
}

const auto = { action: 'auto', reviews: 0, owners: false };
const one = { action: 'review', reviews: 1, owners: false };
const never = { action: 'never', reviews: 0, owners: false };

test('who accepts has to be known as surely as the strictest layer wants', () => {
  const layers = ['named', 'signed', 'authenticated'].map((way) => policyOf(`{reviewers: ${way}}`).promotion ?? []);
  expect(layers.map((promotion) => reviewersOf({ promotion }))).toEqual(['named', 'signed', 'authenticated']);
  expect(reviewersOf({ promotion: layers.flat() })).toBe('signed');
  expect(reviewersOf({})).toBe('named');
});

describe('without rules', () => {
  test.each([
    ['low', one],
    ['medium', one],
    ['high', one],
    ['critical', { action: 'review', reviews: 2, owners: true }],
  ] as const)('%s risk', (risk, demand) => {
    expect(asked(undefined, { risk })).toEqual(demand);
  });
});

describe('rules', () => {
  const rules = `{rules: [
    {id: docs, when: {risk: [low], categories: [documentation], lines_below: 100}, action: auto},
    {id: hooks, when: {categories: [execution_bearing]}, action: review, reviews: 2, owners: true},
    {id: infra, when: {write_path: ["infra/**"]}, action: never},
    {id: large, when: {lines_above: 1000}, action: review, reviews: 3},
    {id: again, when: {write_path: ["build/**"]}, action: review, repeatable: true}]}`;
  const built = { ...code, path: 'build/a.sh' };

  test.each([
    ['what lets through lets all of it through', {}, auto],
    ['what lets through has to fit every change', { changes: [docs, code] }, one],
    ['and every category of it', { changes: [{ ...docs, categories: ['documentation', 'binary'] }] }, one],
    ['what holds up fits one change', { changes: [docs, hook] }, { action: 'review', reviews: 2, owners: true }],
    ['one path is enough to never go', { changes: [docs, { ...docs, path: 'infra/x.md' }] }, never],
    ['at another risk it does not fit', { risk: 'medium' }, one],
    ['the strictest counts', { changes: [hook], lines: 1001 }, { action: 'review', reviews: 3, owners: true }],
    ['lines_below is below', { lines: 100 }, one],
    ['what is to be repeatable goes nowhere before it was replayed', { changes: [built] }, never],
    ['nor when it diverged', { changes: [built], replay: 'diverged' }, never],
    ['nor when not all of it could be made again', { changes: [built], replay: 'incomplete' }, never],
    ['when it came out the same, the rest of the rule holds', { changes: [built], replay: 'clean' }, one],
  ] as const)('%s', (_, over, demand) => {
    expect(asked(rules, over)).toEqual(demand);
  });

  test.each([
    ['needs_review', one],
    ['failed', never],
    ['broken', never],
    [undefined, never],
  ] as const)('what would go by itself does not when the verification says %s', (verdict, demand) => {
    expect(asked(rules, { verdict })).toEqual(demand);
  });

  test('needs_review asks for one person more', () => {
    expect(asked(undefined, { verdict: 'needs_review' })).toEqual({ action: 'review', reviews: 2, owners: false });
  });

  test('every layer has to be content', () => {
    const layers = [rules, '{rules: [{id: all, action: auto}]}'].flatMap((text) => policyOf(text).promotion ?? []);
    const both = { taskClass: null, lane: null, promotion: layers };
    const proposal = { risk: 'low', verdict: 'passed', changes: [code], lines: 1 } as const;
    expect(demandOf(both, proposal).action).toBe('review');
    expect(demandOf({ ...both, promotion: layers.slice(1) }, proposal).action).toBe('auto');
  });

  test('one more rule that holds up never makes a demand smaller', () => {
    const order = { auto: 0, review: 1, never: 2 };
    const rule = fc.record({
      id: fc.constant('r'),
      when: fc.record({ categories: fc.subarray(['documentation', 'source', 'execution_bearing'], { minLength: 1 }) }),
      action: fc.constantFrom('auto', 'review', 'never'),
    });
    fc.assert(
      fc.property(
        fc.array(rule, { maxLength: 4 }),
        rule,
        fc.subarray([docs, code, hook], { minLength: 1 }),
        (all, more, changes) => {
          fc.pre(more.action !== 'auto' && all.length > 0);
          const demanded = (list: readonly unknown[]): Demand =>
            demandOf(policyOf(JSON.stringify({ rules: list })), { risk: 'low', verdict: 'passed', changes, lines: 1 });
          const [before, after] = [demanded(all), demanded([...all, more])];
          const looser = before.because.join().includes('no rule') ? 'auto' : before.action;
          expect(order[after.action]).toBeGreaterThanOrEqual(order[looser]);
        },
      ),
      { numRuns: 60 },
    );
  });
});

test('a policy says what each rule can be about, and nothing else', () => {
  for (const wrong of [
    '{rules: [{id: a, action: auto, reviews: 2}]}',
    '{rules: [{id: a, when: {category: [source]}, action: auto}]}',
    '{rules: [{id: a, action: merge}]}',
    '{tighten_when: {window: 1, to: review}}',
  ])
    expect(() => policyOf(wrong)).toThrow(/promotion/);
});

describe('a lane that goes wrong', () => {
  const policy = policyOf('{tighten_when: {window: 10, failures_above: 2, rollbacks_above: 1, to: owners}}');
  const record = { verified: 10, failures: 2, promoted: 5, rollbacks: 1 };

  test.each([
    ['at its bounds is left alone', record, undefined],
    ['with more failures', { ...record, failures: 3 }, /3 of its last 10 verified runs did not pass \(above 2\)/],
    ['with more rollbacks', { ...record, rollbacks: 2 }, /2 of its last 5 promotions were rolled back \(above 1\)/],
  ])('%s', (_, found, says) => {
    const windows: number[] = [];
    const tightened = tightenedBy(policy, (window) => {
      windows.push(window);
      return found;
    });
    expect(windows).toEqual([10]);
    if (says === undefined) expect(tightened).toBeUndefined();
    else expect(tightened?.because).toMatch(says);
    if (says !== undefined) expect(tightened?.demand).toMatchObject({ action: 'review', reviews: 2, owners: true });
  });
});
