import { expect, test } from 'vitest';
import { errorTable, type ErrorCode } from '../errors.ts';
import type { Draft, Entry } from '../journal/entry.ts';
import {
  closed,
  decided,
  denied,
  ended,
  entriesOf,
  intended,
  lost,
  opened,
  started,
} from '../journal/story.fixture.ts';
import { causeOfCode } from './causes.ts';
import { Failure } from './failure.ts';
import { failuresMax, failuresOf } from './run-failures.ts';

type Outcome = Extract<Entry, { type: 'call.ended' }>['data']['outcome'];

const end = (outcome: Outcome, callId = 'c1'): Draft => ({ type: 'call.ended', data: { callId, outcome, ms: 1 } });
const answered = (over: Partial<Extract<Entry, { type: 'egress.ended' }>['data']>): Draft => ({
  type: 'egress.ended',
  data: { id: 1, result: 'done', sentBytes: 0, receivedBytes: 0, ms: 1, ...over },
});
const rejected = (rule: string): Draft => ({
  type: 'call.denied',
  data: { callId: 'c1', tool: 'exec', rule, reason: 'x' },
});
const approval = (verdict: 'approved' | 'denied' | 'expired' | 'broken'): Draft => ({
  type: 'approval.decided',
  data: {
    id: '01hxxxxxxxxxxxxxxxxxxxxxxx',
    category: 'deploy',
    verdict,
    by: [],
    reason: 'no',
    digest: opened.type === 'run.opened' ? opened.data.image.id : 'sha256:0',
  },
});
const exited = (code: number): Draft => end({ kind: 'exited', code });

const table: readonly (readonly [string, readonly Draft[], string | undefined])[] = [
  ['a command that ends with 0', [exited(0)], undefined],
  ['a command that was cancelled', [end({ kind: 'cancelled' })], undefined],
  ['a command that fails', [exited(1)], 'semantic_defect agent'],
  ['a program that is not there', [exited(127)], 'environment_mismatch environment'],
  ['a program that may not be run', [exited(126)], 'permission_mismatch environment'],
  ['time', [end({ kind: 'timed_out', afterMs: 1 })], 'tool_timeout agent, again'],
  ['memory', [end({ kind: 'out_of_memory', limitBytes: 1, code: 1 })], 'budget agent'],
  ['a full disk, whatever the exit code', [end({ kind: 'disk_full', where: ['/tmp'], code: 0 })], 'budget agent'],
  ['a lost sandbox', [end({ kind: 'sandbox_lost', reason: 'x' })], 'infrastructure infrastructure, again'],
  ['what nobody saw end', [end({ kind: 'unknown', reason: 'x' })], 'infrastructure infrastructure, again'],
  ['a rule', [rejected('files.write')], 'policy agent'],
  ['a budget', [rejected('budget.max_actions_per_run')], 'budget agent'],
  ['a person', [rejected('approvals.deploy')], 'approval policy, again'],
  ['a gate that broke', [rejected('gate.policy')], 'infrastructure infrastructure, again'],
  ['nobody who answered', [approval('expired')], 'approval policy'],
  ['approvals that broke', [approval('broken')], 'infrastructure infrastructure, again'],
  ['a network that was refused, before the exit code', [decided(1, 'denied'), exited(1)], 'permission_mismatch policy'],
  [
    'a server that fails, before the exit code',
    [decided(1), answered({ status: 503 }), exited(1)],
    'environment_mismatch environment, again',
  ],
  [
    'a server that is asked too much',
    [decided(1), answered({ status: 429 }), exited(1)],
    'rate_limit environment, again',
  ],
  [
    'a server that wants to know who asks',
    [decided(1), answered({ status: 401 }), exited(1)],
    'permission_mismatch environment',
  ],
  [
    'a server that answered, and a command that fails',
    [decided(1), answered({ status: 200 }), exited(1)],
    'semantic_defect agent',
  ],
  [
    'a server that fails, and time',
    [decided(1), answered({ status: 503 }), end({ kind: 'timed_out', afterMs: 1 })],
    'tool_timeout agent, again',
  ],
  ['a server that fails, and a command that does not', [decided(1), answered({ status: 503 }), exited(0)], undefined],
];

test.each(table.map(([name, drafts, expected]) => ({ name, drafts, expected })))(
  '$name',
  async ({ drafts, expected }) => {
    const failures = await failuresOf(entriesOf([opened, started, intended('c1'), ...drafts]));
    const found = failures.find(({ where }) => !where.startsWith('egress'));
    const text =
      found === undefined ? undefined : `${found.class} ${found.attribution}${found.retryable ? ', again' : ''}`;
    expect(text).toBe(expected);
  },
);

test('a run that did well has none; one that was lost, or left something behind, says what', async () => {
  expect(await failuresOf(entriesOf([opened, started, intended('c1'), ended('c1'), closed(1)]))).toEqual([]);
  const failures = await failuresOf(
    entriesOf([
      opened,
      started,
      lost,
      {
        type: 'workspace.collected',
        data: {
          digest: `sha256:${'0'.repeat(64)}`,
          added: 0,
          modified: 0,
          deleted: 0,
          bytes: 0,
          findings: { outside_write_scope: 2, odd_name: 1 },
        },
      },
    ]),
  );
  expect(failures.map(({ where, class: kind }) => [where, kind])).toEqual([
    ['sandbox', 'infrastructure'],
    ['diff outside_write_scope', 'constraint_violation'],
  ]);
});

test('what is told is bounded, printable and as the schema has it, whatever a sandbox said', async () => {
  const drafts = Array.from({ length: 1000 }, (_, n) => ({
    ...denied(`c${n}`),
    data: { callId: `c${n}`, tool: 'exec', rule: 'x', reason: `\u001b[2J\u202e${'y'.repeat(4000)}` },
  })) as readonly Draft[];
  const failures = await failuresOf(entriesOf([opened, started, ...drafts]));
  expect(failures).toHaveLength(failuresMax);
  for (const failure of failures) {
    expect(Failure.safeParse(failure).success).toBe(true);
    expect(failure.evidence).toMatch(/^[\x20-\x7e…]+$/);
  }
});

test('what may be tried again as the table of codes says is what may come out otherwise', () => {
  for (const [code, { retryable }] of Object.entries(errorTable))
    if (retryable) expect(causeOfCode(code as ErrorCode).retryable, code).toBe(true);
});
