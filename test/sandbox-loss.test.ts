import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { digestOf } from '../src/digest.ts';
import { DockerEngine } from '../src/engine/docker/docker-engine.ts';
import type { Engine } from '../src/engine/engine.ts';
import { newId } from '../src/ids.ts';
import type { RunningCall } from '../src/sandbox/call.ts';
import { defaultLimits } from '../src/sandbox/container-body.ts';
import { Sandbox } from '../src/sandbox/sandbox.ts';
import { findOutput } from '../src/sandbox/find-output.ts';
import { Boxes, testLabel } from './fixtures/box.ts';
import { cuttable, ways } from './fixtures/cuttable-engine.ts';
import { rawDocker } from './fixtures/raw-docker.ts';

/** What becomes of calls when the stream, the runner, the supervisor or the container goes away under them. */
let boxes: Boxes;

beforeAll(async () => {
  boxes = await Boxes.make();
});

afterAll(async () => {
  await boxes.close();
});

test.each(ways)(
  'over the %s stream, a stream that is cut in the middle of output is joined again: every byte is there, once',
  async (way) => {
    const { engine, cut } = cuttable(await DockerEngine.connect(), way);
    const { sandbox } = await open(engine);
    const call = await start(
      sandbox,
      'i=0; while [ $i -lt 200000 ]; do echo "line $i of the output"; i=$((i+1)); done',
    );
    for (const at of [100_000, 1_500_000, 3_000_000]) {
      await call.output.waitBeyond(at, 20_000);
      cut();
    }
    const small = await start(sandbox, 'echo small');
    expect((await call.ended).outcome).toEqual({ kind: 'exited', code: 0 });
    await Promise.all([call.gone, small.gone]);
    expect((await small.ended).outcome).toEqual({ kind: 'exited', code: 0 });
    const expected = Array.from({ length: 200_000 }, (_, n) => `line ${n} of the output\n`).join('');
    expect((await call.output.read(0, 2 ** 24)).bytes.equals(Buffer.from(expected))).toBe(true);
    expect(sandbox.state).toBe('running');
    await sandbox.close();
  },
);

test.each(ways)('over the %s stream, input, clocks and kills go on over the joined stream', async (way) => {
  const { engine, cut } = cuttable(await DockerEngine.connect(), way);
  const { sandbox } = await open(engine);
  const reader = await sandbox.start(newId(), {
    command: { kind: 'script', script: 'wc -c' },
    stdin: { kind: 'open' },
  });
  const clocked = await start(sandbox, 'echo up; sleep 60', { killAfterMs: 1_500, graceMs: 0 });
  const killed = await start(sandbox, 'echo up; sleep 60');
  await killed.output.waitBeyond(0, 5_000);
  await reader.write(Buffer.alloc(300_000));
  cut();
  killed.kill({ graceMs: 0 });
  await reader.write(Buffer.alloc(300_000));
  await reader.closeStdin();
  await reader.ended;
  expect((await reader.output.read(0, 100)).bytes.toString().trim()).toBe('600000');
  expect((await killed.ended).outcome).toEqual({ kind: 'cancelled' });
  expect((await clocked.ended).outcome).toEqual({ kind: 'timed_out', afterMs: 1_500 });
  await sandbox.close();
});

test.each(ways)(
  'over the %s stream, another runner adopts the sandbox and finds its calls, their output whole',
  async (way) => {
    const { engine, cut, forbid } = cuttable(await DockerEngine.connect(), way);
    const opened = await open(engine);
    const done = await start(opened.sandbox, 'echo done before');
    await done.gone;
    const call = await start(opened.sandbox, 'seq 1 100000; sleep 1; echo end', { descendants: 'keep' });
    const quiet = await start(opened.sandbox, 'echo small; sleep 1; echo later');
    await call.output.waitBeyond(300_000, 10_000);
    forbid(); // as if this process had died: it must not join again, nor destroy anything
    cut();
    const { sandbox, calls } = await Sandbox.adopt(
      await DockerEngine.connect(),
      opened.sandbox.containerId,
      opened.options,
    );
    expect(calls.map((found) => found.id).sort()).toEqual([call.id, quiet.id].sort());
    for (const found of calls) expect((await found.ended).outcome).toEqual({ kind: 'exited', code: 0 });
    await Promise.all(calls.map((found) => found.gone));
    const read = async (id: string): Promise<string> => {
      const output = await findOutput(opened.options.directory, id);
      return output === undefined ? 'none' : (await output.read(0, 2 ** 24)).bytes.toString();
    };
    expect(await read(call.id)).toBe(`${Array.from({ length: 100_000 }, (_, n) => `${n + 1}\n`).join('')}end\n`);
    expect(await read(quiet.id)).toBe('small\nlater\n');
    expect(await read(done.id)).toBe('done before\n');
    await expect(start(sandbox, 'true', {}, call.id)).rejects.toMatchObject({ code: 'call_exists' });
    expect((await (await start(sandbox, 'exit 9')).ended).outcome).toEqual({ kind: 'exited', code: 9 });
    await sandbox.close();
  },
);

test('a stream in pipes of PID 1 needs no engine: nothing goes through it, and its connection may break', async () => {
  const real = await DockerEngine.connect();
  const attached: Duplex[] = [];
  const engine: Engine = Object.assign(Object.create(real) as Engine, {
    start: async (spec: Parameters<Engine['start']>[0]) => {
      const started = await real.start(spec);
      attached.push(started.stream.duplex);
      return started;
    },
    describe: () => real.describe(),
    destroy: (id: string) => real.destroy(id),
    ensureFiles: (...args: Parameters<Engine['ensureFiles']>) => real.ensureFiles(...args),
  });
  const { sandbox } = await open(engine);
  let through = 0;
  attached[0]?.on('data', (bytes: Buffer) => (through += bytes.length));
  const call = await start(sandbox, 'head -c 1000000 /dev/zero; read line; echo $line', { stdin: { kind: 'open' } });
  await call.output.waitBeyond(999_999, 10_000);
  expect(through).toBe(0);
  attached[0]?.destroy();
  await call.write(Buffer.from('on and on\n'));
  expect((await call.ended).outcome).toEqual({ kind: 'exited', code: 0 });
  expect((await call.output.read(1_000_000, 100)).bytes.toString()).toBe('on and on\n');
  await sandbox.close();
});

test('a container that is killed from outside is lost within a second, with the output so far', async () => {
  const { sandbox } = await open(boxes.engine);
  const call = await start(sandbox, 'echo before; sleep 60');
  await call.output.waitBeyond(0, 5_000);
  const startMs = performance.now();
  await rawDocker('POST', `/containers/${sandbox.containerId}/kill?signal=KILL`);
  const killedMs = performance.now();
  expect((await call.ended).outcome.kind).toBe('sandbox_lost');
  expect((await sandbox.lost).code).toBe('sandbox_lost');
  expect(performance.now() - killedMs).toBeLessThan(1_000);
  expect(killedMs).toBeGreaterThan(startMs);
  expect((await call.output.read(0, 100)).bytes.toString()).toBe('before\n');
  await expect(start(sandbox, 'true')).rejects.toMatchObject({ code: 'sandbox_lost' });
  await expect(sandbox.files.stat('/')).rejects.toMatchObject({ code: 'sandbox_lost' });
  await sandbox.close();
  expect(await boxes.engine.inspect(sandbox.containerId)).toBeUndefined();
});

test('a frozen supervisor is lost after five seconds of silence, and its container is destroyed', async () => {
  const { sandbox } = await open(boxes.engine);
  const call = await start(sandbox, 'sleep 60');
  await call.started;
  const { State } = await rawDocker('GET', `/containers/${sandbox.containerId}/json`);
  process.kill((State as { Pid: number }).Pid, 'SIGSTOP');
  const startMs = performance.now();
  expect((await call.ended).outcome.kind).toBe('sandbox_lost');
  expect(performance.now() - startMs).toBeLessThan(7_000);
  await sandbox.close();
  expect(await boxes.engine.inspect(sandbox.containerId)).toBeUndefined();
});

test.each(ways)('over the %s stream, without its runner everything inside ends by itself', async (way) => {
  const { engine, cut, forbid } = cuttable(await DockerEngine.connect(), way);
  const { sandbox } = await open(engine, { orphanMs: 1_000 });
  await start(sandbox, 'sleep 60');
  forbid();
  cut();
  for (let tries = 0; (await boxes.engine.inspect(sandbox.containerId))?.status === 'running'; tries++) {
    if (tries > 50) throw new Error('it still runs');
    await sleep(100);
  }
  await boxes.engine.destroy(sandbox.containerId);
});

test('a supervisor that is no supervisor leaves no container behind', async () => {
  const spec = specOf();
  const directory = join(boxes.directory, spec.id);
  const supervisor = Buffer.from('#!/bin/sh\necho hello\nsleep 60\n');
  await expect(Sandbox.open(boxes.engine, spec, { directory, supervisor })).rejects.toMatchObject({
    code: 'protocol_error',
  });
  expect(await boxes.engine.list({ [testLabel]: spec.id })).toEqual([]);
  const absent = Buffer.from('#!/bin/nothing\n');
  const other = specOf();
  const opening = Sandbox.open(boxes.engine, other, { directory: join(boxes.directory, other.id), supervisor: absent });
  await expect(opening).rejects.toMatchObject({ name: 'RunnerError' });
  expect(await boxes.engine.list({ [testLabel]: other.id })).toEqual([]);
  for (const bytes of [supervisor, absent])
    await rawDocker('DELETE', `/volumes/glovebox-supervisor-${digestOf(bytes).slice(7, 23)}`);
});

test('opening and closing leave no descriptor open, and nothing that was written is lost', async () => {
  const { sandbox, options } = await open(boxes.engine);
  await sandbox.close();
  const before = readdirSync('/proc/self/fd').length;
  for (let n = 0; n < 3; n++) {
    const next = await open(boxes.engine);
    const call = await start(next.sandbox, 'seq 1 20000');
    await call.gone;
    await next.sandbox.close();
    await next.sandbox.close();
    expect((await call.output.read(0, 2 ** 20)).bytes.length).toBe(108_894);
  }
  expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before + 1);
  expect(readFileSync(join(options.directory, 'ledger.ndjson'), 'utf8')).toContain('"kind":"sandbox"');
});

function specOf(): Parameters<typeof Sandbox.open>[1] {
  const id = newId();
  return { id, image: boxes.image, runtime: 'runc', limits: defaultLimits, labels: { [testLabel]: id } };
}

async function open(
  engine: Engine,
  more: { orphanMs?: number } = {},
): Promise<{ sandbox: Sandbox; options: { directory: string } }> {
  const spec = specOf();
  const options = { directory: join(boxes.directory, spec.id), ...more };
  return { sandbox: await Sandbox.open(engine, spec, options), options };
}

function start(sandbox: Sandbox, script: string, options: object = {}, id = newId()): Promise<RunningCall> {
  return sandbox.start(id, { command: { kind: 'script', script }, ...options });
}
