import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { canonicalJson, digestOf } from '../digest.ts';
import type { Draft, Entry } from '../journal/entry.ts';
import { opened } from '../journal/story.fixture.ts';
import type { Run } from '../runner.ts';
import { ToolCall } from '../tools/tool-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import { compareEnds } from './compare.ts';
import { planOf } from './plan.ts';
import { Player } from './player.ts';
import type { Recorded } from './recorded.ts';

/** A run of calls without a sandbox: `fails` says which of them end otherwise now. */
function again(calls: readonly (readonly [string, ToolCall])[], overlap: number, fails: ReadonlySet<string>) {
  const drafts: Draft[] = [opened];
  const open: string[] = [];
  const end = (callId: string): Draft => ({ type: 'call.ended', data: { callId, outcome: { kind: 'done' }, ms: 1 } });
  calls.forEach(([callId, call], index) => {
    const argsDigest = digestOf(canonicalJson(call));
    const shown = z.record(z.string(), z.json()).parse(JSON.parse(canonicalJson(call)));
    const data = { callId, tool: call.tool, arguments: shown, argsDigest, count: index + 1 };
    drafts.push({ type: 'call.intended', data });
    open.push(callId);
    if (open.length > overlap) drafts.push(end(open.shift() ?? ''));
  });
  drafts.push(...open.map(end));
  const entries = drafts.map((draft, seq) => ({ ...draft, seq, mono: 0, run: '0'.repeat(26) }) as unknown as Entry);
  const made: string[] = [];
  const run = {
    sandbox: { state: 'running' },
    isClosing: false,
    findCommand: () => undefined,
    call: async (callId: string, { tool }: ToolCall): Promise<ToolResult> => {
      made.push(callId);
      const error = fails.has(callId) ? ({ code: 'not_found', message: '', path: null } as const) : null;
      return { callId, tool, ok: error === null, text: '', data: error === null ? { kind: 'done' } : null, error };
    },
  };
  const recorded = {
    plan: planOf(entries),
    call: async (_: unknown, shown: unknown) => ToolCall.parse(shown),
  };
  const player = new Player(run as unknown as Run, {
    recorded: recorded as unknown as Recorded,
    isPaced: false,
    hasNetwork: false,
    compare: async ({ end: { outcome, error } }, came) => compareEnds({ outcome, error: error?.code }, came),
  });
  return { player, made };
}

const calls = (count: number) =>
  Array.from({ length: count }, (_, n) => [`c${n}`, ToolCall.parse({ tool: 'mkdir', path: `d${n}` })] as const);

test('whatever run: what is fabricated at call k is found at call k, and nothing is made that came after its end', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 30 }), fc.nat({ max: 3 }), fc.nat(), async (count, overlap, seed) => {
      const clean = again(calls(count), overlap, new Set());
      expect(await clean.player.play()).toBeUndefined();
      expect(clean.player.counts.replayed).toBe(count);
      const k = seed % count;
      const other = again(calls(count), overlap, new Set([`c${k}`, `c${count - 1}`]));
      const diverged = await other.player.play();
      expect(diverged).toMatchObject({ callId: `c${k}`, tool: 'mkdir', difference: { aspect: 'outcome' } });
      expect(other.made.length).toBeLessThanOrEqual(Math.min(count, k + 1 + overlap));
    }),
    { numRuns: 60 },
  );
});

test('what was asked and not kept is left out, with what speaks to it', async () => {
  const { player, made } = again(
    [
      ['a', ToolCall.parse({ tool: 'exec', argv: ['cat'], tty: {} })],
      ['b', ToolCall.parse({ tool: 'exec_write', callId: 'a' })],
      ['c', ToolCall.parse({ tool: 'mkdir', path: 'd' })],
    ],
    0,
    new Set(),
  );
  expect(await player.play()).toBeUndefined();
  expect(made).toEqual(['c']);
});
