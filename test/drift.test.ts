import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { describeRun } from '../src/bundle/export.ts';
import { sectionFrom } from '../src/drift/fingerprint.ts';
import { formatLock, lockOf, parseLock } from '../src/drift/lock.ts';
import type { Entry, EntryData } from '../src/journal/entry.ts';
import { readEntries } from '../src/journal/read.ts';
import type { Run } from '../src/run/run.ts';
import { parsePolicy } from '../src/policy/policy.ts';
import { Runner } from '../src/runner.ts';
import { Bench, smallPolicy, smallPolicyText } from './fixtures/bench.ts';
import { rawDocker } from './fixtures/raw-docker.ts';

/** What somebody who holds the engine does to a sandbox is found, recorded, and has the effect that the policy gives it. */
let bench: Bench;
let runner: Runner;

beforeAll(async () => {
  bench = await Bench.make();
  runner = await Runner.create(bench.engine, bench.dataDir, { lookAgainMs: 100 });
});
afterAll(async () => {
  await runner.close();
  await bench.close();
});

async function open(reactions = '{}'): Promise<Run> {
  return runner.open({
    policy: smallPolicy(`drift: {reactions: ${reactions}}\n`),
    workspace: await bench.workspace({ 'src/a': 'a\n' }),
  });
}

const toContainer = ({ sandbox }: Run, verb: string, body?: unknown) =>
  rawDocker('POST', `/containers/${sandbox.containerId}/${verb}`, body);

const memory = { Memory: 268_435_456, MemorySwap: 268_435_456 };

async function entriesOf({ dir }: Run): Promise<readonly Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of readEntries(dir.journal)) entries.push(entry);
  return entries;
}

type Found = EntryData<'drift.found'>['findings'][number];

async function foundIn(run: Run): Promise<readonly Found[]> {
  return (await entriesOf(run)).flatMap((entry) => (entry.type === 'drift.found' ? entry.data.findings : []));
}

const found = (run: Run, kind: string) =>
  expect.poll(async () => (await foundIn(run)).map((finding) => finding.kind), { timeout: 10_000 }).toContain(kind);

const echo = (run: Run, callId: string) => run.call(callId, { tool: 'exec', argv: ['echo', 'x'] });

describe('somebody changes the limits', () => {
  test('which is noted with what was and what is, once, and the run goes on', async () => {
    const run = await open();
    await toContainer(run, 'update', memory);
    await found(run, 'resource_pressure');
    expect(await echo(run, 'c1')).toMatchObject({ ok: true });
    await run.close();
    const found1 = (await foundIn(run)).filter(({ key }) => key === 'engine.memory_bytes');
    expect(found1).toMatchObject([
      {
        expected: '402653184',
        found: '268435456',
        reaction: 'note',
        text: expect.stringContaining('256 MiB') as string,
      },
    ]);
    expect(run.outcome).toBe('finished');
  });

  test('which stops the run, where its policy says so: the next call is denied, by a rule, and the work is there', async () => {
    const run = await open('{resource_pressure: stop}');
    await run.call('w', { tool: 'write', path: 'src/b', content: { utf8: 'b\n' } });
    await toContainer(run, 'update', { PidsLimit: 32 });
    await found(run, 'resource_pressure');
    const denied = await echo(run, 'c1');
    expect(denied).toMatchObject({ ok: false, error: { code: 'denied' } });
    expect(denied.text).toContain('rule drift.resource_pressure');
    await run.close();
    expect(run.candidate?.changeSet.changes.has('src/b')).toBe(true);
    expect((await entriesOf(run)).map(({ type }) => type)).toContain('call.denied');
  });

  test('which fails the run, where its policy says so: it closes, and nothing of it is exported', async () => {
    const run = await open('{resource_pressure: fail}');
    await run.call('w', { tool: 'write', path: 'src/b', content: { utf8: 'b\n' } });
    await toContainer(run, 'update', memory);
    await run.over;
    expect(run.outcome).toBe('failed');
    await expect(describeRun(bench.dataDir, run.id)).rejects.toMatchObject({ code: 'export_refused' });
  });

  test('a moment before the end, which the last look finds', async () => {
    const slow = await Runner.create(bench.engine, bench.dataDir);
    const run = await slow.open({ policy: smallPolicy('drift: {reactions: {resource_pressure: fail}}\n') });
    await toContainer(run, 'update', memory);
    await run.close();
    expect((await foundIn(run)).map(({ kind }) => kind)).toContain('resource_pressure');
    expect(run.outcome).toBe('failed');
    await slow.close();
  });
});

test('a pause, and a name that it is given, are found while it goes on', async () => {
  const run = await open();
  await toContainer(run, 'pause');
  await found(run, 'engine');
  await toContainer(run, 'unpause');
  await toContainer(run, `rename?name=renamed-${run.sandbox.spec.id}`);
  await expect.poll(async () => (await foundIn(run)).map(({ key }) => key), { timeout: 10_000 }).toContain('name');
  expect((await foundIn(run))[0]).toMatchObject({ found: 'paused' });
  expect(await echo(run, 'c1')).toMatchObject({ ok: true });
  await run.close();
});

test('a kill is found, and said before the sandbox is lost', async () => {
  const run = await open();
  await toContainer(run, 'kill');
  await run.lost;
  await run.close();
  const types = (await entriesOf(run)).map(({ type }) => type);
  expect(types.filter((type) => /^drift|lost/.test(type))).toEqual(['drift.found', 'sandbox.lost']);
  expect(await foundIn(run)).toMatchObject([{ kind: 'engine', key: 'status' }]);
});

test('a program that is started past the runner is found while it runs', async () => {
  const run = await open();
  const created = await toContainer(run, 'exec', { Cmd: ['/bin/sleep', '30'] });
  await rawDocker('POST', `/exec/${String(created['Id'])}/start`, { Detach: true });
  await found(run, 'process_left');
  expect(await foundIn(run)).toMatchObject([{ key: 'execs' }]);
  await run.close();
});

test('of a run that nobody touches nothing is found, however often it is looked', async () => {
  const run = await open();
  for (let calls = 0; calls < 8; calls++) await echo(run, `c${calls}`);
  await run.call('wait', { tool: 'exec', argv: ['sleep', '0.5'] });
  await run.close();
  expect(await foundIn(run)).toEqual([]);
  expect(run.outcome).toBe('finished');
});

describe('a repository says which environment it expects', () => {
  const files = async (node?: string): Promise<string> => {
    const from = await open();
    const { fingerprint } = await from.fingerprints.take('asked');
    await from.close();
    const lock = lockOf(fingerprint);
    const other =
      node === undefined ? lock : { ...lock, sections: { ...lock.sections, env: sectionFrom({ TZ: node }) } };
    return bench.workspace({ 'src/a': 'a\n', 'glovebox.lock': formatLock(other) });
  };

  test('and a run in it says so before its first call, and is held against it', async () => {
    const run = await runner.open({ policy: smallPolicy(), workspace: await files() });
    expect((await entriesOf(run)).map(({ type }) => type).slice(-2)).toEqual(['environment.fingerprint', 'drift.held']);
    await run.close();
    expect(await foundIn(run)).toEqual([]);
    const held = (await entriesOf(run)).flatMap((entry) => (entry.type === 'drift.held' ? [entry.data.at] : []));
    expect(held).toEqual(['open', 'close']);
  });

  test('and a run in another one is told what differs, or does not open, as its policy says', async () => {
    const workspace = await files('Asia/Tokyo');
    const run = await runner.open({ policy: smallPolicy(), workspace });
    expect((await foundIn(run)).map(({ kind }) => kind)).toContain('env');
    await run.close();
    const strict = smallPolicy('drift: {reactions: {env: fail}}\n');
    await expect(runner.open({ policy: strict, workspace })).rejects.toMatchObject({ code: 'policy_unenforceable' });
    expect(await bench.containers()).toEqual([]);
  });

  test('and what an agent makes of that is no matter to its run, nor to a fork of it', async () => {
    const text = smallPolicyText('drift: {check: [open, after_calls, close], after_calls_every: 1}\n');
    const policy = parsePolicy(text.replace('write: ["src/**"]', 'write: ["**"]'), 'test policy');
    const other = await readFile(join(await files('Asia/Tokyo'), 'glovebox.lock'));
    const run = await runner.open({ policy, workspace: await files() });
    const content = { base64: other.toString('base64') };
    expect(await run.call('w', { tool: 'write', path: 'glovebox.lock', content })).toMatchObject({ ok: true });
    expect(await echo(run, 'c1')).toMatchObject({ ok: true });
    const [fork] = await runner.fork(run);
    if (fork === undefined) throw new Error('nothing was forked');
    expect(await echo(fork, 'c1')).toMatchObject({ ok: true });
    await Promise.all([run.close(), fork.close()]);
    expect(run.candidate?.changeSet.changes.has('glovebox.lock')).toBe(true);
    for (const one of [run, fork]) {
      expect(await foundIn(one)).toEqual([]);
      const held = (await entriesOf(one)).flatMap(({ type, data }) => (type === 'drift.held' ? [data] : []));
      expect(held).toContainEqual(expect.objectContaining({ at: 'open', against: 'lock' }));
    }
  });

  test('and one that cannot be read opens nothing', async () => {
    const workspace = await bench.workspace({ 'glovebox.lock': 'tools: {}\n' });
    await expect(runner.open({ policy: smallPolicy(), workspace })).rejects.toMatchObject({ code: 'import_refused' });
    expect(await bench.containers()).toEqual([]);
  });
});

test('what a call leaves running is told with the call, and a policy can stop the run for it', async () => {
  const run = await runner.open({
    policy: smallPolicy('drift: {check: [after_calls], reactions: {process_left: stop}}\n'),
    workspace: await bench.workspace({ 'src/a': 'a\n' }),
  });
  await run.call('c1', { tool: 'exec', script: 'sleep 60 >/dev/null 2>&1 &', descendants: 'keep' });
  await found(run, 'process_left');
  expect(await foundIn(run)).toMatchObject([{ kind: 'process_left', callId: 'c1', reaction: 'stop' }]);
  expect(await echo(run, 'c2')).toMatchObject({ ok: false, error: { code: 'denied' } });
  await run.close();
});

test('glovebox drift tells two runs apart in a line, exits 1, and says that one is the same as itself; a lock is made of one', async () => {
  const policy = join(bench.folder, 'policy.yaml');
  const runIn = async (zone: string): Promise<string> => {
    await writeFile(policy, smallPolicyText(`env: { set: { TZ: ${zone} } }\n`));
    const ran = await bench.cliHere(['run', '--json', '-p', policy, '--', 'true']);
    return (JSON.parse(ran.stdout) as { run: string }).run;
  };
  const [there, here] = [await runIn('UTC'), await runIn('JST-9')];
  const told = await bench.cliHere(['drift', there, here]);
  expect(told.exitCode).toBe(1);
  expect(told.stdout.split('\n', 1)[0]).toBe(
    'env: TZ is JST-9 instead of UTC: dates and times are read and written otherwise',
  );
  expect(await bench.cliHere(['drift', there, there])).toMatchObject({ exitCode: 0 });
  const { findings } = JSON.parse((await bench.cliHere(['drift', '--json', there, here])).stdout) as {
    findings: readonly Found[];
  };
  expect(findings[0]).toMatchObject({ kind: 'env', key: 'TZ', expected: 'UTC', found: 'JST-9' });
  const file = join(bench.folder, 'glovebox.lock');
  expect(await bench.cliHere(['drift', '--write-lock', '--output', file, there])).toMatchObject({ exitCode: 0 });
  expect(Object.keys(parseLock(await readFile(file, 'utf8')).lock.sections)).toContain('tools');
});
