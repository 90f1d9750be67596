import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RunDir } from '../data-dir/run-dir.ts';
import { RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import { boundArguments, outlineBytes } from '../journal/bound-arguments.ts';
import { intended } from '../journal/story.fixture.ts';
import { parseCall } from '../tools/parse-call.ts';
import type { ToolCallInput } from '../tools/tool-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import { Answers, findAnswer } from './answers.ts';
import { askedBefore, CallRequest } from './call-request.ts';

let dir: RunDir;
beforeEach(async () => {
  dir = new RunDir(newId(), await mkdtemp(join(tmpdir(), 'glovebox-reused-')));
});
afterEach(() => rm(dir.path, { recursive: true, force: true }));

const asks = (input: ToolCallInput): CallRequest => new CallRequest(parseCall('a', input));
const first = { tool: 'exec', script: 'make', env: { A: '1', B: '2' } } as const;
const result: ToolResult = { callId: 'a', tool: 'exec', ok: true, text: 'made', data: null, error: null };
const never = (): Promise<ToolResult> => Promise.reject(new Error('it ran again'));

const same: readonly (readonly [string, ToolCallInput])[] = [
  ['as it was', first],
  [
    'in another order, with defaults said',
    { killAfterMs: 120_000, env: { B: '2', A: '1' }, script: 'make', tool: 'exec' },
  ],
  ['by somebody who waits less long', { ...first, yieldMs: 0 }],
];
const others: readonly (readonly [string, ToolCallInput, RegExp])[] = [
  [
    'of other arguments',
    { ...first, script: 'make all' },
    /call id a was used .* for exec with other arguments;.*new id/,
  ],
  ['with an option that has an effect', { ...first, killAfterMs: 5 }, /for exec with other arguments/],
  ['of another tool', { tool: 'read', path: 'make' }, /for exec, and this asks for read/],
];

async function expectHolds(answer: (request: CallRequest) => Promise<unknown>, told: unknown): Promise<void> {
  for (const [what, input] of same)
    expect(await answer(asks(input)).catch((error: unknown) => error), what).toEqual(told);
  for (const [what, input, message] of others)
    await expect(answer(asks(input)), what).rejects.toMatchObject({ code: 'call_id_reused', message });
}

describe('an id holds for one request', () => {
  test('while it is made, or waits for people', async () => {
    const answers = Answers.create(dir.answers);
    let end: (made: ToolResult) => void = () => undefined;
    const made = answers.once('a', asks(first), () => new Promise((resolve) => (end = resolve)));
    const again = answers.once('a', asks({ ...first, yieldMs: 3 }), never);
    for (const [what, input, message] of others)
      await expect(answers.once('a', asks(input), never), what).rejects.toMatchObject({
        code: 'call_id_reused',
        message,
      });
    end(result);
    expect(await Promise.all([made, again])).toEqual([result, result]);
    await answers.close();
  });

  test.each([
    ['was answered', result],
    ['was denied', { ...result, ok: false, error: { code: 'denied', message: 'no', path: null } } satisfies ToolResult],
  ])('once it %s: here, under the next runner, and of a closed run', async (_, told) => {
    const answers = Answers.create(dir.answers);
    await answers.once('a', asks(first), async () => told);
    await expectHolds((request) => answers.once('a', request, never), told);
    await answers.close();
    const next = await Answers.reopen(dir.answers);
    await expectHolds((request) => next.once('a', request, never), told);
    await next.close();
    await expectHolds((request) => findAnswer(dir, 'a', request), told);
    expect(await findAnswer(dir, 'a'), 'who asks for the answer alone gets it').toEqual(told);
  });

  test('once it has failed, and that is its answer', async () => {
    const answers = Answers.create(dir.answers);
    const lost = new RunnerError('sandbox_lost', 'it is gone');
    await answers
      .once('a', asks(first), async (making) => {
        making.begun();
        throw lost;
      })
      .catch(() => undefined);
    await expectHolds((request) => answers.once('a', request, never), lost);
    await answers.close();
  });

  test('but not for one that failed before it began', async () => {
    const answers = Answers.create(dir.answers);
    const early = new RunnerError('engine_timeout', 'not yet');
    await expect(answers.once('a', asks(first), () => Promise.reject(early))).rejects.toBe(early);
    expect(await answers.once('a', asks({ ...first, script: 'make all' }), async () => result)).toEqual(result);
    await answers.close();
  });

  test('once its intent is on record, whatever was kept of its answer', async () => {
    const { arguments: shown, argsDigest } = await boundArguments(asks(first).call);
    const before = askedBefore({ ...intended('a').data, tool: 'exec', arguments: shown, argsDigest });
    await expectHolds((request) => request.refuseOther('a', before), undefined);
  });

  test('while people are asked for it in the name of a runner that is gone', async () => {
    const whole = (await outlineBytes(asks(first).call)) as Record<string, unknown>;
    await expectHolds((request) => request.refuseOtherThanShown('a', { whole, begins: '' }), undefined);
    const long = { ...first, script: 'make '.repeat(2_000) };
    const shown = { whole: undefined, begins: JSON.stringify(await outlineBytes(asks(long).call)).slice(0, 7_900) };
    await asks({ ...long, yieldMs: 0 }).refuseOtherThanShown('a', shown);
    const other = asks({ ...long, script: ` ${long.script}` }).refuseOtherThanShown('a', shown);
    await expect(other).rejects.toMatchObject({ code: 'call_id_reused' });
  });
});
