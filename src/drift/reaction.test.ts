import { expect, test } from 'vitest';
import { driftWords, Entry } from '../journal/entry.ts';
import { driftKinds, driftReactions } from '../policy/language/drift.ts';
import { noDriftRules } from '../policy/policy.ts';
import type { DriftFinding } from './findings.ts';
import { reactTo, strictestOf } from './reaction.ts';

const when = { at: 'close', against: 'open' } as const;
const finding = (kind: DriftFinding['kind'], key: string, text = 'x'): DriftFinding => ({
  kind,
  source: 'env',
  key,
  expected: text,
  found: text,
  text,
});

test('the journal knows the kinds and reactions that the policy language has', () => {
  expect(driftWords.kinds).toEqual(Object.keys(driftKinds));
  expect(driftWords.reactions).toEqual(driftReactions);
});

test('nothing found is nothing recorded', () => {
  expect(reactTo({ findings: [], more: {} }, noDriftRules, when)).toBeUndefined();
});

test('each finding has the reaction of its kind, and the strictest of all is the strictest', () => {
  const rules = { reactions: { ...noDriftRules.reactions, mount: 'stop', env: 'verify' } } as const;
  const findings = [finding('env', 'A'), finding('mount', 'B'), finding('image', 'C')];
  const data = reactTo({ findings, more: { env: 3 } }, rules, when);
  expect(data?.findings.map(({ reaction }) => reaction)).toEqual(['verify', 'stop', 'note']);
  expect(data?.more).toBe(3);
  expect(strictestOf(['verify', 'stop', 'note'])).toBe('stop');
  expect(strictestOf([])).toBe('note');
});

test('what has the strictest reaction is never left out for want of room', () => {
  const rules = { reactions: { ...noDriftRules.reactions, engine: 'fail' } } as const;
  const findings = [...Array.from({ length: 40 }, (_, n) => finding('env', `${n}`)), finding('engine', 'last')];
  const data = reactTo({ findings, more: {} }, rules, when);
  expect(data?.findings).toHaveLength(24);
  expect(data?.findings.at(-1)).toMatchObject({ kind: 'engine', reaction: 'fail' });
  expect(data?.more).toBe(17);
});

test('whatever is found fits into an entry', () => {
  const hostile = '\u{1F600}\u0000'.repeat(2000);
  const findings = Array.from({ length: 30 }, (_, n) => finding('env', `${n}${hostile}`, hostile));
  const data = reactTo(
    { findings: findings.map((one) => ({ ...one, text: 'x'.repeat(600) })), more: {} },
    noDriftRules,
    when,
  );
  const line = {
    v: 1,
    seq: 1,
    at: '2026-01-01T00:00:00.000Z',
    mono: 0,
    run: '0'.repeat(26),
    type: 'drift.found',
    data,
  };
  const hash = `sha256:${'0'.repeat(64)}`;
  expect(Entry.safeParse({ ...line, prev: hash, hash }).success).toBe(true);
  expect(JSON.stringify(data).replaceAll(/[^\x20-\x7e]/g, '\\uffff').length).toBeLessThan(200_000);
});
