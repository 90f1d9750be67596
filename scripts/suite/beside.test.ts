import { tmpdir } from 'node:os';
import { afterEach, expect, test, vi } from 'vitest';
import { beside } from './beside.ts';

afterEach(() => vi.restoreAllMocks());

test.each([
  ['exit 0', true],
  ['exit 3', false],
])('all that a program has said is shown in one piece, and whether it held (%s)', async (end, held) => {
  const log = vi.spyOn(console, 'log').mockReturnValue();
  const program = beside('a program', 'sh', ['-c', `echo one; echo two >&2; ${end}`], tmpdir());
  expect(await program.shown()).toBe(held);
  expect(log.mock.calls).toEqual([['== a program\none\ntwo']]);
  program.end();
});

test('what is ended has not held, and nothing that it has started goes on', async () => {
  vi.spyOn(console, 'log').mockReturnValue();
  const program = beside('a program', 'sh', ['-c', 'sleep 600 & sleep 600'], tmpdir());
  program.end();
  program.end();
  expect(await program.shown()).toBe(false); // its output has ended: nobody holds it any more
});
