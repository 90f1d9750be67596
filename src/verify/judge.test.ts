import { expect, test } from 'vitest';
import type { Outcome } from '../sandbox/outcome.ts';
import type { Attempt } from './attempt.ts';
import { judge, type Said } from './judge.ts';
import type { TestCase } from './test-reports/test-report.ts';

type Ended = Extract<Attempt, { kind: 'ended' }>;

function ended(outcome: Outcome | number, over: Partial<Ended> = {}): Attempt {
  const kind = typeof outcome === 'number' ? ({ kind: 'exited', code: outcome } as const) : outcome;
  return { kind: 'ended', outcome: kind, egressDenied: [], tail: [], ...over };
}

function report(...states: readonly TestCase['state'][]): Pick<Ended, 'report'> {
  return { report: { kind: 'read', report: { cases: states.map((state, n) => ({ name: `t${n}`, state })) } } };
}

const empty = { report: { kind: 'unreadable', why: 'it is empty' } } as const;
const denied = { egressDenied: ['example.org:443: not listed'] };

const table: readonly (readonly [string, Attempt, Said['verdict'], kind?: string, attribution?: string])[] = [
  ['0', ended(0), 'passed'],
  ['0, and its tests pass', ended(0, report('passed', 'skipped')), 'passed'],
  ['0, and a test fails', ended(0, report('passed', 'failed')), 'failed', 'semantic_defect', 'agent'],
  ['0, and every test is skipped', ended(0, report('skipped')), 'failed', 'semantic_defect', 'agent'],
  ['0, and no report', ended(0, empty), 'broken', 'semantic_defect', 'agent'],
  ['1, and every test passes', ended(1, report('passed')), 'failed', 'semantic_defect', 'agent'],
  ['1, and no report', ended(1, empty), 'failed', 'semantic_defect', 'agent'],
  ['127', ended(127), 'failed', 'environment_mismatch', 'environment'],
  ['a signal', ended({ kind: 'signaled', signal: 11 }), 'failed', 'semantic_defect', 'agent'],
  ['no program', ended({ kind: 'not_started', reason: 'not_found', message: 'x' }), 'broken', 'environment_mismatch'],
  ['its time is over', ended({ kind: 'timed_out', afterMs: 5 }), 'failed', 'tool_timeout', 'agent'],
  [
    'no memory',
    ended({ kind: 'out_of_memory', limitBytes: 5, code: 1 }, report('failed')),
    'failed',
    'budget',
    'agent',
  ],
  [
    'a full disk',
    ended({ kind: 'disk_full', where: ['/tmp'], code: 0 }, report('passed')),
    'failed',
    'budget',
    'agent',
  ],
  ['too many processes', ended({ kind: 'pids_limit', limit: 9, code: 1 }), 'failed', 'budget', 'agent'],
  ['a lost sandbox', ended({ kind: 'sandbox_lost', reason: 'x' }), 'broken', 'infrastructure', 'infrastructure'],
  ['refused on the network, and fails', ended(1, denied), 'failed', 'permission_mismatch', 'policy'],
  ['refused on the network, and passes', ended(0, denied), 'passed'],
  ['not let in', { kind: 'refused', rule: 'tools.allow', reason: 'x' }, 'broken', 'policy', 'policy'],
  ['not approved', { kind: 'refused', rule: 'approvals.dependency', reason: 'x' }, 'broken', 'approval', 'policy'],
  ['no engine', { kind: 'unavailable', code: 'engine_unavailable', message: 'x' }, 'broken', 'infrastructure'],
  ['a code nobody knows', { kind: 'unavailable', code: 'new', message: 'x' }, 'broken', 'infrastructure'],
];

test.each(table.map(([name, ...rest]) => ({ name, rest })))(
  '$name',
  ({ rest: [attempt, verdict, kind, attribution] }) => {
    const said = judge(attempt);
    expect(said.verdict).toBe(verdict);
    expect(said.cause?.class).toBe(kind);
    if (attribution !== undefined) expect(said.cause?.attribution).toBe(attribution);
  },
);

test('what it ran out of goes before what its tests say', () => {
  const said = judge(ended({ kind: 'out_of_memory', limitBytes: 1024, code: 1 }, report('failed')));
  expect(said).toMatchObject({ reason: 'the command ran out of memory at 1024 bytes', outside: 'resources' });
});

test('of what went wrong on this machine, the code alone is told', () => {
  const said = judge({ kind: 'unavailable', code: 'data_dir_unusable', message: 'cannot write /home/me/data' });
  expect(said.reason).toBe('there was no sandbox for it (data_dir_unusable)');
});
