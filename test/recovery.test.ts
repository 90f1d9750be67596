import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { failpoints } from '../src/failpoint.ts';
import { checkJournal } from '../src/journal/check.ts';
import type { Entry } from '../src/journal/entry.ts';
import { readEntries } from '../src/journal/read.ts';
import { recover, type Recovered } from '../src/recovery.ts';
import { Layer } from '../src/workspace/layer/layer.ts';
import { Bench, smallPolicyText } from './fixtures/bench.ts';

/** A runner that dies or fails anywhere leaves nothing that `glovebox gc` does not put right; a living one is left alone. */
let bench: Bench;

beforeEach(async () => {
  bench = await Bench.make();
});
afterEach(async () => {
  await bench.close();
});

const session = [
  { callId: 'first', call: { tool: 'exec', script: 'echo one > src/one; echo out; exit 3' } },
  { callId: 'verb', call: { tool: 'write', path: 'src/two', content: { utf8: 'two\n' } } },
  { callId: 'denied', call: { tool: 'write', path: 'outside', content: { utf8: 'no\n' } } },
  { callId: 'running', call: { tool: 'exec', script: 'echo begun; sleep 60', yieldMs: 100 } },
];
const input = session.map((line) => JSON.stringify(line)).join('\n');

/** What the CLI is to play the session with; temporary files go where they can be counted. */
async function played(failpoint?: string) {
  const policy = join(bench.folder, 'policy.yaml');
  await writeFile(policy, smallPolicyText());
  const workspace = await bench.workspace({ 'src/zero': 'zero\n', 'README.md': 'read me\n' });
  const temporary = await mkdtemp(join(bench.folder, 'tmp-'));
  const env = { TMPDIR: temporary, ...(failpoint === undefined ? {} : { GLOVEBOX_FAILPOINT: failpoint }) };
  return { argv: ['play', '-', '--policy', policy, '--workspace', workspace], options: { env, input }, temporary };
}

/** In a process that dies, hangs, or ends. */
async function play(failpoint?: string) {
  const { argv, options } = await played(failpoint);
  return { process: bench.cli(argv, options) };
}

/** What `glovebox gc` does, without the time that a process takes to start. */
function gc(): Promise<Recovered> {
  return recover(bench.engine, bench.dataDir);
}

async function gcCommand(): Promise<Recovered> {
  const { stdout, exitCode, stderr } = await bench.cli(['gc', '--json']);
  expect(exitCode, stderr).toBe(0);
  return JSON.parse(stdout) as Recovered;
}

async function runsOf(): Promise<{ id: string; entries: Entry[] }[]> {
  const runs = [];
  for (const dir of await bench.dataDir.listRuns()) {
    const entries: Entry[] = [];
    for await (const entry of readEntries(dir.journal)) entries.push(entry);
    runs.push({ id: dir.id, entries });
  }
  return runs;
}

/** One end for each run and for each call; what nobody saw end has no exit code. */
async function expectSettled(): Promise<void> {
  expect(await bench.containers()).toEqual([]);
  expect(await bench.dataDir.listInstances()).toEqual([]);
  for (const dir of await bench.dataDir.listRuns()) {
    expect(await checkJournal(dir.journal)).toMatchObject({ verdict: 'closed', findings: [], openCalls: [] });
    expect((await readdir(dir.path)).filter((name) => name.includes('.lock.'))).toEqual([]);
  }
  for (const { entries } of await runsOf()) {
    expect(entries.filter((entry) => entry.type === 'run.closed')).toHaveLength(1);
    for (const entry of entries)
      if (entry.type === 'call.ended' && entry.data.outcome.kind === 'sandbox_lost')
        expect(entry.data.exitCode).toBeUndefined();
  }
  expect(await readdir(join(bench.dataDir.blobsDir, 'partial'))).toEqual([]);
}

/** Everything of the data directory that could change, by name. */
async function inventory(): Promise<readonly string[]> {
  const names = await readdir(bench.dataDir.path, { recursive: true });
  const journals = await Promise.all((await bench.dataDir.listRuns()).map(async (dir) => checkJournal(dir.journal)));
  return [...names.sort(), ...journals.map((check) => `${check.run} ${check.head}`)];
}

test('without a failpoint the session is played to its end, and there is nothing for gc to do', async () => {
  const { exitCode, stderr } = await (await play()).process;
  expect(exitCode, stderr).toBe(0);
  await expectSettled();
  const ends = (await runsOf()).flatMap(({ entries }) => entries.filter((entry) => entry.type === 'call.ended'));
  expect(ends.map((entry) => [entry.data.callId, entry.data.outcome.kind])).toEqual([
    ['first', 'exited'],
    ['verb', 'done'],
    ['running', 'cancelled'],
  ]);
  expect(await gc()).toEqual({
    containers: [],
    volumes: [],
    networks: [],
    layers: [],
    bases: [],
    builds: [],
    runs: [],
    neverBegun: [],
  });
});

test.each(failpoints)(
  'a runner that is killed at %s: gc closes what it left, and a second gc finds nothing',
  async (name) => {
    const { process } = await play(`${name}:kill`);
    const { signal, stderr } = await process;
    expect(stderr, 'the failpoint was never reached').toContain(`failpoint ${name}: kill`);
    expect(signal).toBe('SIGKILL');

    const before = await bench.containers();
    const dry = await recover(bench.engine, bench.dataDir, { dryRun: true });
    expect(await bench.containers()).toEqual(before);
    const first = await gc();
    expect(first).toEqual(dry);
    expect([...first.containers].sort()).toEqual(before.sort());
    const [begun, journaled] = [failpoints.indexOf(name) >= 2, (await bench.dataDir.listRuns()).length === 1];
    expect(journaled, 'a run is kept once its intent is on record').toBe(begun);
    expect(first.neverBegun).toHaveLength(begun ? 0 : 1);
    await expectSettled();

    const after = await inventory();
    expect(await gc()).toEqual({
      containers: [],
      volumes: [],
      networks: [],
      layers: [],
      bases: [],
      builds: [],
      runs: [],
      neverBegun: [],
    });
    expect(await inventory()).toEqual(after);
  },
);

test.each(failpoints)(
  'a runner that fails at %s ends by itself: nothing is left, and the journal says so',
  async (name) => {
    const { argv, options, temporary } = await played(`${name}:throw`);
    const { exitCode, stderr } = await bench.cliHere(argv, options);
    expect(stderr, 'the failpoint was never reached').toContain(`failpoint ${name}: throw`);
    expect(exitCode, stderr).toBe(125);
    await expectSettled();
    expect(await readdir(temporary)).toEqual([]);
    const ends = (await runsOf()).flatMap(({ entries }) => entries.filter((entry) => entry.type === 'run.closed'));
    const sealedBefore = name === 'close.journaled' || name === 'close.destroyed';
    expect(ends.map((entry) => entry.data.outcome)).toEqual(
      failpoints.indexOf(name) < 2 ? [] : [sealedBefore ? 'finished' : 'failed'],
    );
    expect(await gc()).toEqual({
      containers: [],
      volumes: [],
      networks: [],
      layers: [],
      bases: [],
      builds: [],
      runs: [],
      neverBegun: [],
    });
  },
);

test('a call that was on its way when the runner died is lost, not failed: nobody knows what became of it', async () => {
  const { process } = await play('call.dispatched:kill');
  await process;
  await gc();
  const entries = (await runsOf()).flatMap((run) => run.entries);
  expect(entries.map((entry) => entry.type).slice(-3)).toEqual(['journal.recovered', 'call.ended', 'run.closed']);
  expect(entries.at(-2)?.data).toMatchObject({ callId: 'first', outcome: { kind: 'sandbox_lost' } });
  expect(entries.at(-1)?.data).toMatchObject({ outcome: 'lost', calls: 1 });
});

test.each(['open.started', 'call.dispatched'])(
  'gc leaves a living runner alone, here one that hangs at %s, and takes what a dead one beside it has left',
  async (name) => {
    const living = (await play(`${name}:hang`)).process;
    const hung = new Promise<void>((resolve) => {
      living.stderr?.on('data', (text: Buffer) => text.toString().includes(`failpoint ${name}: hang`) && resolve());
    });
    await hung;
    const [held] = await bench.containers();
    const { stderr } = await (await play('call.recorded:kill')).process;
    expect(stderr).toContain('failpoint call.recorded: kill');
    expect(await bench.containers()).toHaveLength(2);
    expect((await recover(bench.engine, bench.dataDir, { dryRun: true })).runs).toHaveLength(1);
    const first = await gc();
    expect(first.containers).toHaveLength(1);
    expect(first.runs).toHaveLength(1);
    expect(await bench.containers()).toEqual([held]);
    expect(await bench.dataDir.listInstances()).toHaveLength(1);
    expect(await gc()).toEqual({
      containers: [],
      volumes: [],
      networks: [],
      layers: [],
      bases: [],
      builds: [],
      runs: [],
      neverBegun: [],
    });

    living.kill('SIGKILL');
    await living;
    expect((await gc()).containers).toEqual([held]);
    await expectSettled();
  },
);

test('a runner that died while it tried whether overlays work leaves no mount', async () => {
  const trial = join(bench.dataDir.basesDir, '.trial-of-the-dead');
  const bound = { bytes: 1024 * 1024, inodes: 64 };
  await Layer.make(join(trial, 'layer'), bound, { owner: 'root', mode: 0o755 });
  await gc();
  expect(await readFile('/proc/mounts', 'utf8')).not.toContain(trial);
  expect(await readdir(bench.dataDir.basesDir)).toEqual([]);
});

test('two gc at once do the work once, and neither fails', async () => {
  for (const name of ['open.welcomed', 'call.ended']) await (await play(`${name}:kill`)).process;
  const both = await Promise.all([gcCommand(), gcCommand()]);
  await expectSettled();
  const closed = both.flatMap((recovered) => recovered.runs.map((run) => run.id));
  expect(closed.sort()).toEqual((await bench.dataDir.listRuns()).map((dir) => dir.id).sort());
});

test('gc itself may die: the next one goes on', async () => {
  await (
    await play('call.intended:kill')
  ).process;
  for (const afterMs of [150, 300, 450]) {
    const dying = bench.cli(['gc']);
    setTimeout(() => dying.kill('SIGKILL'), afterMs);
    await dying;
  }
  await gc();
  await expectSettled();
  expect(await runsOf()).toHaveLength(1);
});

test('a run whose journal is gone but which had a sandbox is evidence: gc does not touch its directory', async () => {
  await (
    await play('call.recorded:kill')
  ).process;
  const [dir] = await bench.dataDir.listRuns();
  if (dir === undefined) throw new Error('there is no run');
  await writeFile(dir.journal, '');
  expect(await gc()).toMatchObject({ runs: [], neverBegun: [] });
  expect(await bench.containers()).toEqual([]);
  expect(await readdir(dir.callsDir)).toContain('ledger.ndjson');
});
