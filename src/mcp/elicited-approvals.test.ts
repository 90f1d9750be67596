import { expect, test } from 'vitest';
import type { ApprovalRequest } from '../approvals/approval.ts';
import { digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import { approvalForm, ElicitedApprovals } from './elicited-approvals.ts';

const never = (): AbortSignal => new AbortController().signal;

function request(of: Partial<ApprovalRequest> = {}): ApprovalRequest {
  return {
    id: newId(),
    run: newId(),
    callId: 'c1',
    category: 'dependency',
    at: 'call',
    subject: 'curl x',
    rule: 'pull',
    reach: 'runs it',
    note: '',
    quorum: 1,
    reasonRequired: false,
    digest: digestOf('a'),
    askedAt: '2026-01-01T00:00:00.000Z',
    expiresAt: '2026-01-01T00:01:00.000Z',
    ...of,
  };
}

const pending = (): Promise<never> => new Promise(() => undefined);
const yes = { action: 'accept', content: { approve: true, reason: 'fine' } };

test.each([
  ['a yes', yes, true, 'fine'],
  ['a no', { action: 'accept', content: { approve: false } }, false, ''],
  ['a yes in words', { action: 'accept', content: { approve: 'true' } }, false, ''],
  ['nothing in it', { action: 'accept' }, false, 'dismissed in the client'],
  ['a refusal', { action: 'decline' }, false, 'declined in the client'],
  ['a dismissal', { action: 'cancel' }, false, 'dismissed in the client'],
  ['nothing', undefined, false, 'dismissed in the client'],
  ['nonsense', ['accept'], false, 'dismissed in the client'],
])('what comes back is %s: anything but a clear yes is a no', async (_, response, approve, reason) => {
  const approvals = new ElicitedApprovals([], 'ada');
  const what = request();
  const told = approvals.during('c1', pending());
  const verdicts = approvals.approver(what, never());
  expect(await told).toEqual({ asks: what });
  approvals.answer({ approval: what.id, digest: what.digest }, response);
  expect(await verdicts).toEqual([{ approve, by: 'ada', reason }]);
});

test('an answer counts for what it was shown for alone, and once', async () => {
  const approvals = new ElicitedApprovals([], 'ada');
  const what = request();
  let verdicts: unknown;
  const told = approvals.during('c1', pending());
  void approvals.approver(what, never()).then((given) => (verdicts = given));
  await told;
  approvals.answer({ approval: newId(), digest: what.digest }, yes);
  approvals.answer({ approval: what.id, digest: digestOf('b') }, yes);
  await Promise.resolve();
  expect(verdicts).toBeUndefined();
  approvals.answer({ approval: what.id, digest: what.digest }, { action: 'decline' });
  approvals.answer({ approval: what.id, digest: what.digest }, yes);
  await expect.poll(() => verdicts).toMatchObject([{ approve: false }]);
});

test('whoever comes back while an answer is due is asked the same again', async () => {
  const approvals = new ElicitedApprovals([], 'ada');
  const what = request();
  const told = approvals.during('c1', pending());
  void approvals.approver(what, never());
  await told;
  expect(await approvals.during('c1', pending())).toEqual({ asks: what });
  expect(await approvals.during('c2', Promise.resolve('done'))).toBe('done');
});

test('what nobody waits for any more is denied, and what was approved beforehand is not asked for', async () => {
  const approvals = new ElicitedApprovals(['blessing'], 'ada');
  const told = approvals.during('c1', pending());
  const verdicts = approvals.approver(request(), never());
  await told;
  approvals.withdraw('c1');
  expect(await verdicts).toMatchObject([{ approve: false, reason: 'the client cancelled the call' }]);
  expect(await approvals.approver(request({ category: 'blessing' }), never())).toMatchObject([{ approve: true }]);
  const { callId: _, ...ofTheExport } = request({ at: 'export' });
  expect(await approvals.approver(ofTheExport, never())).toMatchObject([{ approve: false }]);
});

test('the form shows all of it, and nothing in it can pass for our own words', () => {
  const subject = 'curl x\nApproval needed: nothing\u001b[2J\u202e';
  const { message, requestedSchema } = approvalForm(request({ subject, reasonRequired: true }));
  expect(message.split('\n')).toEqual([
    'Approval needed: dependency (rule pull, until 2026-01-01T00:01:00.000Z)',
    'runs it',
    '    | curl x',
    '    | Approval needed: nothing\\x1b[2J\\u202e',
    expect.stringMatching(/^\(sha256:[0-9a-f]{12}\)$/) as string,
  ]);
  expect(requestedSchema).toMatchObject({ required: ['approve', 'reason'] });
});
