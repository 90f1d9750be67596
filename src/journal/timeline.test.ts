import { expect, test } from 'vitest';
import type { Draft, Entry } from './entry.ts';
import { closed, denied, ended, intended, linesOf, opened, started } from './story.fixture.ts';
import { Timeline } from './timeline.ts';

function told(drafts: readonly Draft[]): readonly string[] {
  const timeline = new Timeline();
  for (const line of linesOf(drafts)) timeline.add(JSON.parse(line) as Entry);
  return timeline.moments().map(({ what }) => what);
}

const raised: Draft = { type: 'risk.raised', data: { from: 'low', to: 'high', by: 'the \x1b[2J diff' } };
const failed: Draft = {
  type: 'call.ended',
  data: { callId: 'c2', outcome: { kind: 'exited', code: 1 }, exitCode: 1, ms: 1 },
};

test('calls between two moments are one, with what became of them', () => {
  const story = [opened, started, intended('c1'), ended('c1'), intended('c2'), failed, denied('c3'), raised, closed(2)];
  expect(told(story)).toEqual([
    expect.stringMatching(/^run opened: run .*make the tests pass/),
    '2 calls (exec 2), 1 ended without success, 1 denied by files.write',
    'risk raised: low to high by the \\x1b[2J diff',
    expect.stringMatching(/^run closed: /),
  ]);
});

test('however often a run is refused, what people and policy had to do with it is not pushed out', () => {
  const flood = Array.from({ length: 3000 }, (_, n) => denied(`d${n}`));
  expect(told([opened, ...flood, raised, ...flood, closed(0)])).toHaveLength(5);
  const many = told([opened, ...Array.from({ length: 2000 }, () => raised), closed(0)]);
  expect([many.length, many[0], many.at(-1)]).toEqual([
    500,
    expect.stringMatching(/^run opened/),
    expect.stringMatching(/^run closed/),
  ]);
});
