import { appendFile, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RunDir } from '../data-dir/run-dir.ts';
import { RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import { ToolCall } from '../tools/tool-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import { Answers, findAnswer } from './answers.ts';
import { CallRequest } from './call-request.ts';

let dir: RunDir;

beforeEach(async () => {
  dir = new RunDir(newId(), await mkdtemp(join(tmpdir(), 'glovebox-answers-')));
});
afterEach(async () => {
  await rm(dir.path, { recursive: true, force: true });
});

function result(callId: string, text: string): ToolResult {
  return { callId, tool: 'exec', ok: true, text, data: null, error: null };
}

const request = new CallRequest(ToolCall.parse({ tool: 'exec', script: 'true' }));
const never = (): Promise<ToolResult> => Promise.reject(new Error('it ran again'));

test('work is done once for an id, however many ask for it at a time', async () => {
  const answers = Answers.create(dir.answers);
  let runs = 0;
  const work = async (): Promise<ToolResult> => {
    runs++;
    return result('a', 'one');
  };
  const all = await Promise.all([1, 2, 3].map(() => answers.once('a', request, work)));
  expect(all.map(({ text }) => text)).toEqual(['one', 'one', 'one']);
  expect(await answers.once('a', request, never)).toEqual(result('a', 'one'));
  expect(runs).toBe(1);
  await answers.close();
});

test.each(['process', 'power'] as const)(
  'an answer is on disk before it leaves, and is found there later (%s)',
  async (durability) => {
    const answers = Answers.create(dir.answers, durability);
    const texts = ['small', 'é\n"\\', 'x'.repeat(300_000), 'last'];
    for (const [n, text] of texts.entries()) {
      await answers.once(`call-${n}`, request, async () => result(`call-${n}`, text));
      expect(await findAnswer(dir, `call-${n}`)).toEqual(result(`call-${n}`, text));
    }
    const next = await Answers.reopen(dir.answers);
    for (const [n, text] of texts.entries())
      expect(await next.once(`call-${n}`, request, never)).toEqual(result(`call-${n}`, text));
    await Promise.all([answers.close(), next.close()]);
    expect((await next.find('call-2'))?.text).toHaveLength(300_000);
    expect(await findAnswer(dir, 'call-9')).toBeUndefined();
  },
);

test('answers that come at the same time, large and small, do not mix', async () => {
  const answers = Answers.create(dir.answers);
  const ids = Array.from({ length: 40 }, (_, n) => `c${n}`);
  const textOf = (id: string): string => id.repeat(id.endsWith('3') ? 50_000 : 3);
  await Promise.all(ids.map((id) => answers.once(id, request, async () => result(id, textOf(id)))));
  await answers.close();
  for (const id of ids) expect((await findAnswer(dir, id))?.text === textOf(id)).toBe(true);
});

test('a failure of ours is the answer once the call has begun; before that it has not happened', async () => {
  const answers = Answers.create(dir.answers);
  const early = () => Promise.reject(new RunnerError('engine_timeout', 'not yet'));
  await expect(answers.once('a', request, early)).rejects.toMatchObject({ code: 'engine_timeout' });
  const late = ({ begun }: { begun: () => void }) => {
    begun();
    return Promise.reject(new RunnerError('sandbox_lost', 'it is gone'));
  };
  await expect(answers.once('a', request, late)).rejects.toMatchObject({ code: 'sandbox_lost' });
  await expect(answers.once('a', request, never)).rejects.toMatchObject({
    code: 'sandbox_lost',
    message: 'it is gone',
  });
  await answers.close();
  await expect(findAnswer(dir, 'a')).rejects.toMatchObject({ code: 'sandbox_lost' });
});

test('half a line that a dead runner has left is cut off, and the next answer stands by itself', async () => {
  const first = Answers.create(dir.answers);
  await first.once('a', request, async () => result('a', 'whole'));
  await first.close();
  await appendFile(dir.answers, '{"callId":"b","tool":"exec","te');
  const next = await Answers.reopen(dir.answers);
  expect(await next.find('b')).toBeUndefined();
  await next.once('b', request, async () => result('b', 'made by the next one'));
  await next.close();
  expect((await readFile(dir.answers, 'utf8')).split('\n')).toHaveLength(3);
  expect((await findAnswer(dir, 'b'))?.text).toBe('made by the next one');
});

test('what holds answers is readable by its owner alone, and is not there before there are any', async () => {
  const answers = Answers.create(dir.answers);
  await expect(stat(dir.answers)).rejects.toMatchObject({ code: 'ENOENT' });
  await answers.once('a', request, async () => result('a', ''));
  expect((await stat(dir.answers)).mode & 0o777).toBe(0o600);
  await answers.close();
});

test('an answer that cannot be kept does not leave, and none does after it', async () => {
  const nowhere = Answers.create(join(dir.path, 'missing', 'answers'));
  for (const id of ['a', 'b'])
    await expect(nowhere.once(id, request, async () => result(id, 'x'))).rejects.toMatchObject({
      code: 'data_dir_unusable',
    });
  await nowhere.close();
});

test('memory does not grow with what is answered', async () => {
  const answers = Answers.create(dir.answers);
  const big = 'x'.repeat(1024 * 1024);
  const before = process.memoryUsage().rss;
  for (let n = 0; n < 150; n++) await answers.once(`big-${n}`, request, async () => result(`big-${n}`, `${n}${big}`));
  expect(process.memoryUsage().rss - before).toBeLessThan(100 * 1024 * 1024);
  expect((await answers.once('big-0', request, never)).text.length).toBe(big.length + 1);
  await answers.close();
});
