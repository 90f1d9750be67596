import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import type { PipesOfPid1 } from '../engine.ts';
import { openPipes } from './pipes.ts';

const started: ChildProcess[] = [];

afterEach(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL');
});

test('what is written arrives, what it says comes back, and its end is the end', async () => {
  const { pid, pipes } = await echo();
  const duplex = opened(openPipes(pid, pipes));
  const chunks: Buffer[] = [];
  duplex.on('data', (chunk: Buffer) => chunks.push(chunk));
  const whole = Buffer.alloc(3_000_000, 'abc');
  duplex.write(whole);
  while (Buffer.concat(chunks).length < whole.length) await once(duplex, 'data');
  expect(Buffer.concat(chunks).equals(whole)).toBe(true);
  process.kill(pid, 'SIGKILL');
  await once(duplex, 'close');
  duplex.write('nobody is there any more'); // is no error: the end has been told
});

test('a reader that is slow holds up the writer, and gets everything', async () => {
  const { pid, pipes } = await echo();
  const duplex = opened(openPipes(pid, pipes));
  duplex.write(Buffer.alloc(4 * 1024 * 1024, 'x'));
  duplex.read(0);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(duplex.readableLength).toBeLessThan(1024 * 1024);
  let bytes = 0;
  for await (const chunk of duplex as AsyncIterable<Buffer>) if ((bytes += chunk.length) === 4 * 1024 * 1024) break;
  expect(bytes).toBe(4 * 1024 * 1024);
});

test('what is not exactly the pipe that was named is not opened, and nothing stays open', async () => {
  const { pid, pipes } = await echo();
  const before = readdirSync('/proc/self/fd').length;
  const { in: into, out } = pipes;
  const lies: readonly [number, PipesOfPid1][] = [
    [pid, { in: into, out: { ...out, inode: out.inode + 1 } }],
    [pid, { in: { ...into, inode: into.inode + 1 }, out }],
    [pid, { in: into, out: { ...out, fd: 0 } }],
    [pid, { in: into, out: { ...out, fd: 4_294_967_295 } }],
    [pid, { in: { fd: 5, inode: statSync('/dev/null').ino }, out }], // its descriptor 5 is /dev/null
    [process.pid, pipes],
    [1, pipes],
    [4_194_304, pipes], // nobody: beyond the last number
  ];
  for (const [of, lie] of lies) expect(openPipes(of, lie)).toBeUndefined();
  expect(readdirSync('/proc/self/fd').length).toBe(before);
});

/** A `cat` between two pipes. */
async function echo(): Promise<{ pid: number; pipes: PipesOfPid1 }> {
  const script = `sleep 60 | sh -c 'echo $$ >&2; exec cat 5</dev/null' | sleep 60`;
  const child = spawn('sh', ['-c', script], { stdio: ['ignore', 'ignore', 'pipe'] });
  started.push(child);
  const pid = Number(String((await once(child.stderr, 'data'))[0]));
  while (readFileSync(`/proc/${pid}/comm`, 'utf8') !== 'cat\n') await setImmediate(); // until then its shell moves them about
  const at = (fd: number) => ({ fd, inode: statSync(`/proc/${pid}/fd/${fd}`).ino });
  return { pid, pipes: { in: at(0), out: at(1) } };
}

function opened(duplex: Duplex | undefined): Duplex {
  if (duplex === undefined) throw new Error('the pipes could not be opened');
  return duplex;
}
