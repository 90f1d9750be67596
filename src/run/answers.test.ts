import { expect, test } from 'vitest';
import { Answers } from './answers.ts';
import type { ToolResult } from '../tools/tool-result.ts';

function answer(text: string): Promise<ToolResult> {
  return Promise.resolve({ callId: 'x', tool: 'exec', ok: true, text, data: null, error: null });
}

test('work is done once for an id, also when it fails', async () => {
  const answers = new Answers();
  const works: string[] = [];
  const fail = () => {
    works.push('fail');
    return Promise.reject(new Error('broken'));
  };
  await expect(answers.once('a', fail)).rejects.toThrow('broken');
  await expect(answers.once('a', fail)).rejects.toThrow('broken');
  expect(works).toEqual(['fail']);
});

test('memory for answers is bounded, and a forgotten id never runs again', async () => {
  const answers = new Answers();
  const big = 'x'.repeat(8 * 1024 * 1024);
  for (let n = 0; n < 6; n++) await answers.once(`big-${n}`, () => answer(big));
  let ran = false;
  const again = answers.once('big-0', () => {
    ran = true;
    return answer('again');
  });
  await expect(again).rejects.toMatchObject({ code: 'call_exists' });
  expect(ran).toBe(false);
  expect((await answers.once('big-5', () => answer('again'))).text).toBe(big);
});
