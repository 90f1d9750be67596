import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newId } from '../src/ids.ts';
import type { RunningCall } from '../src/sandbox/call.ts';
import type { Sandbox } from '../src/sandbox/sandbox.ts';
import { Boxes, type Box } from './fixtures/box.ts';

/** One sandbox on the real engine: what a command does, how it ends, and what comes of what it wrote. */
let boxes: Boxes;
let box: Box;

beforeAll(async () => {
  boxes = await Boxes.make();
  box = await boxes.open();
});

afterAll(async () => {
  await boxes.close();
});

function begin(what: string, options: object = {}, sandbox: Sandbox = box.sandbox): Promise<RunningCall> {
  return sandbox.start(newId(), { command: { kind: 'script', script: what }, ...options });
}

async function textOf(call: RunningCall, view?: 'stdout' | 'stderr'): Promise<string> {
  return (await call.output.read(0, 2 ** 24, view)).bytes.toString();
}

/** Once the call has written this. */
async function wrote(call: RunningCall, text: string): Promise<void> {
  for (let at = -1; !(await textOf(call)).includes(text);) {
    if (call.output.finished) throw new Error(`it never wrote ${text}: ${await textOf(call)}`);
    await call.output.waitBeyond(at, 10_000);
    at = call.output.size();
  }
}

describe('a command', () => {
  test('has stdout and stderr apart, and merged in the order of writing', async () => {
    const call = await begin('echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three');
    expect((await call.ended).outcome).toEqual({ kind: 'exited', code: 0 });
    expect([await textOf(call), await textOf(call, 'stdout'), await textOf(call, 'stderr')]).toEqual([
      'one\ntwo\nthree\n',
      'one\nthree\n',
      'two\n',
    ]);
    expect(call.output.segments().map((segment) => segment.stream)).toEqual(['stdout', 'stderr', 'stdout']);
  });

  test('may be a script of 1 MB', async () => {
    const { end, stdout } = await box.run(`${'# ballast\n'.repeat(105_000)}echo done; exit 7`);
    expect([end.outcome, stdout]).toEqual([{ kind: 'exited', code: 7 }, 'done\n']);
  });

  test('sees the default environment, no input, and its cwd', async () => {
    const stdout = await box.output('cat; pwd; echo "$HOME $TERM $LANG ${SECRET-none}"', {
      cwd: '/tmp',
      env: { TERM: 'vt52' },
    });
    expect(stdout).toBe('/tmp\n/home/agent vt52 C.UTF-8 none\n');
  });

  test('may open its own output and input again, as scripts do', async () => {
    const script = 'echo out > /dev/stdout; echo err > /dev/stderr; echo both | tee /dev/stderr; cat < /dev/stdin';
    const bytes = Buffer.from('in\n');
    const { stdout, stderr } = await box.run(script, { stdin: { kind: 'bytes', bytes } });
    expect([stdout, stderr]).toEqual(['out\nboth\nin\n', 'err\nboth\n']);
  });

  test('reads the bytes it is given, all of them, whatever they are', async () => {
    const bytes = Buffer.alloc(1_500_000, Buffer.from([0, 255, 10, 13, 0xc3, 0x28]));
    const { stdout } = await box.run('sha256sum', { stdin: { kind: 'bytes', bytes } });
    const expected = execFileSync('sha256sum', { input: bytes, encoding: 'utf8' });
    expect(stdout).toBe(expected);
  });

  test('need not read what it is given', async () => {
    const { end } = await box.run('exit 4', { stdin: { kind: 'bytes', bytes: Buffer.alloc(1_000_000) } });
    expect(end.outcome).toEqual({ kind: 'exited', code: 4 });
  });

  test('can be spoken to as long as its input is open', async () => {
    const call = await begin('while read -r line; do echo "got $line"; done; echo eof', { stdin: { kind: 'open' } });
    await call.write(Buffer.from('one\n'));
    await wrote(call, 'got one');
    await call.write(Buffer.from('two\n'));
    await call.closeStdin();
    await call.ended;
    expect(await textOf(call)).toBe('got one\ngot two\neof\n');
    await expect(call.write(Buffer.from('x'))).rejects.toMatchObject({ code: 'invalid_request' });
  });

  test('keeps fd 3 apart from what it prints', async () => {
    const call = await begin('echo shown; echo hidden >&3', { aux: true });
    await call.ended;
    expect([await textOf(call), call.output.aux().toString()]).toEqual(['shown\n', 'hidden\n']);
    expect(call.result?.output.totalBytes).toBe(6);
  });

  test('has a terminal of the asked size, which can change', async () => {
    const call = await begin('stty size; trap "stty size; exit" WINCH; echo ready; while :; do sleep 0.05; done', {
      tty: { columns: 80, rows: 24 },
    });
    await wrote(call, 'ready');
    call.resize(132, 50);
    await call.ended;
    expect((await textOf(call)).replaceAll('\r', '')).toBe('24 80\nready\n50 132\n');
  });

  test('gets signals: its tree, or the foreground of its terminal', async () => {
    const tree = await begin('trap "echo hup; exit 5" HUP; echo ready; while :; do sleep 0.05; done');
    await wrote(tree, 'ready');
    tree.signal(1);
    expect((await tree.ended).outcome).toEqual({ kind: 'exited', code: 5 });
    const waiting = 'trap "echo int; exit 6" INT; echo ready; while :; do sleep 0.05; done';
    const typed = await begin(waiting, { tty: { columns: 80, rows: 24 } });
    await wrote(typed, 'ready');
    await typed.write(Buffer.from([3])); // ^C
    expect((await typed.ended).outcome).toEqual({ kind: 'exited', code: 6 });
    const told = await begin(waiting, { tty: { columns: 80, rows: 24 } });
    await wrote(told, 'ready');
    told.signal(2, 'foreground');
    expect((await told.ended).outcome).toEqual({ kind: 'exited', code: 6 });
  });

  test('goes on while nobody waits, and is found again', async () => {
    const call = await begin('echo first; sleep 0.5; echo second');
    await wrote(call, 'first');
    expect(call.result).toBeUndefined();
    expect(await box.sandbox.list()).toContainEqual(expect.objectContaining({ id: call.id, state: 'running' }));
    await call.gone;
    expect(await textOf(call)).toBe('first\nsecond\n');
  });

  test('that is called twice by one id runs once', async () => {
    const id = newId();
    const spec = { command: { kind: 'argv', argv: ['true'] } } as const;
    await (
      await box.sandbox.start(id, spec)
    ).gone;
    await expect(box.sandbox.start(id, spec)).rejects.toMatchObject({ code: 'call_exists' });
  });

  test.each([
    ['not there', ['/nowhere/program'], {}, 'not_found'],
    ['not in PATH', ['no-such-program'], {}, 'not_found'],
    ['not executable', ['/etc/passwd'], {}, 'not_executable'],
    ['in a directory that is not there', ['true'], { cwd: '/nowhere' }, 'bad_cwd'],
    ['with an argument beyond what the kernel takes', ['true', 'x'.repeat(300_000)], {}, 'too_big'],
  ] as const)('%s was not started, and says why', async (_name, argv, options, reason) => {
    const { end } = await box.run(argv, options);
    expect(end.outcome).toMatchObject({ kind: 'not_started', reason });
  });
});

describe('a command is ended', () => {
  test('by its clock, with all it wrote before', async () => {
    const { end, stdout } = await box.run('echo before; sleep 60', { killAfterMs: 300, graceMs: 100 });
    expect(end.outcome).toEqual({ kind: 'timed_out', afterMs: 300 });
    expect(stdout).toBe('before\n');
    expect(end.wallMs).toBeLessThan(3_000);
  });

  test('by its silence', async () => {
    const { end, stdout } = await box.run('for i in 1 2 3 4; do echo $i; sleep 0.1; done; sleep 60', {
      idleMs: 500,
      graceMs: 0,
    });
    expect(end.outcome).toEqual({ kind: 'idle_timed_out', afterMs: 500 });
    expect(stdout).toBe('1\n2\n3\n4\n');
  });

  test('when asked, with its whole tree and without its siblings', async () => {
    const sibling = await begin('echo up; sleep 1; echo still here');
    await wrote(sibling, 'up');
    const call = await begin('setsid sleep 60 & (setsid sh -c "trap \\"\\" TERM; sleep 60" &) ; echo ready; sleep 60');
    await wrote(call, 'ready');
    call.kill({ graceMs: 0 });
    expect((await call.ended).outcome).toEqual({ kind: 'cancelled' });
    await call.gone;
    await sibling.ended;
    expect(await textOf(sibling)).toBe('up\nstill here\n');
    expect(await box.output('pgrep -c sleep || true', {})).toMatch(/^(0\n)?$/);
  });

  test('at once, when a kill with patience is followed by one without', async () => {
    const call = await begin('trap "" TERM; echo ready; while :; do sleep 0.05; done');
    await wrote(call, 'ready');
    call.kill({ graceMs: 30_000 });
    call.kill({ graceMs: 0 });
    const end = await call.ended;
    expect(end.outcome).toEqual({ kind: 'cancelled' });
    expect(end.wallMs).toBeLessThan(5_000);
  });

  test('when it writes more than it may: what is kept is exactly the limit', async () => {
    const call = await begin('yes', { outputMaxBytes: 100_000 });
    expect((await call.ended).outcome).toEqual({ kind: 'output_limit', limitBytes: 100_000 });
    await call.gone;
    expect((await call.output.read(0, 2 ** 20)).bytes.length).toBe(100_000);
  });

  test('and what it leaves behind is reaped, or kept when asked', async () => {
    const reaped = await begin('sleep 60 & echo done');
    expect(await reaped.ended).toMatchObject({ outcome: { kind: 'exited', code: 0 }, descendantsAlive: 1, killed: 1 });
    const kept = await begin('(sleep 0.6; echo late) & echo done', { descendants: 'keep', drainMs: 100 });
    expect(await kept.ended).toMatchObject({ outcome: { kind: 'exited', code: 0 }, killed: 0 });
    await kept.gone;
    expect(await textOf(kept)).toBe('done\nlate\n');
  });
});

describe('what the sandbox ran out of is told apart from a failing command', () => {
  test('a failing command is just that', async () => {
    expect((await box.run('exit 137')).end.outcome).toEqual({ kind: 'exited', code: 137 });
    expect((await box.run('kill -9 $$')).end.outcome).toEqual({ kind: 'signaled', signal: 9 });
  });

  test('memory', async () => {
    const MiB = 1024 * 1024;
    const limits = {
      memoryBytes: 128 * MiB,
      workspaceBytes: 16 * MiB,
      tmpBytes: 16 * MiB,
      homeBytes: 8 * MiB,
      shmBytes: 8 * MiB,
    };
    const small = await boxes.open({ limits });
    const { end } = await small.run(['python3', '-c', 'x = b"x" * (1 << 30)']);
    expect(end.outcome).toMatchObject({ kind: 'out_of_memory', limitBytes: 128 * MiB });
    expect((await small.run('exit 3')).end.outcome).toEqual({ kind: 'exited', code: 3 });
    await small.close();
  });

  test('processes', async () => {
    const few = await boxes.open({ limits: { pidsMax: 24 } });
    const { end } = await few.run('for i in $(seq 60); do sleep 5 & done; wait', { killAfterMs: 20_000 });
    expect(end.outcome).toMatchObject({ kind: 'pids_limit', limit: 24 });
    await few.close();
  });

  test('disk', async () => {
    const { end } = await box.run('cat /dev/zero > /tmp/full');
    expect(end.outcome).toMatchObject({ kind: 'disk_full', where: ['/tmp'] });
    await box.output('rm /tmp/full');
  });
});

describe('files', () => {
  const text = (path: string): Promise<string> => box.sandbox.files.read(path).then(({ bytes }) => bytes.toString());

  test('are written whole, read in ranges, and replaced only as they were', async () => {
    const { files } = box.sandbox;
    const written = await files.write('a/b.txt', Buffer.from('hello world'), { parents: true, mode: 0o640 });
    expect(written).toMatchObject({ type: 'file', mode: 0o640, sizeBytes: 11, uid: 10001 });
    expect((await files.read('a/b.txt', { offset: 6, lengthBytes: 3 })).bytes.toString()).toBe('wor');
    if (written.digest === undefined) throw new Error('no digest');
    await files.write('a/b.txt', Buffer.from('second'), { ifMatch: written.digest });
    await expect(files.write('a/b.txt', Buffer.from('x'), { ifMatch: written.digest })).rejects.toMatchObject({
      code: 'conflict',
    });
    await expect(files.write('a/b.txt', Buffer.from('x'), { create: 'only' })).rejects.toMatchObject({
      code: 'exists',
    });
    expect(await text('a/b.txt')).toBe('second');
    expect((await files.stat('a/b.txt')).mode).toBe(0o640);
  });

  test('are walked with contents, moved and removed', async () => {
    const { files } = box.sandbox;
    await files.unpack('.', [
      { path: 'w', type: 'directory', mode: 0o755 },
      { path: 'w/x', type: 'file', mode: 0o600, content: Buffer.from('X') },
      { path: 'w/l', type: 'symlink', mode: 0o777, target: 'x' },
    ]);
    const seen: unknown[] = [];
    for await (const item of files.walk(['w'], { contents: true }))
      seen.push(item.kind === 'entry' ? [item.entry.path, item.entry.type, item.content?.toString()] : item);
    expect(seen).toEqual([['w/l', 'symlink', undefined], ['w/x', 'file', 'X'], { kind: 'end', truncated: false }]);
    await files.move('w/x', 'w/y');
    await expect(files.remove('w')).rejects.toMatchObject({ code: 'not_empty' });
    await files.remove('w', { recursive: true });
    await expect(files.stat('w')).rejects.toMatchObject({ code: 'not_found' });
  });

  test('that an agent may not touch are refused by name', async () => {
    const { files } = box.sandbox;
    await expect(files.read('/etc/shadow')).rejects.toMatchObject({ code: 'permission_denied' });
    await expect(files.write('/etc/passwd', Buffer.from('x'))).rejects.toMatchObject({ name: 'FileError' });
    await expect(files.read('/proc/1/environ')).rejects.toMatchObject({ code: 'permission_denied' });
    await expect(files.read('/dev/zero')).rejects.toMatchObject({ name: 'FileError' });
    await expect(files.read('/etc')).rejects.toMatchObject({ code: 'is_directory' });
    await expect(files.read('')).rejects.toMatchObject({ code: 'invalid_path' });
  });

  test('a walk that nobody reads on holds the sandbox up by nothing, and ends with its loop', async () => {
    for (let round = 0; round < 5; round++) {
      for await (const item of box.sandbox.files.walk(['/usr'])) {
        await sleep(10 * round);
        expect(item.kind).toBe('entry');
        expect(await box.output('echo meanwhile')).toBe('meanwhile\n');
        break;
      }
    }
    for (let tries = 0; (await box.sandbox.list()).length > 0; tries++) {
      if (tries > 100) throw new Error('the walk is still there');
      await sleep(10);
    }
  });
});

test('what is asked is refused before it is sent, when it cannot be', async () => {
  await expect(begin('true', { env: { 'A=B': 'x' } })).rejects.toMatchObject({ code: 'invalid_request' });
  await expect(begin('true', { cwd: 'a\0b' })).rejects.toMatchObject({ code: 'invalid_request' });
  await expect(begin('#'.repeat(9_000_000))).rejects.toMatchObject({ code: 'limit_exceeded' });
});

test('54 commands run at once, not 55, and files, gateway and probe have their places meanwhile', async () => {
  const crowd = await boxes.open();
  const calls = await Promise.all(Array.from({ length: 54 }, () => begin('sleep 30', {}, crowd.sandbox)));
  await expect(begin('true', {}, crowd.sandbox)).rejects.toMatchObject({ code: 'too_many_calls' });
  const reads = Array.from({ length: 20 }, () => crowd.sandbox.files.stat('/etc/passwd'));
  const gateway = crowd.sandbox.openGateway({
    connection: (inner) => inner.reset(),
    datagram: () => undefined,
    lost: () => undefined,
  });
  const probe = crowd.sandbox.probe([{ kind: 'udp', address: '127.0.0.1', port: 53, timeoutMs: 1000 }]);
  expect(await Promise.all(reads)).toHaveLength(20);
  expect((await probe).interfaces).toHaveLength(1);
  await (await gateway).close();
  for (const call of calls) call.kill({ graceMs: 0 });
  await Promise.all(calls.map((call) => call.gone));
  expect(await crowd.output('echo free')).toBe('free\n');
  await crowd.close();
});

test('100 MB arrive whole', async () => {
  const call = await box.sandbox.start(newId(), {
    command: {
      kind: 'argv',
      argv: ['python3', '-c', 'import sys\nfor i in range(100): sys.stdout.buffer.write(bytes([i]) * 1000000)'],
    },
  });
  await call.gone;
  expect(call.result?.output.totalBytes).toBe(100_000_000);
  for (let n = 0; n < 100; n++) {
    const { bytes } = await call.output.read(n * 1_000_000, 1_000_000);
    expect(bytes.equals(Buffer.alloc(1_000_000, n))).toBe(true);
  }
});
