import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { runProgram, type ProgramOptions } from './host-program.ts';

const options: ProgramOptions = { env: { PATH: '/usr/bin:/bin' }, timeoutMs: 10_000, outputBytesMax: 1024 * 1024 };
const sh = (script: string, more: Partial<ProgramOptions> = {}) =>
  runProgram('sh', ['-c', script], { ...options, ...more });

test('a program that ends by itself has a code, and what it said on either output', async () => {
  const end = await sh('echo out; echo err >&2; exit 3');
  expect({ ...end, stdout: String(end.stdout), stderr: String(end.stderr) }).toEqual({
    code: 3,
    why: '',
    stdout: 'out\n',
    stderr: 'err\n',
  });
});

test('it sees the variables that it is given, and none of ours', async () => {
  const end = await runProgram('env', [], { ...options, env: { PATH: '/usr/bin:/bin', GIVEN: 'yes' } });
  expect(String(end.stdout).trim().split('\n').toSorted()).toEqual(['GIVEN=yes', 'PATH=/usr/bin:/bin']);
});

test('it reads what it is given, then the end', async () => {
  const input = Buffer.alloc(300_000, 7);
  expect((await runProgram('cat', [], { ...options, input })).stdout.equals(input)).toBe(true);
});

test('what it does not read of its input is no fault', async () => {
  expect(await sh('exit 0', { input: Buffer.alloc(4 * 1024 * 1024) })).toMatchObject({ code: 0, why: '' });
});

test('past its time it is killed, and has no code', async () => {
  const end = await sh('echo begun; exec sleep 600', { timeoutMs: 200 });
  expect(end).toMatchObject({ code: undefined, why: 'it took longer than 200 ms' });
  expect(String(end.stdout)).toBe('begun\n');
});

test('more output than its bound ends it, and what is kept stays within it', async () => {
  const end = await sh('exec cat /dev/zero', { outputBytesMax: 100_000 });
  expect(end).toMatchObject({ code: undefined, why: 'it said more than 100000 bytes' });
  expect(end.stdout.length).toBeLessThanOrEqual(100_000);
});

test('it is cancelled before it begins, and while it runs', async () => {
  const before = await sh('echo begun', { signal: AbortSignal.abort() });
  expect([before.why, String(before.stdout)]).toEqual(['it was cancelled', '']);
  const controller = new AbortController();
  const running = sh('exec sleep 600', { signal: controller.signal });
  controller.abort();
  expect(await running).toMatchObject({ code: undefined, why: 'it was cancelled' });
});

test('who outlives it with its outputs is not waited for', async () => {
  const begunMs = performance.now();
  const end = await sh('sleep 600 & echo $!');
  expect(process.kill(Number(end.stdout), 'SIGKILL')).toBe(true); // it is still there
  expect(end.code).toBe(0);
  expect(performance.now() - begunMs).toBeLessThan(10_000);
});

test('what it said is read also where this process was busy for so long that the wait is over', async () => {
  const asked = sh('(sleep 0.3; echo late) &');
  await sleep(200);
  await nextTurn(); // after which timers come first
  for (const endMs = performance.now() + 2_300; performance.now() < endMs;); // nothing is read meanwhile
  expect(await asked).toMatchObject({ code: 0, stdout: Buffer.from('late\n') });
});

test('one that was killed by somebody else says by which signal', async () => {
  expect(await sh('kill -TERM $$')).toMatchObject({ code: undefined, why: 'SIGTERM has ended it' });
});

test('what cannot be started has no code and says why', async () => {
  expect(await runProgram('no-such-program', [], options)).toMatchObject({ code: undefined });
  expect((await runProgram('no-such-program', [], options)).why).toContain('ENOENT');
  expect((await runProgram('true', [], { ...options, cwd: '/no/such/place' })).why).toContain('ENOENT');
  expect((await runProgram('true', ['x'.repeat(200_000)], options)).why).toContain('E2BIG');
});
