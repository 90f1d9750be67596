import { execFileSync } from 'node:child_process';
import { readFile, readdir, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { checkJournal } from '../src/journal/check.ts';
import type { Entry } from '../src/journal/entry.ts';
import { readEntries } from '../src/journal/read.ts';
import { recover } from '../src/recovery.ts';
import { Runner, type Run } from '../src/runner.ts';
import { ToolCall, type ToolCallInput } from '../src/tools/tool-call.ts';
import type { ToolResult } from '../src/tools/tool-result.ts';
import { parsePolicy } from '../src/policy/policy.ts';
import { Layer } from '../src/workspace/layer/layer.ts';
import { attachedOnly } from './fixtures/attached-only.ts';
import { Bench, smallPolicy, smallPolicyText } from './fixtures/bench.ts';
import { PrivateEngine } from './fixtures/private-engine.ts';

/** Whatever goes wrong around a run: it ends, in time, with an outcome that says so, and nothing wrong is on record. */
const files = { 'src/a.txt': 'one\n' };

function call(run: Run, id: string, input: ToolCallInput): Promise<ToolResult> {
  return run.call(id, ToolCall.parse(input));
}

/** A command that runs until something happens to it. */
async function startSleeping(run: Run): Promise<void> {
  const first = await call(run, 'sleeping', { tool: 'exec', script: 'echo begun; sleep 60', yieldMs: 300 });
  expect(first).toMatchObject({ data: { state: 'running' } });
}

async function entriesOf(run: Run): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of readEntries(run.dir.journal)) entries.push(entry);
  return entries;
}

/** The sandbox was lost while `sleeping` ran: every door says so, and none makes up an exit code. */
async function expectLost(run: Run): Promise<void> {
  const last = await call(run, 'poll', { tool: 'exec_poll', callId: 'sleeping', yieldMs: 10_000 });
  expect(last).toMatchObject({
    ok: false,
    data: { state: 'ended', outcome: { kind: 'sandbox_lost' }, exitCode: null, totalBytes: { merged: 6 } },
  });
  await expect(call(run, 'later', { tool: 'exec', script: 'true' })).rejects.toMatchObject({ code: 'sandbox_lost' });
  await expect(call(run, 'file', { tool: 'read', path: 'src/a.txt' })).rejects.toMatchObject({ code: 'sandbox_lost' });
}

async function expectClosedAsLost(run: Run): Promise<void> {
  expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
  const entries = await entriesOf(run);
  expect(entries.map((entry) => entry.type)).toContain('sandbox.lost');
  expect(entries.at(-1)).toMatchObject({ type: 'run.closed', data: { outcome: 'lost' } });
  for (const entry of entries)
    if (entry.type === 'call.ended') {
      expect(entry.data.outcome.kind).toBe('sandbox_lost');
      expect(entry.data.exitCode).toBeUndefined();
    }
}

describe('a container that somebody else lays hands on', () => {
  let bench: Bench;
  let runner: Runner;
  beforeAll(async () => {
    bench = await Bench.make();
    runner = await Runner.create(bench.engine, bench.dataDir);
  });
  afterAll(async () => {
    await runner.close();
    await bench.close();
  });
  const open = async (): Promise<Run> =>
    runner.open({ policy: smallPolicy(), workspace: await bench.workspace(files), intent: 'test' });
  const docker = (...args: string[]): string => execFileSync('docker', args, { encoding: 'utf8', stdio: 'pipe' });

  test.each([
    ['killed', ['kill'], 2_000],
    ['removed', ['rm', '-f'], 3_000],
    ['paused', ['pause'], 8_000],
    ['stopped', ['stop', '-t', '0'], 3_000],
    ['restarted', ['restart', '-t', '0'], 8_000],
  ] as const)('%s: the sandbox is lost, the run is closed as lost, and nothing is left', async (_, args, withinMs) => {
    const run = await open();
    await startSleeping(run);
    docker(...args, run.sandbox.containerId);
    const startMs = performance.now();
    await run.sandbox.lost;
    expect(performance.now() - startMs).toBeLessThan(withinMs);
    await expectLost(run);
    await run.close();
    await expectClosedAsLost(run);
    expect(await bench.containers()).toEqual([]);
  });

  test('paused for a moment: nothing is lost', async () => {
    const run = await open();
    const working = call(run, 'counting', {
      tool: 'exec',
      script: 'for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.2; done',
    });
    await sleep(500);
    docker('pause', run.sandbox.containerId);
    await sleep(1_500);
    docker('unpause', run.sandbox.containerId);
    expect(await working).toMatchObject({
      ok: true,
      text: expect.stringContaining('1\n2\n3\n4\n5\n6\n7\n8\n') as string,
    });
    await run.close();
    expect(await bench.containers()).toEqual([]);
  });

  test('renamed: it is still ours, and goes with its run', async () => {
    const run = await open();
    docker('rename', run.sandbox.containerId, `renamed-${run.id}`);
    expect(await call(run, '1', { tool: 'exec', script: 'echo here' })).toMatchObject({ ok: true });
    await run.close();
    expect(await bench.containers()).toEqual([]);
  });

  test('it cannot be given a network: the engine refuses, and there is still only loopback', async () => {
    const run = await open();
    expect(() => docker('network', 'connect', 'bridge', run.sandbox.containerId)).toThrow(/none|private/);
    const { text } = await call(run, '1', {
      tool: 'exec',
      script: 'cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d " "',
    });
    expect(text.split('\n')[0]).toBe('lo');
    await run.close();
  });

  test('given other limits: it goes on, and calls are still answered as they ended', async () => {
    const run = await open();
    docker('update', '--pids-limit', '32', '--memory', '512m', '--memory-swap', '512m', run.sandbox.containerId);
    expect(await call(run, '1', { tool: 'exec', script: 'exit 3' })).toMatchObject({
      data: { outcome: { kind: 'exited', code: 3 } },
    });
    await run.close();
    expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
  });
});

test('a workspace that has lost what was written, because the disk below it was full, gives no diff', async () => {
  const bench = await Bench.make({ dataDirBytes: 96 * 1024 * 1024 });
  try {
    const runner = await Runner.create(bench.engine, bench.dataDir);
    const run = await runner.open({ policy: smallPolicy(), workspace: await bench.workspace(files) });
    await call(run, 'before', { tool: 'exec', script: 'echo two > src/b.txt' });
    expect(await run.diff()).toMatchObject({ complete: true });
    const [filler, { bavail, bsize }] = [join(bench.dataDir.path, 'filler'), await statfs(bench.dataDir.path)];
    await writeFile(filler, Buffer.alloc(bavail * bsize - 4 * 1024 * 1024, 1));
    const wrote = await call(run, 'write', { tool: 'exec', script: 'head -c 16000000 /dev/urandom > src/c' });
    expect(wrote).toMatchObject({ ok: true, data: { exitCode: 0 } }); // the kernel does not tell who wrote
    const written = join(Layer.upperOf(run.dir.layer), 'src/c');
    expect(() => execFileSync('sync', [written], { stdio: 'ignore' })).toThrow(); // the kernel does so in its own time
    await rm(filler);
    const complete = run.diff().then((candidate) => candidate.complete);
    await expect(complete).rejects.toMatchObject({ code: 'data_dir_unusable' });
    await expect(run.diff()).rejects.toMatchObject({ code: 'data_dir_unusable' });
    await expect(run.close()).rejects.toMatchObject({ code: 'data_dir_unusable' });
    expect((await entriesOf(run)).at(-1)).toMatchObject({ type: 'run.closed', data: { outcome: 'failed' } });
    expect(await bench.containers()).toEqual([]);
  } finally {
    await bench.close();
  }
});

describe('the disk of the data directory is full', () => {
  let bench: Bench;
  let runner: Runner;
  beforeAll(async () => {
    bench = await Bench.make({ dataDirBytes: 4 * 1024 * 1024 });
    runner = await Runner.create(bench.engine, bench.dataDir);
  });
  afterAll(async () => {
    await bench.close();
  });
  afterEach(async () => {
    await makeRoom();
  });
  const makeRoom = async (): Promise<void> => {
    for (const name of ['filler', 'filler.rest']) await rm(join(bench.dataDir.path, name), { force: true });
  };
  const open = async (): Promise<Run> =>
    runner.open({ policy: smallPolicy(), workspace: await bench.workspace(files) });

  test('a run does not open, and neither a container nor half a run is left; with room it opens', async () => {
    await bench.fillDataDir();
    const known = (await bench.dataDir.listRuns()).length;
    await expect(open()).rejects.toMatchObject({ name: 'RunnerError' });
    expect(await bench.containers()).toEqual([]);
    expect(await bench.dataDir.listRuns()).toHaveLength(known);
    await makeRoom();
    await (await open()).close();
  });

  test('a diff or snapshot whose contents cannot be kept is refused as that; with room it is whole', async () => {
    const run = await open();
    // As far as the disk below the workspace: what is lost there is another test's.
    const script = 'head -c 600000 /dev/urandom > src/big; sync -f src';
    expect(await call(run, 'big', { tool: 'exec', script })).toMatchObject({ ok: true });
    await bench.fillDataDir();
    const told = {
      code: 'data_dir_unusable',
      message: expect.stringMatching(/^blob: .*make room there, then try again$/) as string,
    };
    await expect(run.diff()).rejects.toMatchObject(told);
    await expect(run.snapshot()).rejects.toMatchObject(told);
    await makeRoom();
    expect((await run.snapshot()).changeSet.changes.has('src/big')).toBe(true);
    await run.close();
    expect(run.candidate).toMatchObject({ complete: true, findings: [] });
  });

  test('output that cannot be kept is not told as if it were whole', async () => {
    const run = await open();
    const result = await call(run, 'much', {
      tool: 'exec',
      script: 'head -c 16000000 /dev/zero; echo end',
      yieldMs: 15_000,
    }).catch((error: unknown) => error);
    // Whether the outcome still fits into the last page of the journal, or of the answers, depends on what stands there.
    if (result instanceof Error)
      expect(result).toMatchObject({
        code: expect.stringMatching(/^(journal_unavailable|data_dir_unusable)$/) as string,
      });
    else
      expect((result as ToolResult).data).toMatchObject({
        state: 'ended',
        outcome: { kind: expect.stringMatching(/^(output_limit|sandbox_lost)$/) as string },
      });
    await expect(run.close()).rejects.toMatchObject({ name: 'RunnerError' });
    expect(await bench.containers()).toEqual([]);
    await rm(join(run.dir.callsDir), { recursive: true });
  });

  test('what a dead runner left is closed as soon as there is room; until then gc says why it cannot', async () => {
    const policy = join(bench.folder, 'policy.yaml');
    await writeFile(policy, smallPolicyText());
    const input = JSON.stringify({ callId: '1', call: { tool: 'exec', script: 'true' } });
    const env = { GLOVEBOX_FAILPOINT: 'call.dispatched:kill' };
    // What gc has to write must not fit into the room that is left in the journal's last page.
    await bench.cli(['play', '-', '-p', policy, '--intent', 'x'], { env, input });
    const [first] = (await recover(bench.engine, bench.dataDir, { dryRun: true })).runs;
    const { size } = await stat(bench.dataDir.runDir(first?.id ?? '').journal);
    await recover(bench.engine, bench.dataDir);
    const intent = 'x'.repeat(1 + ((4096 * 3 - 100 - size) % 4096));
    await bench.cli(['play', '-', '-p', policy, '--intent', intent], { env, input });
    expect(await bench.containers()).toHaveLength(1);
    for (const instance of await bench.dataDir.listInstances())
      if (!(await bench.dataDir.isAlive(instance))) await bench.dataDir.forgetInstance(instance.id);
    await bench.fillDataDir();
    const full = await bench.cliHere(['gc']);
    expect(full.stderr).toMatch(/\[(journal_unavailable|data_dir_unusable)\]/);
    expect(await bench.containers()).toEqual([]);
    await makeRoom();
    const recovered = await recover(bench.engine, bench.dataDir);
    expect(recovered.runs).toHaveLength(1);
    const dir = bench.dataDir.runDir(recovered.runs[0]?.id ?? '');
    expect(await checkJournal(dir.journal)).toMatchObject({ verdict: 'closed', findings: [], calls: 1 });
  });
});

describe('the wall clock jumps', () => {
  let bench: Bench;
  let runner: Runner;
  beforeAll(async () => {
    bench = await Bench.make();
    runner = await Runner.create(bench.engine, bench.dataDir);
  });
  afterAll(async () => {
    vi.useRealTimers();
    await runner.close();
    await bench.close();
  });

  test('by a year to and fro: deadlines, budgets and the journal do not notice', async () => {
    const run = await runner.open({ policy: smallPolicy(), workspace: await bench.workspace(files) });
    const realMs = Date.now();
    const yearMs = 365 * 86_400_000;
    const startMs = performance.now();
    const timed = call(run, 'timed', { tool: 'exec', script: 'sleep 60', killAfterMs: 2_000 });
    vi.useFakeTimers({ toFake: ['Date'] });
    vi.setSystemTime(realMs + yearMs);
    await startSleeping(run);
    await sleep(1_500); // at least one tick of the clocks on this side
    vi.setSystemTime(realMs - yearMs);
    expect((await timed).data).toMatchObject({ outcome: { kind: 'timed_out', afterMs: 2_000 } });
    expect(performance.now() - startMs).toBeGreaterThan(1_900);
    expect(performance.now() - startMs).toBeLessThan(6_000);
    expect(await call(run, '2', { tool: 'exec', script: 'echo still here' })).toMatchObject({ ok: true });
    expect(run.remaining().wallClockMs).toBeGreaterThan(0);
    await run.close();
    vi.useRealTimers();
    expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
    expect(await bench.containers()).toEqual([]);
    expect((await readFile(run.dir.journal, 'utf8')).split('\n').length).toBeGreaterThan(6);
    expect(await readdir(run.dir.callsDir)).toContain('ledger.ndjson');
  });
});

describe('the engine itself fails', () => {
  const hurried = {
    readMs: 1_000,
    createMs: 1_000,
    startMs: 2_000,
    attachMs: 1_000,
    destroyMs: 1_500,
    cleanUpMs: 1_000,
  };
  const awayMs = 3_000;
  let own: PrivateEngine;
  let bench: Bench;
  let image: string;
  beforeAll(async () => {
    own = await PrivateEngine.start();
    image = await own.image();
    bench = await Bench.make();
  });
  afterEach(async () => {
    own.signal('SIGCONT');
  });
  afterAll(async () => {
    await bench.close();
    await own.close();
  });
  const runnerOf = async (): Promise<Runner> => Runner.create(await own.connect({ timeouts: hurried }), bench.dataDir);
  /** As where the runner cannot look into PID 1: not root, another machine, gVisor. */
  const remoteRunner = async (): Promise<Runner> =>
    Runner.create(attachedOnly(await own.connect({ timeouts: hurried })), bench.dataDir, { engineAwayMs: awayMs });
  const policy = () => parsePolicy(smallPolicyText().replace('[base]', `[${image}]`), 'test policy');
  const open = async (runner: Runner): Promise<Run> =>
    runner.open({ policy: policy(), workspace: await bench.workspace(files) });
  /** What is left once the engine answers again and the runner is gone: gc takes it. */
  const expectCleared = async (runner: Runner): Promise<void> => {
    await runner.close();
    await recover(await own.connect(), bench.dataDir);
    expect(await (await own.connect()).list({ 'glovebox.owner': bench.dataDir.owner })).toEqual([]);
    expect(await recover(await own.connect(), bench.dataDir)).toEqual(nothing);
  };

  test('it answers nothing for three seconds: nothing is lost, and a deadline is kept inside meanwhile', async () => {
    const runner = await runnerOf();
    const run = await open(runner);
    const timed = call(run, 'timed', { tool: 'exec', script: 'echo up; sleep 60', killAfterMs: 1_500 });
    await sleep(500);
    own.signal('SIGSTOP');
    await sleep(3_000);
    own.signal('SIGCONT');
    const { data } = await timed;
    expect(data).toMatchObject({ outcome: { kind: 'timed_out', afterMs: 1_500 }, totalBytes: { merged: 3 } });
    if (data?.kind === 'exec') expect(data.wallMs).toBeLessThan(3_000);
    await run.close();
    await expectCleared(runner);
  });

  test('it carries the stream and answers nothing any more: calls end as lost, nothing hangs, and gc clears up when it answers again', async () => {
    const runner = await remoteRunner();
    const run = await open(runner);
    await startSleeping(run);
    own.signal('SIGSTOP');
    const startMs = performance.now();
    await expectLost(run);
    expect(performance.now() - startMs).toBeLessThan(8_000);
    await expect(open(runner)).rejects.toMatchObject({ code: 'engine_timeout' });
    await expect(own.connect({ timeouts: hurried })).rejects.toMatchObject({ name: 'RunnerError' });
    await run.close().catch((error: unknown) => expect(error).toMatchObject({ code: 'engine_timeout' }));
    expect(performance.now() - startMs).toBeLessThan(20_000);
    own.signal('SIGCONT');
    await expectClosedAsLost(run);
    await expectCleared(runner);
  });

  test('it is killed and started again: what ran in it is lost, not exited, and new runs open', async () => {
    const runner = await runnerOf();
    const run = await open(runner);
    await startSleeping(run);
    await own.kill();
    const polled = call(run, 'early', { tool: 'exec_poll', callId: 'sleeping', yieldMs: 100 });
    expect((await polled).data).toMatchObject({ exitCode: null });
    await expect(open(runner)).rejects.toMatchObject({ code: 'engine_unavailable' });
    await own.startDaemon();
    await expectLost(run);
    await run.close().catch((error: unknown) => expect(error).toMatchObject({ name: 'RunnerError' }));
    await expectClosedAsLost(run);
    const next = await open(runner);
    expect(await call(next, '1', { tool: 'exec', script: 'echo up' })).toMatchObject({ ok: true });
    await next.close();
    await expectCleared(runner);
  });

  test('it carries the stream, is killed and stays away: the run is closed as lost all the same', async () => {
    const runner = await remoteRunner();
    const run = await open(runner);
    await startSleeping(run);
    const startMs = performance.now();
    await own.kill();
    await run.sandbox.lost; // it is given time to come back
    expect(performance.now() - startMs).toBeGreaterThan(awayMs - 500);
    expect(performance.now() - startMs).toBeLessThan(awayMs + 5_000);
    await expectLost(run);
    await expect(run.close()).rejects.toMatchObject({ code: 'engine_unavailable' });
    await expectClosedAsLost(run);
    await own.startDaemon();
    await expectCleared(runner);
  });

  test.each([
    ['answers nothing', 'engine_timeout', () => own.signal('SIGSTOP'), () => own.signal('SIGCONT')],
    ['is killed', 'engine_unavailable', () => own.kill(), () => own.startDaemon()],
  ] as const)('it does not carry the stream and %s: the run goes on to its end', async (_how, code, go, comeBack) => {
    const runner = await runnerOf();
    const run = await open(runner);
    await startSleeping(run);
    await go();
    expect(await call(run, 'later', { tool: 'exec', script: 'echo two > src/a.txt' })).toMatchObject({ ok: true });
    expect(await call(run, 'end', { tool: 'exec_kill', callId: 'sleeping' })).toMatchObject({ ok: true });
    const end = await call(run, 'poll', { tool: 'exec_poll', callId: 'sleeping', yieldMs: 10_000 });
    expect(end).toMatchObject({ data: { state: 'ended', outcome: { kind: 'cancelled' } } });

    expect((await run.diff()).patch.files).toHaveLength(1);
    await expect(open(runner)).rejects.toMatchObject({ code });
    await run.close().catch((error: unknown) => expect(error).toMatchObject({ code }));
    await comeBack();
    expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
    expect((await entriesOf(run)).map((entry) => entry.type)).not.toContain('sandbox.lost');
    await expectCleared(runner);
  });

  test("the container's shim is killed: the sandbox is lost within seconds", async () => {
    const runner = await runnerOf();
    const run = await open(runner);
    await startSleeping(run);
    const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
    const shims = await Promise.all(
      pids.map(async (pid) => {
        const line = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
        return line[0]?.includes('containerd-shim') === true && line.includes(run.sandbox.containerId)
          ? Number(pid)
          : 0;
      }),
    );
    const shim = shims.find((pid) => pid !== 0);
    if (shim === undefined) throw new Error('the container has no shim');
    process.kill(shim, 'SIGKILL');
    await expectLost(run);
    await run.close();
    await expectClosedAsLost(run);
    await expectCleared(runner);
  });
});

const nothing = {
  containers: [],
  volumes: [],
  networks: [],
  layers: [],
  bases: [],
  builds: [],
  runs: [],
  neverBegun: [],
};
