import { expect, test } from 'vitest';
import type { Entry, EntryData, EntryType } from '../journal/entry.ts';
import { observe, observedFindings } from './observed.ts';

const entry = <T extends EntryType>(type: T, data: EntryData<T>): Entry => ({ type, data }) as unknown as Entry;
const decided = (id: number, host: string, change: Partial<EntryData<'egress.decided'>> = {}) =>
  entry('egress.decided', { id, host, kind: 'request', via: 'name', decision: 'allowed', ...change });
const ended = (id: number, result: EntryData<'egress.ended'>['result']) =>
  entry('egress.ended', { id, result, sentBytes: 1, receivedBytes: 1, ms: 1 });
const call = (callId: string, change: Partial<EntryData<'call.ended'>>) =>
  entry('call.ended', { callId, outcome: { kind: 'exited', code: 0 }, ms: 1, ...change });

async function between(there: readonly Entry[], here: readonly Entry[]) {
  return observedFindings(await observe(there), await observe(here)).map(({ kind, key, text }) => [kind, key, text]);
}

test('two runs in which the same happened differ in nothing', async () => {
  const entries = [decided(1, 'a.test'), ended(1, 'done'), call('c1', { descendants: 2 })];
  expect(await between(entries, entries)).toEqual([]);
});

test('a host that was reached there and denied here is told, with the rule', async () => {
  const there = [decided(1, 'a.test'), ended(1, 'done')];
  const here = [decided(1, 'a.test', { decision: 'denied', rule: 'd-drop' })];
  expect(await between(there, here)).toEqual([
    ['egress', 'a.test', 'a.test was denied (d-drop), and was reached there: what needs it fails'],
  ]);
  expect(await between(here, there)).toEqual([]);
});

test('a host without an address is another finding than a denied one, and one that broke once and was reached is none', async () => {
  const there = [decided(1, 'a.test'), ended(1, 'done')];
  expect(await between(there, [decided(1, 'a.test'), ended(1, 'unresolvable')])).toMatchObject([
    ['egress', 'a.test', expect.stringContaining('has no address here') as string],
  ]);
  const shaky = [decided(1, 'a.test'), ended(1, 'timed_out'), decided(2, 'a.test'), ended(2, 'done')];
  expect(await between(there, shaky)).toEqual([]);
});

test('what ran out and what was left is told with its call', async () => {
  const here = [
    call('c1', { outcome: { kind: 'out_of_memory', limitBytes: 9, code: 137 } }),
    call('c2', { descendants: 3 }),
  ];
  expect(await between([], here)).toEqual([
    ['resource_pressure', 'memory', 'memory ran out: its processes were killed in call c1'],
    ['process_left', 'c2', 'call c2 left 3 processes running: they may hold ports, files and locks'],
  ]);
  expect(await between(here, here)).toEqual([]);
});

test('what was done from outside is on record, and told', async () => {
  const finding = { kind: 'engine', source: 'container', key: 'status', text: 'paused', reaction: 'note' } as const;
  const here = [entry('drift.found', { at: 'outside', against: 'asked', findings: [finding] })];
  expect(await between([], here)).toEqual([['engine', 'status', 'paused']]);
});

test('a hostile host name is one line, escaped', async () => {
  const here = [decided(1, `evil\u001b[2J\n${'x'.repeat(300)}`, { decision: 'denied' })];
  const [[, , text] = ['', '', '']] = await between([], here);
  expect(text).not.toMatch(/[\u0000-\u001f]/);
});
