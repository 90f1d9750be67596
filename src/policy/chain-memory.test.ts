import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ChainMemory } from './chain-memory.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'glovebox-policy-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

function text(name: string, more = ''): string {
  return `apiVersion: glovebox/v1\nkind: Policy\nname: ${name}\n${more}`;
}

const whole = 'images: [base]\nfiles: { read: ["**"] }\nbudget: { max_actions_per_run: 5 }\n';

test('a policy is checked once for what its files say, and again when any of them says something else', async () => {
  const memory = new ChainMemory();
  const [above, path] = [join(folder, 'above.yaml'), join(folder, 'own.yaml')];
  await writeFile(above, text('above', whole));
  await writeFile(path, text('own', 'extends: ./above.yaml\nimages: [base]\n'));
  const first = await memory.load(path);
  expect(await memory.load(path)).toBe(first);
  await writeFile(above, text('above', whole.replace('5', '6')));
  const second = await memory.load(path);
  expect(second).not.toBe(first);
  expect(second.map(({ file }) => file.budget?.max_actions_per_run)).toEqual([6, undefined]);
  await writeFile(path, text('own', 'extends: ./above.yaml\nbudget: { max_actions_per_run: 7 }\n'));
  await expect(memory.load(path)).rejects.toMatchObject({ code: 'invalid_policy' });
  await rm(path);
  await expect(memory.load(path)).rejects.toMatchObject({ code: 'invalid_policy' });
});

test('a text is checked once, and one that is refused each time', () => {
  const memory = new ChainMemory();
  const first = memory.parse(text('a', whole), 'the request');
  expect(memory.parse(text('a', whole), 'the request')).toBe(first);
  expect(memory.parse(text('b', whole), 'the request')).not.toBe(first);
  for (let n = 0; n < 2; n++)
    expect(() => memory.parse(text('c', 'files: 7\n'), 'the request')).toThrow(/the request:4/);
});
