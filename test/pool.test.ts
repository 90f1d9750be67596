import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Engine } from '../src/engine/engine.ts';
import { poolFailpoints } from '../src/failpoint.ts';
import { checkJournal } from '../src/journal/check.ts';
import type { Entry, EntryData } from '../src/journal/entry.ts';
import { readEntries } from '../src/journal/read.ts';
import { parsePolicy, type LoadedPolicy } from '../src/policy/policy.ts';
import { recover } from '../src/recovery.ts';
import { Runner, type OpenRequest, type Run } from '../src/runner.ts';
import { BaseStore } from '../src/workspace/base/bases.ts';
import { Bench, smallPolicy, smallPolicyText } from './fixtures/bench.ts';
import { compiled } from '../src/program.fixture.ts';

/** Sandboxes that are made before anybody asks for them: only for whom they fit, and as fresh as any other. */
let bench: Bench;
let runner: Runner;
const opened: Run[] = [];
const policy = smallPolicy();

beforeAll(async () => {
  bench = await Bench.make();
});
beforeEach(async () => {
  runner = await Runner.create(bench.engine, bench.dataDir, { pool: { warmMax: 4, memoryBytes: 2 ** 40 } });
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((run) => run.close()));
  await runner.close();
  expect(await bench.containers()).toEqual([]);
  for (const folder of ['pool', 'sandboxes'])
    expect(await readdir(join(bench.dataDir.path, folder)).catch(() => [])).toEqual([]);
});
afterAll(async () => {
  await bench.close();
});

/** Waits until so many wait, and none is being made. */
async function ready(count: number): Promise<void> {
  for (let n = 0; n < 1_000; n++) {
    const stats = runner.poolStats;
    if (stats?.warm === count && stats.making === 0) return;
    await sleep(20);
  }
  throw new Error(`the pool has not come to ${count}: ${JSON.stringify(runner.poolStats)}`);
}

async function keepReady(request: OpenRequest, count = 1): Promise<void> {
  await runner.keepReady(request, count);
  await ready(count);
}

/** Closed after the test, if it does not do that itself. */
async function open(request: OpenRequest): Promise<Run> {
  const run = await runner.open(request);
  opened.push(run);
  return run;
}

async function startedOf(run: Run): Promise<EntryData<'sandbox.started'>> {
  for await (const entry of readEntries(run.dir.journal)) if (entry.type === 'sandbox.started') return entry.data;
  throw new Error('nothing was started');
}

async function sh(run: Run, script: string): Promise<string> {
  const result = await run.call(`c${Math.random()}`, { tool: 'exec', script });
  if (!result.ok) throw new Error(result.text);
  return result.text;
}

/** All that a tool can see of where it is; process numbers and moments apart. */
const inside = `find / -xdev ! -path '/proc/*' -printf '%p %y %m %U:%G %s %l\\n' 2>/dev/null | grep -v '^/\\(etc\\|usr\\|lib\\|bin\\|sbin\\|var\\)/' | sort
for d in /tmp /home /run /dev/shm /workspace; do find $d -printf '%p %y %m %U:%G %s %l\\n' 2>/dev/null | sort; done
set -- /proc/[0-9]*; echo $#; id | sed 's/,2[0-9]*$//'; umask; pwd; env | sort; ulimit -a; hostname
grep -v ^Groups /proc/self/status | grep -E 'Cap|Seccomp|NoNewPrivs|Uid|Gid|Threads'
cat /sys/fs/cgroup/*/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null
sed -E 's/(lowerdir|upperdir|workdir|size)=[^ ]*//g; s/^\\/dev\\/loop[0-9]+/loop/' /proc/mounts | sort; df -P /workspace /tmp | awk '{print $2, $4, $6}'
cat /proc/net/dev | awk '{print $1}'; readlink /proc/self/fd/0; (cd /workspace && git log --format='%H %an %ad' 2>&1 && git status --short 2>&1) || true`;

async function baseOf(files: Readonly<Record<string, string>>, of: LoadedPolicy): Promise<{ cold: Run; base: string }> {
  const cold = await open({ policy: of, workspace: await bench.workspace(files) });
  const bases = await (await BaseStore.open(bench.dataDir.basesDir)).list();
  const found = bases.find(({ holders }) => holders.includes(cold.id));
  if (found === undefined) throw new Error('nobody holds the base');
  return { cold, base: found.key };
}

describe('a warm sandbox', () => {
  test.each([
    ['an empty workspace', {}, policy],
    [
      'files and a repository',
      { 'src/a.txt': 'one\n', 'README.md': 'read\n' },
      withText('  deny:', '  git: true\n  deny:'),
    ],
  ])('with %s is inside just what a cold one is, and exports the same', async (_, files, of) => {
    const { cold, base } = await baseOf(files, of);
    const request = { policy: of, base };
    await keepReady(request);
    const warm = await open(request);
    expect([(await startedOf(cold)).warm, (await startedOf(warm)).warm]).toEqual([false, true]);
    expect((await startedOf(warm)).isolation?.attempts).toEqual((await startedOf(cold)).isolation?.attempts);
    expect(await sh(warm, inside)).toBe(await sh(cold, inside));
    for (const run of [cold, warm]) {
      await sh(run, 'mkdir -p src; echo new > src/new.txt; rm -f src/a.txt; head -c 300000 /dev/zero');
      await run.close();
      expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
    }
    expect([...(warm.candidate?.changeSet.changes ?? [])]).toEqual([...(cold.candidate?.changeSet.changes ?? [])]);
    expect((await readdir(warm.dir.path)).sort()).toEqual((await readdir(cold.dir.path)).sort());
  });

  test('is made for what was asked for twice, and an open without one says that it is cold', async () => {
    for (const warm of [false, false]) {
      const run = await open({ policy });
      expect((await startedOf(run)).warm).toBe(warm);
      await run.close();
    }
    await ready(1);
    const run = await open({ policy });
    expect((await startedOf(run)).warm).toBe(true);
    await run.close();
  });

  test('is given to no run that differs in limits, bound of the workspace, way out, files or inputs', async () => {
    const { base } = await baseOf({ 'src/a': 'a\n' }, policy);
    await keepReady({ policy, base });
    const others: readonly OpenRequest[] = [
      { policy: withText('pids: 64', 'pids: 65'), base },
      { policy: withText('workspace: 32MiB', 'workspace: 33MiB'), base },
      { policy: smallPolicy(wayOut), base },
      { policy, base: (await baseOf({ 'src/b': 'b\n' }, policy)).base },
      { policy: smallPolicy(await sharedInput()), base },
    ];
    const started = await Promise.all(others.map(async (other) => startedOf(await open(other))));
    expect(started.map(({ warm }) => warm)).toEqual(others.map(() => false));
    expect(runner.poolStats).toMatchObject({ taken: 0, unfit: 0 });
  });

  test("is given to a run whose rules differ and whose sandbox does not; its limits of output are that run's", async () => {
    const { base } = await baseOf({ 'src/a': 'a\n' }, policy);
    await keepReady({ policy, base });
    const other = withText(
      'command_timeout: 20s',
      'command_timeout: 20s, output_per_run: 64KiB, output_per_call: 64KiB',
    );
    const run = await open({ policy: other, base });
    expect((await startedOf(run)).warm).toBe(true);
    const result = await run.call('flood', { tool: 'exec', script: 'head -c 1000000 /dev/zero' });
    expect(result.data).toMatchObject({ outcome: { kind: 'output_limit' } });
  });

  test('with a way out gets its fence when it is taken, and is proven with it', async () => {
    const of = smallPolicy(wayOut);
    await keepReady({ policy: of });
    const run = await open({ policy: of });
    const { warm, isolation } = await startedOf(run);
    expect(warm).toBe(true);
    expect(isolation?.attempts.at(-1)?.end).toMatch(/answered/);
    expect(
      await sh(run, 'getent ahosts api.test >/dev/null && echo known; getent ahosts else.test || echo unknown'),
    ).toMatch(/^known\nunknown/);
    await run.close();
  });

  test('is one under gVisor too, where nothing is copied in', async (context) => {
    if (!(await bench.engine.describe()).enforces.gvisor)
      return context.skip('runsc is not a runtime of this engine, or holds no limits');
    const of = parsePolicy(`${smallPolicyText().replace('pids: 64', 'pids: 512')}runtime: runsc\n`, 'test policy');
    await keepReady({ policy: of });
    const run = await open({ policy: of });
    expect((await startedOf(run)).warm).toBe(true);
    await sh(run, 'mkdir -p src; echo new > src/new');
    await run.close();
    expect([...(run.candidate?.changeSet.changes.keys() ?? [])]).toContain('src/new');
  });

  test('becomes a fork, with what its origin has changed', async () => {
    const { cold, base } = await baseOf({ 'src/a': 'a\n' }, policy);
    await sh(cold, 'echo b > src/b; rm src/a');
    await keepReady({ policy, base });
    const [fork] = await runner.fork(cold);
    if (fork === undefined) throw new Error('no fork');
    opened.push(fork);
    expect((await startedOf(fork)).warm).toBe(true);
    expect(await sh(fork, 'cd src && ls && cat b')).toMatch(/^b\nb\n/);
  });

  test.each<[string, (name: string) => readonly string[]]>([
    ['was killed', (name) => ['kill', name]],
    ['is paused', (name) => ['pause', name]],
    ['was restarted', (name) => ['restart', '-t', '0', name]],
    ['was given other limits', (name) => ['update', '--memory', '300m', '--memory-swap', '300m', name]],
    ['runs something that nobody of us has started', (name) => ['exec', '-d', name, '/bin/sleep', '60']],
  ])('whose container %s is not handed out, and is gone', async (_, command) => {
    await keepReady({ policy });
    const [name = ''] = await bench.containers();
    await execa('docker', command(name), { reject: false }); // a container that ends is removed meanwhile
    const run = await open({ policy });
    expect((await startedOf(run)).warm).toBe(false);
    expect(await sh(run, 'echo works')).toMatch(/^works/);
    await run.close();
    expect(runner.poolStats).toMatchObject({ taken: 0, unfit: 1 });
    await runner.close();
    expect(await bench.containers()).not.toContain(name);
  });

  test('that turns out to be unfit, where the line is full, leaves a run that is closed and says why', async () => {
    await runner.close();
    const options = { pool: { warmMax: 1, memoryBytes: 2 ** 40 }, opens: { atOnce: 1, waitingMax: 0 } };
    let may = () => Promise.resolve();
    let letGo = (): void => undefined;
    const engine = startsWhen(bench.engine, () => may());
    runner = await Runner.create(engine, bench.dataDir, options);
    await keepReady({ policy });
    const [name = ''] = await bench.containers();
    await execa('docker', ['exec', '-d', name, '/bin/sleep', '60']);
    const other = withText('memory: 384MiB', 'memory: 385MiB'); // cold: it has the only turn while the other one is looked at
    const before = (await bench.dataDir.listRuns()).map(({ id }) => id);
    const hasTurn = new Promise<void>((begun) => {
      may = () => {
        may = () => Promise.resolve(); // what is made after it
        begun();
        return new Promise((resolve) => (letGo = resolve));
      };
    });
    const cold = open({ policy: other });
    await Promise.race([hasTurn, cold]);
    const [refused] = await Promise.allSettled([open({ policy })]);
    letGo();
    await cold;
    expect(refused).toMatchObject({ reason: { code: 'queue_full' } });
    const runs = (await bench.dataDir.listRuns()).filter(({ id }) => !before.includes(id) && id !== opened[0]?.id);
    expect(runs).toHaveLength(1);
    const [dir] = runs;
    const entries: Entry[] = [];
    for await (const entry of readEntries(dir?.journal ?? '')) entries.push(entry);
    expect(entries.map(({ type }) => type)).toEqual(['run.opened', 'run.closed']);
    expect(entries[1]?.data).toMatchObject({
      outcome: 'failed',
      summary: expect.stringContaining('did not open') as string,
    });
    expect(await readdir(dir?.path ?? '')).toEqual(['journal.ndjson', 'policy.json']);
  });

  test('is given to one run alone, of however many at once', async () => {
    await keepReady({ policy }, 3);
    const runs = await Promise.all(Array.from({ length: 6 }, () => open({ policy })));
    const started = await Promise.all(runs.map((run) => startedOf(run)));
    expect(new Set(started.map(({ container }) => container)).size).toBe(6);
    expect(started.filter(({ warm }) => warm === true).length).toBeGreaterThanOrEqual(3);
    const said = await Promise.all(runs.map((run, at) => sh(run, `echo ${at} > /tmp/mine; sleep 0.2; cat /tmp/*`)));
    expect(said.map((text) => text.split('\n')[0])).toEqual(runs.map((_, at) => `${at}`));
    await Promise.all(runs.map((run) => run.close()));
  });

  test('holds its base: it cannot be removed before the pool lets go', async () => {
    const { cold, base } = await baseOf({ 'src/a': 'a\n' }, policy);
    await keepReady({ policy, base });
    await cold.close();
    const store = await BaseStore.open(bench.dataDir.basesDir);
    expect(await store.remove(base)).toBe(false);
    await runner.close();
    expect(await store.remove(base)).toBe(true);
  });
});

describe('a runner with a pool', () => {
  test.each(['open.created', ...poolFailpoints, 'ready', 'open'] as const)(
    'that is killed at %s: gc finds all that it left, and a second gc nothing',
    async (at) => {
      await dies(at);
      const dry = await recover(bench.engine, bench.dataDir, { dryRun: true });
      const first = await recover(bench.engine, bench.dataDir);
      expect(first).toEqual(dry);
      const left = at === 'open' ? 2 : 1; // once a run has one, the next waits
      expect([first.containers.length, first.layers.length]).toEqual([left, left]);
      expect(first.runs).toHaveLength(['open.created', 'pool.made', 'ready'].includes(at) ? 0 : 1);
      expect(await bench.containers()).toEqual([]);
      const again = await recover(bench.engine, bench.dataDir);
      expect(Object.values(again).flat()).toEqual([]);
      for (const dir of await bench.dataDir.listRuns())
        expect(await checkJournal(dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
    },
  );

  test('that is killed leaves a run that goes on with the next one, and what waited is for gc', async () => {
    await dies('open');
    const [dir] = await bench.dataDir.listRuns();
    const run = await runner.resume(dir?.id ?? '');
    opened.push(run);
    expect((await startedOf(run)).warm).toBe(true);
    const { containers, layers, volumes, ...others } = await recover(bench.engine, bench.dataDir);
    expect([containers.length, layers.length, volumes.length]).toEqual([1, 1, 1]);
    expect(Object.values(others).flat()).toEqual([]);
    expect(await sh(run, 'cat src/new; echo more >> src/new')).toMatch(/^new\n/);
    await run.close();
    expect([...(run.candidate?.changeSet.changes.keys() ?? [])]).toContain('src/new');
    expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
  });

  test('that lives keeps what waits, whoever runs gc beside it', async () => {
    await keepReady({ policy }, 2);
    const before = await bench.containers();
    expect(Object.values(await recover(bench.engine, bench.dataDir)).flat()).toEqual([]);
    expect(await bench.containers()).toEqual(before);
    const run = await open({ policy });
    expect((await startedOf(run)).warm).toBe(true);
    expect(Object.values(await recover(bench.engine, bench.dataDir)).flat()).toEqual([]);
    expect(await sh(run, 'echo works')).toMatch(/^works/);
    await run.close();
  });

  test('that makes one thing at a time refuses who finds the line full, and leaves nothing of it', async () => {
    const narrow = await Runner.create(bench.engine, bench.dataDir, { opens: { atOnce: 1, waitingMax: 1 } });
    const before = await bench.dataDir.listRuns();
    const asked = await Promise.allSettled(Array.from({ length: 4 }, () => narrow.open({ policy })));
    const refused = asked.flatMap((each) => (each.status === 'rejected' ? [each.reason as unknown] : []));
    expect(refused).toMatchObject([
      { code: 'queue_full', retryAfterMs: expect.any(Number) as number },
      { code: 'queue_full', retryAfterMs: expect.any(Number) as number },
    ]);
    expect(await bench.dataDir.listRuns()).toHaveLength(before.length + 2);
    for (const each of asked) if (each.status === 'fulfilled') await each.value.close();
    await narrow.close();
  });
});

const wayOut = `egress:
  use: [web]
  profiles: { web: [{ id: api, host: [api.test], tls: pass_through, addresses: [127.0.0.0/8] }] }
`;

function withText(from: string, to: string): LoadedPolicy {
  return parsePolicy(smallPolicyText().replace(from, to), 'test policy');
}

async function sharedInput(): Promise<string> {
  const source = await bench.workspace({ 'word.txt': 'a word\n' });
  await execa('chmod', ['-R', 'a+rX', source]);
  return `inputs: [{ source: ${JSON.stringify(source)}, target: /inputs/data }]\n`;
}

/** The same engine, which starts no container before it may. */
function startsWhen(engine: Engine, may: () => Promise<void>): Engine {
  return new Proxy(engine, {
    get(target, name) {
      if (name === 'start')
        return (...[spec, ready]: Parameters<Engine['start']>) =>
          target.start(
            spec,
            Promise.all([ready, may()]).then(() => undefined),
          );
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === 'function' ? member.bind(target) : member;
    },
  });
}

/** A process with a runner and a pool, killed where it says, or when it has said how far it is. */
async function dies(at: string): Promise<void> {
  const program = await compiled(new URL('fixtures/dying-pool.ts', import.meta.url));
  const env = at.includes('.') ? { GLOVEBOX_FAILPOINT: `${at}:kill` } : {};
  const argv = [program, bench.dataDir.path, smallPolicyText(), at];
  const dying = execa(process.execPath, argv, { env, reject: false, timeout: 30_000 });
  dying.stdout.on('data', (chunk: Buffer) => {
    if (chunk.toString().includes(`${at}\n`)) dying.kill('SIGKILL');
  });
  const { signal, stderr } = await dying;
  expect(signal, stderr).toBe('SIGKILL');
}
