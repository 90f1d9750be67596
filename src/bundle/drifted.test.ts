import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import type { Draft } from '../journal/entry.ts';
import { linesOf, storyOf, textOf } from '../journal/story.fixture.ts';
import { driftProblems, refuseDrifted, refuseReplay, replayProblems } from './drifted.ts';
import type { Facts } from './facts.ts';
import { readStory } from './story.ts';

type Drifted = Facts['story']['drifted'];

const found = (reaction: Drifted[number]['reaction']): Drifted[number] => ({
  kind: 'mount',
  source: 'mounts',
  key: '/data',
  text: 'the mount /data is there',
  reaction,
});
const facts = (drifted: Drifted, verdict?: string) =>
  ({ story: { drifted }, ...(verdict === undefined ? {} : { verification: { verdict } }) }) as unknown as Facts;

test('a run without drift, or whose drift its policy only notes, stops or reclassifies, leaves as it is', () => {
  expect(driftProblems(facts([]))).toEqual([]);
  expect(driftProblems(facts([found('stop'), found('reclassify')]))).toEqual([]);
});

test('a run that drift has failed is not exported, verified or not', () => {
  for (const verdict of [undefined, 'passed'])
    expect(() => refuseDrifted('r1', facts([found('verify'), found('fail')], verdict))).toThrow(
      'run r1 is not exported: its environment has drifted (mount: the mount /data is there): nothing of it is exported; do its work again in another run',
    );
});

test('one that is to be verified again is exported once it has passed', () => {
  const drifted = [found('verify')];
  expect(() => refuseDrifted('r1', facts(drifted))).toThrow('glovebox verify r1');
  expect(() => refuseDrifted('r1', facts(drifted, 'failed'))).toThrow('the verification says failed');
  expect(driftProblems(facts(drifted, 'passed'))).toEqual([]);
});

test('however often a run has one thing found, what keeps it from leaving is not forgotten', async () => {
  const finds = (key: string, reaction: Drifted[number]['reaction']): Draft => ({
    type: 'drift.found',
    data: { at: 'call', against: 'open', findings: [{ ...found(reaction), key }] },
  });
  const many = Array.from({ length: 150 }, (_, at) => finds(`call ${at}`, 'reclassify'));
  const [opened, started, ...rest] = storyOf(0);
  if (opened === undefined || started === undefined) throw new Error('no story');
  const drafts = [opened, started, ...many, finds('lock', 'verify'), finds('image', 'fail'), ...rest];
  const file = join(await mkdtemp(join(tmpdir(), 'glovebox-drifted-')), 'journal');
  await writeFile(file, textOf(linesOf(drafts)));
  const source = await open(file, 'r');
  const story = await readStory(source, file);
  await source.close();
  await rm(dirname(file), { recursive: true });
  if ('problem' in story) throw new Error(story.problem);
  expect(new Set(story.drifted.map(({ reaction }) => reaction))).toEqual(new Set(['reclassify', 'verify', 'fail']));
  expect(story.drifted.length).toBeLessThan(110);
  expect(driftProblems({ story, verification: undefined })[0]?.message).toContain('nothing of it is exported');
});

test('what a replay has made does not leave: who approved it then has not seen it', () => {
  const story = (of: object) => ({ story: { run: 'r2', opened: of } }) as unknown as Facts;
  expect(replayProblems(story({}))).toEqual([]);
  expect(replayProblems(story({ replays: { run: 'r1' } }))).toHaveLength(1);
  expect(() => refuseReplay(story({ replays: { run: 'r1' } }))).toThrow('glovebox export r1');
});
