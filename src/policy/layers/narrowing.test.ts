import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isRunnerError } from '../../errors.ts';
import { Scope } from '../../workspace/scope/scope.ts';
import { PathRules, pathClasses } from '../decisions/path-rules.ts';
import { parseChain, policyFor } from '../policy.ts';
import type { TaskRequest } from './restriction.ts';

const head = (name: string): string => `apiVersion: glovebox/v1\nkind: Policy\nname: ${name}\n`;
const org = (rest: string): string => head('floor') + rest;
const repo = (rest: string): string => head('repo') + rest;
const minimal = 'images: [base]\nfiles: {read: ["**"], write: ["src/**"]}\n';

function load(texts: readonly string[], task: TaskRequest = {}) {
  const chain = parseChain(
    texts.map((text, at) => ({ text, source: at === texts.length - 1 ? 'repo.yaml' : 'org.yaml' })),
  );
  return policyFor(chain, task);
}

function messageOf(texts: readonly string[], task: TaskRequest = {}): string {
  try {
    load(texts, task);
  } catch (error) {
    if (isRunnerError(error)) return error.message;
    throw error;
  }
  return 'no error';
}

describe('laws', () => {
  const globs = [
    '**',
    'src/**',
    'src/*.ts',
    'src/a/**',
    'docs/**',
    '**/*.md',
    'a',
    '**/x/**',
    'src/x/**',
    '{a,b}/**',
    '[ab]/*',
  ];
  const paths = [
    'a',
    'b',
    'src/a',
    'src/a/b',
    'src/i.ts',
    'src/x/y',
    'docs/a.md',
    'docs/x/b',
    'README.md',
    'a/b',
    'b/x/z',
    'x/a',
  ];
  const list = fc
    .uniqueArray(fc.constantFrom(...globs, '!src/a/**', '!**/*.md', '!a'), { maxLength: 4 })
    .filter((globs) => globs.length === 0 || globs.some((glob) => !glob.startsWith('!')));
  const files = fc
    .record(
      { read: list, write: list, write_ask: list, propose_only: list, scratch: list, deny: list },
      { requiredKeys: [] },
    )
    .map((lists) => JSON.stringify(lists));
  const layers = fc.array(files, { minLength: 1, maxLength: 4 });
  const whole = (lists: readonly string[]): readonly string[] =>
    lists.map((text, at) =>
      at === lists.length - 1 ? repo(`images: [base]\nfiles: ${text}\n`) : head(`l${at}`) + `files: ${text}\n`,
    );

  test('narrowing never widens: no path is allowed more than any of the layers allows it', () => {
    let loaded = 0;
    fc.assert(
      fc.property(layers, (lists) => {
        const texts = whole(lists);
        if (messageOf(texts) !== 'no error') return;
        loaded += 1;
        const { policy } = load(texts);
        const all = new PathRules(policy.paths);
        const scope = Scope.compile(policy.files);
        for (const path of paths) {
          const allowed = pathClasses.indexOf(all.classOf(path));
          for (const layer of policy.paths) {
            expect(allowed).toBeLessThanOrEqual(pathClasses.indexOf(new PathRules([layer]).classOf(path)));
          }
          // What is absent is not brought into the sandbox either; what is denied anywhere is absent.
          if (allowed === 0) expect(scope.imports(path), `${path} in ${JSON.stringify(policy.files)}`).toBe(false);
          if (allowed <= 1 && scope.classOf(path) === 'write') expect(pathClasses[allowed]).toBe('absent');
        }
      }),
      { numRuns: 400 },
    );
    expect(loaded).toBeGreaterThan(20);
  });

  test('a request lower than the policy is what comes out, and never more than the policy', () => {
    const number = fc.integer({ min: 1, max: 100 });
    fc.assert(
      fc.property(number, number, number, (a, b, c) => {
        const texts = [
          org(`budget: {max_actions_per_run: ${a}}\n`),
          repo(`${minimal}budget: {max_actions_per_run: ${b}}\n`),
        ];
        const message = messageOf(texts, { intent: { budget: { max_actions_per_run: c } } });
        expect(message === 'no error').toBe(b <= a && c <= b);
        if (message === 'no error')
          expect(load(texts, { intent: { budget: { max_actions_per_run: c } } }).policy.budget.maxActionsPerRun).toBe(
            c,
          );
      }),
    );
  });
});
