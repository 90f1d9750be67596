import { appendFile, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { canonicalJson, digestOf } from '../digest.ts';
import { boundArguments } from '../journal/bound-arguments.ts';
import { findKeptArguments, KeptArguments } from './kept-arguments.ts';

let directory: string;
let file: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'glovebox-arguments-'));
  file = join(directory, 'arguments.ndjson');
});
afterEach(() => rm(directory, { recursive: true, force: true }));

test.each([
  ['a short command', { tool: 'exec', argv: ['echo', 'é\n'] }, true],
  ['a long string', { tool: 'write', content: { utf8: 'x\n'.repeat(2000) } }, false],
  ['a few bytes', { tool: 'write', content: { base64: Buffer.from([0, 255]) } }, false],
  ['many bytes', { tool: 'write', content: { base64: Buffer.alloc(2_000_000, 7) } }, false],
  ['many members', { tool: 'exec', argv: Array.from({ length: 65 }, String) }, false],
  ['a name that no record can have', { tool: 'exec', env: JSON.parse('{"__proto__":"1"}') as unknown }, false],
  ['more than an entry holds', { tool: 'exec', argv: Array.from({ length: 60 }, (_, n) => `${n}`.repeat(500)) }, false],
])('%s: the journal has it whole, or else what is kept has it', async (_, call, wholly) => {
  const bound = await boundArguments(call);
  expect(bound.wholly).toBe(wholly);
  expect(digestOf(canonicalJson(bound.arguments)) === bound.argsDigest).toBe(wholly);
  const kept = KeptArguments.create(file);
  kept.keep(bound.whole);
  kept.keep((await boundArguments({ tool: 'exec', script: 'next' })).whole);
  await kept.close();
  const find = await findKeptArguments(file);
  const found = (await find(bound.argsDigest)) ?? '';
  expect(found === canonicalJson(call)).toBe(true);
  expect(Buffer.byteLength(found)).toBe(bound.whole.bytes);
  expect(await find(digestOf('another'))).toBeUndefined();
});

test('half a line of a runner that died is cut off, and what comes after it is whole', async () => {
  const first = await boundArguments({ tool: 'read', path: 'a' });
  const kept = KeptArguments.create(file);
  kept.keep(first.whole);
  await kept.close();
  await appendFile(file, '{"tool":"wri');
  const again = await KeptArguments.reopen(file);
  const second = await boundArguments({ tool: 'read', path: 'b' });
  again.keep(second.whole);
  await again.close();
  const find = await findKeptArguments(file);
  expect([await find(first.argsDigest), await find(second.argsDigest)]).toEqual([first.whole.json, second.whole.json]);
});

test('a run keeps so much and no more, and none of it is in the way of what comes after a failure', async () => {
  const kept = KeptArguments.create(file);
  for (let n = 0; n < 4; n++) kept.keep({ json: '"last"', bytes: 32 * 1024 ** 2 });
  kept.keep({ json: '"more"', bytes: 6 });
  await kept.close();
  const find = await findKeptArguments(file);
  expect([await find(digestOf('"last"')), await find(digestOf('"more"'))]).toEqual(['"last"', undefined]);

  const nowhere = KeptArguments.create(join(directory, 'missing', 'arguments.ndjson'));
  nowhere.keep({ json: '1', bytes: 1 });
  nowhere.keep({ json: [Buffer.from('1')], bytes: 1 });
  await nowhere.close();
  expect(await (await findKeptArguments(join(directory, 'missing')))(digestOf('1'))).toBeUndefined();
});

test('a run of which the journal says all has no such file', async () => {
  const kept = KeptArguments.create(file);
  await kept.close();
  await expect(stat(file)).rejects.toThrow('ENOENT');
});
