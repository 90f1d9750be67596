import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Draft } from '../journal/entry.ts';
import { denied, ended, intended, opened, run, started } from '../journal/story.fixture.ts';
import { Journal } from '../journal/writer.ts';
import { RunStory } from './story.ts';

let folder: string;
let nowMs: number;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'glovebox-story-'));
  nowMs = Date.parse('2026-01-01T00:00:00.000Z');
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** Each entry a second after the one before. */
async function told(drafts: readonly Draft[]): Promise<RunStory> {
  const path = join(folder, 'journal.ndjson');
  const journal = await Journal.create(path, run, { clock: { nowMs: () => nowMs, monoMs: () => nowMs } });
  for (const draft of drafts) {
    await journal.append(draft);
    nowMs += 1_000;
  }
  await journal.close();
  return RunStory.read(path);
}

const intend = (id: string, count: number, tags: readonly string[] = []): Draft => {
  const { type, data } = intended(id, count);
  return { type, data: { ...data, tags } };
};

const digest = `sha256:${'a'.repeat(64)}` as const;
const requested = (id: string): Draft => {
  const asked = { id, category: 'budget_extension', at: 'budget', rule: 'r', digest, quorum: 1 } as const;
  return { type: 'approval.requested', data: { ...asked, expiresAt: '2026-01-01T01:00:00.000Z' } };
};

test('what a run has spent is what its journal says: calls, tags, denials in a row, output and time', async () => {
  const story = await told([
    opened,
    started,
    intend('a', 1, ['net']),
    ended('a'),
    denied('b'),
    {
      type: 'call.denied',
      data: { callId: 'c', tool: 'exec', rule: 'budget.max_parallel_actions', reason: 'too many' },
    },
    intend('d', 2, ['net']),
    denied('e'),
    intend('f', 3),
  ]);
  const used = story.used({ nowMs });
  expect(used).toMatchObject({ calls: 3, denied: 2, deniedInARow: 0, outputBytes: 3, cpuMs: 1, elapsedMs: 9_000 });
  expect([...used.byTag]).toEqual([['net', 2]]);
  expect(used.callAgesMs).toEqual([7_000, 3_000, 1_000]);
  expect([...story.open.keys()]).toEqual(['d', 'f']);
});

test('time is what the machine has counted since, whatever the wall clock says; no budget is refilled or burnt by a jump', async () => {
  const id = '01hxxxxxxxxxxxxxxxxxxxxxxx';
  const story = await told([opened, started, intend('a', 1), requested(id)]);
  for (const jumpMs of [0, -3_600_000, 365 * 86_400_000]) {
    const now = { nowMs: nowMs + jumpMs, runMs: 5_000 };
    expect(story.used(now)).toMatchObject({ elapsedMs: 5_000, callAgesMs: [3_000] });
    expect(story.approvals(now).get(id)).toMatchObject({ askedMsAgo: 2_000 });
  }
  expect(story.used({ nowMs, runMs: 1 }).elapsedMs).toBe(3_000);
});

test('where nobody has counted, a clock that was set back never gives time back; one that jumped ahead has used it up', async () => {
  const story = await told([opened, started, intend('a', 1)]);
  expect(story.used({ nowMs: nowMs - 3_600_000 })).toMatchObject({ elapsedMs: 2_000, callAgesMs: [0] });
  expect(story.used({ nowMs: nowMs + 365 * 86_400_000 })).toMatchObject({ callAgesMs: [] });
  expect(story.used({ nowMs: nowMs + 365 * 86_400_000 }).elapsedMs).toBeGreaterThan(365 * 86_400_000);
});

test('what people said, what was taken away and how high the risk rose stays so', async () => {
  const id = '01hxxxxxxxxxxxxxxxxxxxxxxx';
  const story = await told([
    opened,
    started,
    { type: 'risk.raised', data: { from: 'low', to: 'high', by: 'rule' } },
    requested(id),
    {
      type: 'approval.decided',
      data: { id, category: 'budget_extension', verdict: 'approved', by: ['ada'], reason: '', digest },
    },
    { type: 'egress.narrowed', data: { without: ['npm'] } },
    { type: 'credential.revoked', data: { credential: 'gh', cut: 0 } },
    {
      type: 'egress.decided',
      data: { id: 4, kind: 'request', via: 'name', host: 'a.test', rule: 'api', decision: 'allowed' },
    },
    { type: 'egress.decided', data: { id: 5, kind: 'name', via: 'name', host: 'b.test', decision: 'denied' } },
  ]);
  expect(story.changes).toEqual([{ kind: 'raised', to: 'high' }, { kind: 'extended' }]);
  expect(story.without).toEqual(['npm']);
  expect(story.revoked).toEqual(['gh']);
  expect([story.egress.lastId, [...story.egress.taken], [...story.egress.hosts]]).toEqual([
    5,
    [['api', 1]],
    ['a.test', 'b.test'],
  ]);
  expect(story.approvals({ nowMs }).get(id)).toMatchObject({ outcome: { kind: 'approved', by: ['ada'] }, used: true });
});
