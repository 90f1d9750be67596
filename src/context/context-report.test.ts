import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RunDir } from '../data-dir/run-dir.ts';
import { digestOf } from '../digest.ts';
import type { Draft } from '../journal/entry.ts';
import {
  attached,
  denied,
  ended,
  entriesOf,
  handedOver,
  intended,
  linesOf,
  opened,
  run,
  textOf,
} from '../journal/story.fixture.ts';
import { contextFile, keepContext } from './context-files.ts';
import { readContexts } from './context-report.ts';
import { encodeContext, parseContext } from './context-snapshot.ts';
import { ContextStory } from './context-story.ts';

let dir: RunDir;
beforeEach(async () => {
  dir = new RunDir(run, await mkdtemp(join(tmpdir(), 'glovebox-report-')));
});
afterEach(() => rm(dir.path, { recursive: true, force: true }));

const explored: Draft = {
  ...opened,
  data: { ...opened.data, request: { model: 'quick-1' } },
} as typeof opened;
/** A fork of another lane's run, in which the model changes. */
const other = '01hxxxxxxxxxxxxxxxxxxxxxxx';
const story: readonly Draft[] = [
  explored,
  {
    type: 'lane.handed_over',
    data: { from: { run: other, lane: 'explore', model: 'quick-0' }, to: { model: 'quick-1' } },
  },
  { type: 'snapshot.applied', data: { run: other, digest: digestOf('s'), changes: 4, bytes: 9 } },
  intended('a'),
  ended('a'),
  attached(1, { model: 'quick-1', at: 'before_compaction', tokens: { input: 7, output: 2 } }),
  denied('b'),
  intended('b', 2),
  ended('b'),
  { type: 'lane.handed_over', data: { from: { run, model: 'quick-1' }, to: { lane: 'commit', model: 'strong-2' } } },
  attached(2, { model: 'strong-2', lane: 'commit', by: 'ada' }),
  intended('c', 3),
];

async function tell(drafts: readonly Draft[]): Promise<void> {
  await writeFile(dir.journal, textOf(linesOf(drafts)));
}

test('who ran which part, with what it began, and what was believed when', async () => {
  await tell(story);
  const told = await readContexts(dir);
  expect(told.parts).toEqual([
    {
      lane: null,
      model: 'quick-1',
      from: { run: other, lane: 'explore', model: 'quick-0' },
      calls: 2,
      denied: 1,
      firstCall: 'a',
      lastCall: 'b',
      snapshots: 1,
    },
    {
      lane: 'commit',
      model: 'strong-2',
      from: { run, lane: null, model: 'quick-1' },
      calls: 1,
      denied: 0,
      firstCall: 'c',
      lastCall: 'c',
      snapshots: 1,
    },
  ]);
  expect(told.applied).toEqual([{ run: other, digest: digestOf('s'), changes: 4 }]);
  expect(told.snapshots).toMatchObject([
    { number: 1, at: 'before_compaction', tokens: { input: 7, output: 2 }, cost: null, by: null },
    { number: 2, lane: 'commit', by: 'ada' },
  ]);
  expect(told).toMatchObject({ call: null, worker: { lane: 'commit', model: 'strong-2' }, inForce: { number: 2 } });
});

test('the belief behind a call is the last one before its intent; of one that was refused first, before it was let in', async () => {
  await tell(story);
  const numberAt = async (call: string) => (await readContexts(dir, call)).inForce?.number;
  expect([await numberAt('a'), await numberAt('b'), await numberAt('c')]).toEqual([undefined, 1, 2]);
  expect((await readContexts(dir, 'b')).worker).toEqual({ lane: null, model: 'quick-1' });
  await expect(readContexts(dir, 'd')).rejects.toMatchObject({ code: 'call_not_found' });
});

test('the whole is what was attached: one that was changed is refused, one that is gone is said to be gone', async () => {
  const text = encodeContext(parseContext({ version: 1, summary: 'mine' }));
  const digest = digestOf(text);
  await tell([opened, attached(1, { digest })]);
  expect((await readContexts(dir)).inForce).toMatchObject({ digest, snapshot: null });
  await keepContext(dir, digest, text);
  expect((await readContexts(dir)).inForce?.snapshot).toMatchObject({ summary: 'mine' });
  await writeFile(contextFile(dir, digest), text.replace('mine', 'hers'));
  await expect(readContexts(dir)).rejects.toThrow(/is not what was attached/);
});

test('who was not named before is named by the first snapshot, without a hand-over', () => {
  const told = new ContextStory();
  for (const entry of entriesOf([opened, attached(1, { model: 'm-1' }), handedOver, attached(2)])) told.push(entry);
  expect(told.parts.map(({ worker }) => worker)).toEqual([{ model: 'm-1' }, { lane: 'commit', model: 'strong-2' }]);
});
