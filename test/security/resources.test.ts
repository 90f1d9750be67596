import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ContainerStream, Engine } from '../../src/engine/engine.ts';
import { newId } from '../../src/ids.ts';
import { defaultLimits } from '../../src/sandbox/container-body.ts';
import { Sandbox } from '../../src/sandbox/sandbox.ts';
import { commandsMax } from '../../src/sandbox/wire.ts';
import { Box, Boxes, testLabel } from '../fixtures/box.ts';
import { rawDocker } from '../fixtures/raw-docker.ts';

/** What one sandbox eats ends at its bounds: it goes on, and another one beside it does not notice. */
const MiB = 1024 * 1024;
/** Alone an echo takes one or two milliseconds. */
const echoMs = 100;
const worseBy = 4;

let boxes: Boxes;
let box: Box;
/** The one beside. */
let other: Box;

beforeAll(async () => {
  boxes = await Boxes.make();
  [box, other] = await Promise.all([boxes.open({ limits: small }), boxes.open()]);
});

afterAll(async () => {
  await boxes.close();
});

const small = {
  memoryBytes: 192 * MiB,
  pidsMax: 128,
  openFilesMax: 1024,
  workspaceBytes: 16 * MiB,
  workspaceInodes: 2_000,
  tmpBytes: 16 * MiB,
  homeBytes: 8 * MiB,
  shmBytes: 8 * MiB,
} as const;

describe('processes', () => {
  test('a fork bomb stops at the limit, is told as that, and the next call runs', async () => {
    const { end } = await box.run(['python3', '-c', 'import os\nwhile True: os.fork()'], { killAfterMs: 20_000 });
    expect(end.outcome).toMatchObject({ kind: 'pids_limit', limit: 128 });
    expect(end.killed).toBeLessThan(128);
    expect(await box.output('echo next')).toBe('next\n');
  });

  test('a fork bomb that goes on is ended by its clock, and the sandbox beside answers all the while', async () => {
    const quietMs = p99(await echoesUntil(sleep(500)));
    const bomb = box.run(['python3', '-c', endlessBomb], { killAfterMs: 2_000, graceMs: 0 });
    const counts: number[] = [];
    const [{ end }, echoes] = await Promise.all([
      bomb,
      echoesUntil(bomb, async () => {
        for (const { processes } of await box.sandbox.list()) counts.push(processes);
      }),
    ]);
    expect(end.outcome).toEqual({ kind: 'timed_out', afterMs: 2_000 });
    expect(end.wallMs).toBeLessThan(4_000);
    expect(Math.max(...counts)).toBeGreaterThan(100);
    expect(Math.max(...counts)).toBeLessThan(128);
    expect(p99(echoes)).toBeLessThan(Math.max(echoMs, quietMs * worseBy));
    expect(await box.output('echo next')).toBe('next\n');
  });

  test('64 that spin leave the sandbox beside responsive', async () => {
    const quietMs = p99(await echoesUntil(sleep(500)));
    const spin = box.run('for i in $(seq 64); do while :; do :; done & done; wait', { killAfterMs: 2_000, graceMs: 0 });
    const echoes = await echoesUntil(spin);
    expect((await spin).end.outcome.kind).toBe('timed_out');
    expect(echoes.length).toBeGreaterThan(20);
    expect(p99(echoes)).toBeLessThan(Math.max(echoMs, quietMs * worseBy));
  });

  test('orphans that end are reaped while the call runs, zombies of its own when it ends', async () => {
    const orphans =
      'for i in $(seq 500); do (true &) ; done; sleep 0.2; grep -l "^State:.Z" /proc/[0-9]*/status | wc -l';
    expect(await box.output(orphans)).toBe('0\n');
    const zombies = 'import os\nfor n in range(100):\n  if os.fork() == 0: os._exit(0)';
    await box.output(['python3', '-c', zombies]);
    expect(await box.output('grep -l "^State:.Z" /proc/[0-9]*/status | wc -l')).toBe('0\n');
  });

  test('a call that ignores TERM has ended a second after its grace at the latest', async () => {
    const startMs = performance.now();
    const { end, stdout } = await box.run("trap '' TERM; echo here; while :; do sleep 0.1; done", {
      killAfterMs: 300,
      graceMs: 300,
    });
    expect(end.outcome).toEqual({ kind: 'timed_out', afterMs: 300 });
    expect(performance.now() - startMs).toBeLessThan(1_600);
    expect(stdout).toBe('here\n');
  });

  test('of 100 calls at once as many run as may, and the others are refused by name', async () => {
    const spec = { command: { kind: 'argv', argv: ['sleep', '30'] } } as const;
    const tried = await Promise.allSettled(Array.from({ length: 100 }, () => other.sandbox.start(newId(), spec)));
    const calls = tried.filter((one) => one.status === 'fulfilled').map((one) => one.value);
    await Promise.all(calls.map((call) => call.started));
    const running = (await other.sandbox.list()).length;
    for (const call of calls) call.kill({ graceMs: 0 });
    await Promise.all(calls.map((call) => call.gone));
    expect([calls.length, running]).toEqual([commandsMax, commandsMax]);
    for (const one of tried)
      if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'too_many_calls' });
    expect(await other.output('echo next')).toBe('next\n');
  });

  test('descriptors end at their number, for the call that wants them alone', async () => {
    const files =
      'import os\nn = 0\ntry:\n  while True: os.open("/dev/null", 0); n += 1\nexcept OSError as e: print(n, e.errno)';
    const [count = 0, errno] = (await box.output(['python3', '-c', files])).trim().split(' ').map(Number);
    expect([count > 900 && count <= 1024, errno]).toEqual([true, 24]);
    expect(await box.output('echo next')).toBe('next\n');
  });
});

describe('memory', () => {
  const hog = 'x = b"x" * (1 << 30)';
  const share = 'import time\nx = b"x" * (64 << 20)\ntime.sleep(1)';

  test.each([
    ['a leader', ['python3', '-c', hog]],
    ['a child of a shell', ['/bin/sh', '-c', `python3 -c '${hog}'; exit $?`]],
    [
      'files that have no name',
      ['python3', '-c', 'import os\nfd = os.memfd_create("x")\nwhile True: os.write(fd, bytes(1 << 20))'],
    ],
    ['three at once', ['/bin/sh', '-c', `for i in 1 2 3; do python3 -c '${hog}' & done; wait; exit 1`]],
    ['eight together', ['/bin/sh', '-c', `for i in $(seq 8); do python3 -c '${share}' & done; wait; exit 1`]],
  ] as const)('that %s takes too much of is out_of_memory; supervisor and next call live', async (_name, argv) => {
    const sibling = box.run('sleep 0.2; exec cat /proc/1/oom_score_adj /proc/self/oom_score_adj');
    const { end } = await box.run([...argv], { killAfterMs: 20_000 });
    expect(end.outcome).toMatchObject({ kind: 'out_of_memory', limitBytes: small.memoryBytes });
    await sibling;
    const [supervisor = 0, tool = 0] = (await box.output('cat /proc/1/oom_score_adj /proc/self/oom_score_adj'))
      .split('\n')
      .map(Number);
    expect(tool).toBe(1000);
    expect(supervisor).toBeLessThan(tool);
    expect(box.sandbox.state).toBe('running');
  });
});

describe('file systems', () => {
  const places = [
    ['/workspace', small.workspaceBytes],
    ['/tmp', small.tmpBytes],
    ['/home/agent', small.homeBytes],
  ] as const;

  test.each(places)(
    '%s that is full is disk_full by its name; what was written can be deleted',
    async (place, bytes) => {
      const { end, stdout } = await box.run(
        `cat /dev/zero > ${place}/full; status=$?; wc -c < ${place}/full; exit $status`,
      );
      expect(end.outcome).toMatchObject({ kind: 'disk_full', where: [place] });
      expect(Number(stdout)).toBeGreaterThan(bytes * 0.9);
      expect(Number(stdout)).toBeLessThanOrEqual(bytes);
      expect(
        await box.output(`rm ${place}/full; echo again > ${place}/again; cat ${place}/again; rm ${place}/again`),
      ).toBe('again\n');
    },
  );

  test.each(places)('%s that has no inode left is disk_full too, and is usable after a removal', async (place) => {
    const fill = 'import os, sys\nos.mkdir("many")\nfor n in range(10**6): os.close(os.open(f"many/{n}", os.O_CREAT))';
    const { end } = await box.run(['python3', '-c', fill], { cwd: place });
    expect(end.outcome).toMatchObject({ kind: 'disk_full', where: [place] });
    expect(await box.output('ls -f many | wc -l; rm -r many; echo > again; rm again', { cwd: place })).toMatch(
      /^\d{3,5}\n$/,
    );
  });

  test('/dev/shm ends at its size', async () => {
    const { end, stdout } = await box.run(
      'cat /dev/zero > /dev/shm/full; status=$?; wc -c < /dev/shm/full; rm /dev/shm/full; exit $status',
    );
    expect(end.outcome).toEqual({ kind: 'exited', code: 1 });
    expect(Number(stdout)).toBeLessThanOrEqual(small.shmBytes);
  });

  test('a file that was deleted while open gives its room back with its call', async () => {
    await box.run('exec 5>ghost; rm ghost; cat /dev/zero >&5; sleep 30', { killAfterMs: 500, graceMs: 0 });
    expect(await box.output('head -c 12M /dev/zero > big; wc -c < big; rm big')).toBe(`${12 * MiB}\n`);
  });
});

describe('output', () => {
  test('a flood stops at the limit, and this process holds none of it', async () => {
    const rss = watchRss();
    const call = await other.sandbox.start(newId(), {
      command: { kind: 'argv', argv: ['yes', 'x'.repeat(1000)] },
      outputMaxBytes: 300_000_000,
    });
    const end = await call.ended;
    await call.gone;
    expect(end.outcome).toEqual({ kind: 'output_limit', limitBytes: 300_000_000 });
    expect(call.output.size()).toBe(300_000_000);
    expect(rss()).toBeLessThan(64 * MiB);
  });

  test('a million lines, one line of 50 MB, and streams that change with every byte are kept to the byte', async () => {
    const program = (text: string): [string, ...string[]] => ['python3', '-c', `import os, sys\n${text}`];
    const [lines, line, bytes] = await Promise.all([
      begin(program('for n in range(10**6): print(n)')),
      begin(program('for n in range(50): sys.stdout.write("0123456789" * 100000)')),
      begin(program('for n in range(50000): os.write(1, b"a"); os.write(2, b"b")')),
    ]);
    await Promise.all([lines.gone, line.gone, bytes.gone]);
    const ends = await Promise.all([lines.ended, line.ended, bytes.ended]);
    expect(ends.map((end) => end.outcome)).toEqual(ends.map(() => ({ kind: 'exited', code: 0 })));
    expect([lines.output.size(), line.output.size()]).toEqual([6_888_890, 50_000_000]);
    expect(await digest(lines)).toBe(sha256(Array.from({ length: 1_000_000 }, (_, n) => `${n}\n`).join('')));
    expect(await digest(line)).toBe(sha256('0123456789'.repeat(5_000_000)));
    expect(bytes.output.totals).toEqual({ totalBytes: 100_000, stdoutBytes: 50_000, stderrBytes: 50_000 });
  });

  test('of a reader that stalls makes the task wait, and loses nothing', async () => {
    const { engine, stall, goOn } = stallable(boxes.engine);
    const slow = await openOn(engine);
    const ticks = 'import time\nfor n in range(60000): print(n, time.monotonic(), "x" * 150)';
    const call = await slow.sandbox.start(newId(), { command: { kind: 'argv', argv: ['python3', '-uc', ticks] } });
    await call.output.waitBeyond(100_000, 10_000);
    stall();
    await sleep(2_500);
    goOn();
    expect((await call.ended).outcome).toEqual({ kind: 'exited', code: 0 });
    await call.gone;
    const rows = (await call.output.read(0, 2 ** 24)).bytes
      .toString()
      .trimEnd()
      .split('\n')
      .map((row) => row.split(' ').map(Number));
    expect(rows.map(([n]) => n)).toEqual(Array.from({ length: 60_000 }, (_, n) => n));
    const gaps = rows.slice(1).map(([, at = 0], n) => at - (rows[n]?.[1] ?? at));
    expect(Math.max(...gaps)).toBeGreaterThan(1.5);
    await slow.close();
  });

  test('cannot be forged: no tool writes into the stream of the container', async () => {
    const paths =
      '/proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/2 /proc/1/fdinfo/1 /proc/1/mem /dev/console /dev/tty /dev/pts/0';
    const script = `for p in ${paths}; do printf 'BG%0.s' 1 2 3 > $p; done 2>/dev/null; printf 'GB\\201\\000'; kill -9 1; kill -STOP 1; echo tried`;
    expect((await box.run(script)).stdout).toMatch(/^GB[^]*tried\n$/);
    expect(await box.output('echo next')).toBe('next\n');
    expect(box.sandbox.state).toBe('running');
  });

  test('of one that floods and dies does not disturb the other', async () => {
    const quietMs = p99(await echoesUntil(sleep(500)));
    const doomed = await boxes.open();
    const flood = { command: { kind: 'script', script: 'yes & yes >&2 & yes' } } as const;
    const floods = await Promise.all([1, 2, 3].map(() => doomed.sandbox.start(newId(), flood)));
    const dying = sleep(1_500).then(async () => {
      await rawDocker('POST', `/containers/${doomed.sandbox.containerId}/kill`);
      return Promise.all(floods.map((call) => call.ended));
    });
    const echoes = await echoesUntil(dying);
    for (const end of await dying) expect(end.outcome.kind).toBe('sandbox_lost');
    expect(echoes.length).toBeGreaterThan(20);
    expect(p99(echoes)).toBeLessThan(Math.max(echoMs * 5, quietMs * worseBy));
    expect(other.sandbox.state).toBe('running');
  });
});

const endlessBomb = `
import os
while True:
    try: os.fork()
    except OSError: pass`;

/** How long each of the other sandbox's echoes took, until then; every one must succeed. */
async function echoesUntil(
  end: Promise<unknown>,
  meanwhile: () => Promise<void> = async () => undefined,
): Promise<number[]> {
  const times: number[] = [];
  const state = { ended: false };
  const watched = end.finally(() => {
    state.ended = true;
  });
  while (!state.ended) {
    const startMs = performance.now();
    expect(await other.output(['echo', 'here'])).toBe('here\n');
    times.push(performance.now() - startMs);
    if (times.length % 20 === 0) await meanwhile();
    await sleep(2);
  }
  await watched;
  return times.sort((a, b) => a - b);
}

function p99(sorted: readonly number[]): number {
  return sorted[Math.floor(sorted.length * 0.99)] ?? Number.POSITIVE_INFINITY;
}

/** Gives by how much this process has grown at most. */
function watchRss(): () => number {
  const before = process.memoryUsage.rss();
  let most = before;
  const timer = setInterval(() => {
    most = Math.max(most, process.memoryUsage.rss());
  }, 20);
  return () => {
    clearInterval(timer);
    return most - before;
  };
}

type Call = Awaited<ReturnType<Sandbox['start']>>;

function begin(argv: readonly [string, ...string[]]): Promise<Call> {
  return other.sandbox.start(newId(), { command: { kind: 'argv', argv } });
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

async function digest(call: Call): Promise<string> {
  const hash = createHash('sha256');
  for (let at = 0, done = false; !done;) {
    const piece = await call.output.read(at, MiB, 'stdout');
    hash.update(piece.bytes);
    ({ nextOffset: at, done } = piece);
  }
  return hash.digest('hex');
}

async function openOn(engine: Engine): Promise<Box> {
  const id = newId();
  const spec = {
    id,
    image: boxes.image,
    runtime: 'runc',
    limits: defaultLimits,
    labels: { [testLabel]: id },
  } as const;
  return new Box(await Sandbox.open(engine, spec, { directory: join(boxes.directory, id) }));
}

/** An engine whose streams can stand still. */
function stallable(real: Engine): { engine: Engine; stall: () => void; goOn: () => void } {
  const streams: Duplex[] = [];
  const keep = (stream: ContainerStream): ContainerStream => {
    const { openPipes } = stream;
    streams.push(stream.duplex);
    if (openPipes === undefined) return stream;
    const open: ContainerStream['openPipes'] = (pipes) => {
      const direct = openPipes(pipes);
      if (direct !== undefined) streams.push(direct);
      return direct;
    };
    return { ...stream, openPipes: open };
  };
  const engine: Engine = Object.assign(Object.create(real) as Engine, {
    start: async (spec: Parameters<Engine['start']>[0]) => {
      const started = await real.start(spec);
      return { ...started, stream: keep(started.stream) };
    },
    describe: () => real.describe(),
    inspect: (id: string) => real.inspect(id),
    destroy: (id: string) => real.destroy(id),
    ensureFiles: (...args: Parameters<Engine['ensureFiles']>) => real.ensureFiles(...args),
  });
  return {
    engine,
    stall: () => streams.forEach((stream) => stream.pause()),
    goOn: () => streams.forEach((stream) => stream.resume()),
  };
}
