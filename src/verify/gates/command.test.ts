import { expect, test } from 'vitest';
import type { EffectiveGate } from '../../policy/policy.ts';
import type { Attempt, AttemptRequest } from '../attempt.ts';
import type { Checks } from '../checks.ts';
import { commandGate, type CommandJudged } from './command.ts';
import { redGreenGate } from './red-green.ts';

const gate: EffectiveGate = {
  id: 'unit',
  command: { argv: ['check'] },
  timeoutMs: 1000,
  required: true,
  egress: [],
  inputs: [],
  redGreen: true,
};
const reporting: EffectiveGate = { ...gate, report: { kind: 'tap' } };
const rules = {
  gates: [gate],
  reruns: { same: 3, shuffled: 3, noNetwork: 3, halfCpu: 3, base: 2 },
  diff: { files: 1, lines: 1, generated: 'review', binary: 'review' },
} as const;

const exit = (code: number): Attempt => ({
  kind: 'ended',
  outcome: { kind: 'exited', code },
  egressDenied: [],
  tail: ['said'],
});
const told = (...failing: readonly string[]): Attempt => ({
  kind: 'ended',
  outcome: { kind: 'exited', code: failing.length === 0 ? 0 : 1 },
  egressDenied: [],
  tail: [],
  report: {
    kind: 'read',
    report: { cases: ['a', 'b', 'c'].map((name) => ({ name, state: failing.includes(name) ? 'failed' : 'passed' })) },
  },
});

type Ended = Extract<Attempt, { kind: 'ended' }>;

interface Given {
  readonly gate?: EffectiveGate;
  readonly touchesChecks?: boolean;
  /** By the number of the attempt in its place and way. */
  readonly attempt: (request: AttemptRequest, number: number) => Attempt;
}

async function judged({
  gate: given = gate,
  touchesChecks = false,
  attempt,
}: Given): Promise<CommandJudged & { made: string[] }> {
  const made: string[] = [];
  const checks = { any: touchesChecks, tests: ['t'] } as unknown as Checks;
  const result = await commandGate(given, { rules, checks }, async (request) => {
    const name = `${request.where}/${request.how}`;
    made.push(name);
    return attempt(request, made.filter((one) => one === name).length);
  });
  return { ...result, made };
}

test('what passes is run once; with the checks of the base too where the candidate says anything about checks', async () => {
  expect((await judged({ attempt: () => exit(0) })).made).toEqual(['candidate/same']);
  const { made, result } = await judged({ touchesChecks: true, attempt: () => exit(0) });
  expect([made, result.verdict]).toEqual([['candidate/same', 'base_checks/same'], 'passed']);
});

test.each([
  ['fails', exit(1)],
  ['is lost', { kind: 'unavailable', code: 'sandbox_lost', message: 'x' } as const],
])('what passes with its own checks, and %s with those of the base, is for a person to look at', async (_, theirs) => {
  const { result, failures, onlyWithItsOwn } = await judged({
    touchesChecks: true,
    attempt: ({ where }) => (where === 'base_checks' ? theirs : exit(0)),
  });
  expect([result.verdict, onlyWithItsOwn]).toEqual(['needs_review', true]);
  expect(failures).toMatchObject([{ class: 'constraint_violation', attribution: 'agent' }]);
});

test('a flake is never a pass, however seldom it fails', async () => {
  const { result, failures } = await judged({
    attempt: ({ where }, n) => exit(where === 'candidate' && n === 1 ? 1 : 0),
  });
  expect(result).toMatchObject({
    verdict: 'needs_review',
    stability: {
      verdict: 'flaky_unknown',
      attempts: expect.arrayContaining([{ where: 'candidate', how: 'same', runs: 4, failed: 1 }]),
    },
  });
  expect(result.reason).toContain('1 of 4 failed');
  expect(failures).toMatchObject([{ class: 'flaky_verifier', attribution: 'environment', retryable: true }]);
});

test('what fails when something outside does not answer, and only then, is told as that', async () => {
  const { result } = await judged({
    attempt: (_, n) => ({ ...(exit(n % 2) as Ended), networkTrouble: n % 2 === 1 }),
  });
  expect(result).toMatchObject({ verdict: 'needs_review', stability: { verdict: 'flaky_network' } });
});

test('what always fails with the candidate, and not on the base, has failed; what it printed is the evidence', async () => {
  const { result, failures, made } = await judged({ attempt: ({ where }) => exit(where === 'base' ? 0 : 1) });
  expect(result).toMatchObject({ verdict: 'failed', evidence: ['said'], stability: { verdict: 'stable_fail' } });
  expect(failures).toMatchObject([{ class: 'semantic_defect', attribution: 'agent', retryable: false }]);
  expect(made.filter((one) => one === 'candidate/half_cpu')).toEqual([]);
});

test('what failed before counts as that where a report shows that nothing more fails now', async () => {
  const same = await judged({ gate: reporting, attempt: () => told('a') });
  expect(same.result).toMatchObject({ verdict: 'needs_review', stability: { verdict: 'failed_before' } });
  const more = await judged({
    gate: reporting,
    attempt: ({ where }) => (where === 'base' ? told('a') : told('a', 'b')),
  });
  expect(more.result).toMatchObject({ verdict: 'failed', stability: { verdict: 'failed_before' } });
  expect((await judged({ attempt: () => exit(1) })).result.verdict).toBe('failed');
});

test('what runs out is the doing of the candidate where the base has enough, and of the policy where it has not', async () => {
  const spent: Attempt = {
    kind: 'ended',
    outcome: { kind: 'out_of_memory', limitBytes: 1, code: 137 },
    egressDenied: [],
    tail: [],
  };
  const ours = await judged({ attempt: ({ where }) => (where === 'base' ? exit(0) : spent) });
  expect(ours.failures).toMatchObject([{ class: 'budget', attribution: 'agent' }]);
  const both = await judged({ attempt: () => spent });
  expect(both.failures).toMatchObject([{ class: 'budget', attribution: 'policy' }]);
});

test('an engine that goes away in the middle breaks the gate, and says nothing of the candidate', async () => {
  const { result, failures } = await judged({
    attempt: (_, n) => (n === 1 ? exit(1) : { kind: 'unavailable', code: 'engine_unavailable', message: 'gone' }),
  });
  expect(result.verdict).toBe('broken');
  expect(failures).toMatchObject([{ class: 'infrastructure', attribution: 'infrastructure', retryable: true }]);
});

test('red, then green: the tests of the candidate have to fail on the base', async () => {
  const green = await judged({ attempt: () => exit(0) });
  const red = async (
    attempt: Attempt,
    tests: readonly string[] = ['t'],
    commands: readonly CommandJudged[] = [green],
  ) => {
    const { result } = await redGreenGate({ checks: { tests } as unknown as Checks }, commands, async ({ where }) => {
      expect(where).toBe('base_with_new_checks');
      return attempt;
    });
    return result.verdict;
  };
  expect(await red(exit(1))).toBe('passed');
  expect(await red(exit(0))).toBe('failed');
  expect(await red(exit(1), [])).toBe('failed');
  expect(await red({ kind: 'unavailable', code: 'engine_timeout', message: 'x' })).toBe('broken');
  expect(await red({ kind: 'ended', outcome: { kind: 'timed_out', afterMs: 1 }, egressDenied: [], tail: [] })).toBe(
    'broken',
  );
  expect(await red(exit(1), ['t'], [await judged({ attempt: () => exit(1) })])).toBe('failed');
});
