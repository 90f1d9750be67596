import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { digestOf } from '../digest.ts';
import type { Draft, Entry } from '../journal/entry.ts';
import { intended, opened } from '../journal/story.fixture.ts';
import { planOf, type Step } from './plan.ts';

const run = '0'.repeat(26);

function entries(...drafts: readonly Draft[]): readonly Entry[] {
  return [opened, ...drafts].map(
    (draft, index) => ({ ...draft, seq: index + 1, mono: index * 10, run, v: 1 }) as unknown as Entry,
  );
}

function ended(
  callId: string,
  outcome: Extract<Draft, { type: 'call.ended' }>['data']['outcome'] = { kind: 'done' },
): Draft {
  return { type: 'call.ended', data: { callId, outcome, ms: 1 } };
}

function asked(callId: string, tool: string, args: Record<string, string>): Draft {
  const { type, data } = intended(callId);
  return { type, data: { ...data, tool, arguments: { tool, ...args } } };
}

function shown(steps: readonly Step[]): readonly string[] {
  return steps.map((step) => ('callId' in step ? `${step.kind} ${step.callId}` : step.kind));
}

test('calls come in the order of their intents, and each is waited for where it had ended', () => {
  const plan = planOf(entries(intended('a'), ended('a'), intended('b'), intended('c'), ended('c'), ended('b')));
  expect(shown(plan.steps)).toEqual(['call a', 'ended a', 'call b', 'call c', 'ended c', 'ended b']);
  expect([...plan.beside].sort()).toEqual(['b', 'c']);
  expect(plan).toMatchObject({ total: 3, leftOut: [], stopsEarly: false });
});

test('what cannot be made again is told, with all that is about it', () => {
  const denied = (callId: string, rule: string): Draft => ({
    type: 'call.denied',
    data: { callId, tool: 'exec', rule, reason: 'r' },
  });
  const plan = planOf(
    entries(
      asked('tty', 'exec', { tty: 'yes' }),
      asked('typed', 'exec_write', { callId: 'tty' }),
      ended('typed'),
      ended('tty'),
      intended('lost'),
      ended('lost', { kind: 'unknown', reason: 'r' }),
      denied('late', 'limits.wall_clock'),
      denied('no', 'files.write'),
      { type: 'participant.joined', data: { by: 'ada', how: 'connected' } },
    ),
  );
  expect(shown(plan.steps)).toEqual(['call lost', 'denied no']);
  expect(plan.leftOut.map(({ callId }) => callId)).toEqual(['tty', 'typed', 'lost', 'late', undefined]);
  expect(plan.total).toBe(5);
});

test('a run goes back to its own snapshots, and no further than to those of another one', () => {
  const taken = (text: string): Draft => ({
    type: 'snapshot.taken',
    data: { digest: digestOf(text), changes: 0, bytes: 0, scratch: false },
  });
  const applied = (of: string, text: string): Draft => ({
    type: 'snapshot.applied',
    data: { run: of, digest: digestOf(text), changes: 0, bytes: 0 },
  });
  const source = '1'.repeat(26);
  const own = planOf(
    entries(applied(source, 'origin'), intended('a'), ended('a'), taken('x'), taken('unused'), applied(run, 'x')),
  );
  expect(shown(own.steps)).toEqual(['call a', 'ended a', 'snapshot', 'restore']);
  expect(own.leftOut).toEqual([]);
  const other = planOf(entries(intended('a'), ended('a'), applied(source, 'x'), intended('b'), ended('b')));
  expect(shown(other.steps)).toEqual(['call a', 'ended a']);
  expect(other.stopsEarly).toBe(true);
  expect(other.leftOut[0]?.why).toContain('nothing after it was made again');
});

test('however calls overlap: each is begun once and ended once, after all that had ended before it', () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 5 }), { maxLength: 40 }), (choices) => {
      const drafts: Draft[] = [];
      const open: string[] = [];
      let calls = 0;
      for (const choice of choices) {
        const [ending] = choice < open.length ? open.splice(choice, 1) : [];
        if (ending !== undefined) drafts.push(ended(ending));
        else drafts.push(intended(open[open.push(`c${calls++}`) - 1] ?? ''));
      }
      for (const callId of open) drafts.push(ended(callId));
      const { steps, leftOut } = planOf(entries(...drafts));
      expect(leftOut).toEqual([]);
      expect(shown(steps)).toEqual(
        drafts.map(
          (draft) =>
            `${draft.type === 'call.intended' ? 'call' : 'ended'} ${'callId' in draft.data ? draft.data.callId : ''}`,
        ),
      );
    }),
  );
});
