import { chmod, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { messageOf } from '../errors.ts';
import { Secret } from './secret.ts';
import { findSource } from './sources.ts';

const token = 'tok-0123456789';
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'glovebox-sources-'));
  const secret = join(folder, 'secret');
  await writeFile(secret, `${token}\n`, { mode: 0o600 });
  await symlink(secret, join(folder, 'link'));
  await writeFile(join(folder, 'readable'), token);
  await chmod(join(folder, 'readable'), 0o644);
  await writeFile(join(folder, 'grouped'), token);
  await chmod(join(folder, 'grouped'), 0o660);
  await writeFile(join(folder, 'long'), 'x'.repeat(20_000), { mode: 0o600 });
  await execa('mkfifo', ['-m', '600', join(folder, 'fifo')]);
});
afterAll(() => rm(folder, { recursive: true }));

const commands = {
  give: ['/bin/echo', token],
  args: ['/bin/sh', '-c', 'printf "%s" "$0"', `${token}; echo no shell`],
  fail: ['/bin/sh', '-c', `echo ${token}; echo ${token} >&2; exit 3`],
  much: ['/bin/sh', '-c', 'head -c 100000 /dev/zero | tr "\\0" x'],
  slow: ['/bin/sh', '-c', 'sleep 60'],
  lines: ['/bin/echo', `${token}\nsecond`],
  absent: ['/nowhere/at/all'],
};

const ask = (reference: string) =>
  findSource('c', reference, {
    commands,
    env: { TOKEN: token, SHORT: 'abc', ODD: 'tök-0123456789' },
    timeoutMs: 400,
  })();

describe('a source', () => {
  test.each([
    ['env:TOKEN', token],
    ['command:give', token],
    ['command:args', `${token}; echo no shell`],
  ])('gives what it has: %s', async (reference, text) => {
    expect((await ask(reference)).reveal()).toBe(text);
  });

  test('may be a file of ours, a link to it too, without its last newline', async () => {
    for (const name of ['secret', 'link']) expect((await ask(`file:${join(folder, name)}`)).reveal()).toBe(token);
  });

  test.each([
    ['env:ABSENT', /ABSENT.*no such variable/],
    ['env:SHORT', /shorter than 8/],
    ['env:ODD', /printable ASCII/],
    ['command:fail', /exit code 3/],
    ['command:much', /more than 16384 bytes/],
    ['command:slow', /within 400 ms/],
    ['command:lines', /one line/],
    ['command:absent', /cannot be started/],
  ])('that cannot give it says why, and shows nothing of it: %s', async (reference, why) => {
    const error = await ask(reference).catch((error: unknown) => error);
    expect(error).toMatchObject({ code: 'credential_unavailable' });
    expect(messageOf(error)).toMatch(why);
    expect(inspect(error, { depth: 9 })).not.toContain(token);
  });

  test.each([
    ['readable', /others may read/],
    ['grouped', /others may read or change/],
    ['long', /larger than/],
    ['fifo', /not a regular file/],
    ['.', /not a regular file/],
    ['nothing', /ENOENT/],
  ])('is no file that others may read or that is none: %s', async (name, why) => {
    await expect(ask(`file:${join(folder, name)}`)).rejects.toThrow(why);
  });

  test.each(['vault:kv/x', 'file:relative/path', 'command:unknown', 'command:toString'])(
    'that cannot be had is refused before anything is opened: %s',
    (reference) => {
      expect(() => findSource('c', reference, { commands })).toThrow(
        expect.objectContaining({ code: 'policy_unenforceable' }) as Error,
      );
    },
  );
});

test('a secret shows itself to nobody who does not ask for it', () => {
  const secret = Secret.parse(token);
  const shown = [
    `${secret.toString()} ${JSON.stringify({ secret })} ${inspect({ secret }, { showHidden: true, depth: 9 })}`,
  ];
  expect(shown.join(' ')).not.toContain(token);
  expect(inspect(secret)).toBe('[secret]');
  expect(Object.keys(secret)).toEqual([]);
});
