import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { ApprovalRequest, Verdict } from '../approvals/approval.ts';
import { digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import { Store } from '../store/store.ts';
import { ApprovalDesk } from './approval-desk.ts';
import { localPrincipal, type Principal } from './principal.ts';

let dir: string;
let store: Store;
let desk: ApprovalDesk;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'glovebox-approval-desk-'));
  store = Store.open(dir);
  desk = new ApprovalDesk(store);
});
afterEach(() => {
  store.close();
  rmSync(dir, { recursive: true, force: true });
});

const who = (identity: string): Principal => ({ ...localPrincipal(0), keyId: `k-${identity}`, team: 'a', identity });
const at = '2026-01-02T03:04:05.678Z';

function asked(quorum: number): {
  readonly id: string;
  readonly run: string;
  readonly answer: Promise<readonly Verdict[]>;
} {
  const [id, run] = [newId(), newId()];
  const closed = { closedAt: null, outcome: null, summary: null };
  const row = { id: run, team: 'a', identity: 'Ada@example.org', keyId: 'k', name: null, openedAt: at };
  store.runs.insert({ ...row, ...closed, state: 'open', policy: 'ci', lane: null, class: null });
  const request: ApprovalRequest = {
    id,
    run,
    category: 'shell',
    at: 'call',
    subject: 'make',
    rule: 'r',
    reach: '',
    note: '',
    quorum,
    reasonRequired: false,
    digest: digestOf('x'),
    askedAt: at,
    expiresAt: at,
  };
  return { id, run, answer: Promise.resolve(desk.ask(request, new AbortController().signal)) };
}

const say = (identity: string, id: string, approve = true): string =>
  desk.decide(who(identity), id, { approve, reason: '' }, at).state;

test('an approval for which two people are wanted is not given by one under two spellings', async () => {
  const { id, answer } = asked(2);
  expect(say('kim', id)).toBe('pending');
  expect(say('Kim', id)).toBe('pending');
  expect(say('KIM', id)).toBe('pending');
  expect(say('lea', id)).toBe('approved');
  expect((await answer).map(({ by }) => by).sort()).toEqual(['KIM', 'Kim', 'kim', 'lea']);
});

test('an approval is answered by nobody who opened the run or takes part in it, however their name is spelled', () => {
  const { id, run } = asked(1);
  store.runs.addCaller(run, 'Bob');
  for (const identity of ['Ada@example.org', 'ada@example.org', 'ADA@EXAMPLE.ORG', 'bob', 'BOB'])
    expect(() => say(identity, id)).toThrow(`${identity} `);
  expect(say('kim', id)).toBe('approved');
});

test('of one person who has said yes and, under another spelling, no, the no counts', async () => {
  const { id, answer } = asked(2);
  expect(say('kim', id)).toBe('pending');
  expect(say('Kim', id, false)).toBe('denied');
  expect((await answer).some(({ approve }) => !approve)).toBe(true);
});
