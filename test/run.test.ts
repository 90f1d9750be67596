import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { execa } from 'execa';
import { checkJournal } from '../src/journal/check.ts';
import { readEntries } from '../src/journal/read.ts';
import { findAnswer } from '../src/run/answers.ts';
import { Runner, type Run } from '../src/runner.ts';
import type { ToolCallInput } from '../src/tools/tool-call.ts';
import type { ToolResult } from '../src/tools/tool-result.ts';
import { Bench, smallPolicy } from './fixtures/bench.ts';
import { openRunnerBench } from './fixtures/runner-bench.ts';

const { bench, runner } = await openRunnerBench();

const files = { 'src/a.txt': 'one\n', 'README.md': 'read me\n', '.env': 'TOKEN=secret\n' };

async function open(extra = ''): Promise<Run> {
  return runner.open({ policy: smallPolicy(extra), workspace: await bench.workspace(files), intent: 'test' });
}

function call(run: Run, id: string, input: ToolCallInput): Promise<ToolResult> {
  return run.call(id, input);
}

async function entriesOf(run: Run): Promise<string[]> {
  const types: string[] = [];
  for await (const entry of readEntries(run.dir.journal)) types.push(entry.type);
  return types;
}

test('a run leaves a diff in the write scope, a whole journal, and nothing at the engine', async () => {
  const run = await open();
  expect(
    await call(run, '1', {
      tool: 'exec',
      script: 'echo two >> src/a.txt; echo x > src/new.txt; mkdir -p build; echo o > build/o; cat .env',
    }),
  ).toMatchObject({ ok: false });
  expect(await call(run, '2', { tool: 'read', path: 'src/a.txt' })).toMatchObject({
    ok: true,
    data: { content: { text: 'one\ntwo\n' } },
  });
  await run.close();
  expect([...(run.candidate?.changeSet.changes.keys() ?? [])].sort()).toEqual(['src/a.txt', 'src/new.txt']);
  expect(run.candidate?.scratch.files).toBe(1);

  const workspace = await bench.workspace(files);
  await execa('git', ['apply', run.dir.patch], { cwd: workspace });
  expect(await readFile(`${workspace}/src/a.txt`, 'utf8')).toBe('one\ntwo\n');

  const check = await checkJournal(run.dir.journal);
  expect(check).toMatchObject({ verdict: 'closed', calls: 2, findings: [] });
  const types = await entriesOf(run);
  expect(types).toContain('files.seen'); // of the commands; when is a matter of time
  expect(types.filter((type) => type !== 'files.seen')).toEqual([
    'run.opened',
    'sandbox.started',
    'call.intended',
    'call.ended',
    'call.intended',
    'call.ended',
    'workspace.collected',
    'run.closed',
  ]);
  expect(await bench.containers()).toEqual([]);
});

test('an untouched workspace gives the empty change set', async () => {
  const run = await open();
  await call(run, '1', { tool: 'exec', script: 'cat src/a.txt; touch src/a.txt' });
  await run.close();
  expect(run.candidate?.changeSet.changes.size).toBe(0);
  expect(run.candidate?.patch.bytes.length).toBe(0);
});

test('the same call id never runs twice, and gives the same answer', async () => {
  const run = await open();
  const input: ToolCallInput = { tool: 'exec', script: 'date +%s%N; echo run >> src/count' };
  const [first, second] = await Promise.all([call(run, 'same', input), call(run, 'same', input)]);
  expect(await call(run, 'same', input)).toEqual(first);
  expect(second).toEqual(first);
  expect((await call(run, 'count', { tool: 'exec', script: 'wc -l < src/count' })).text).toMatch(/^1\n/);
  await run.close();
});

test('of 50 calls exactly 50 are executed under 16 parallel callers, and the 51st is refused with its reason', async () => {
  const run = await open('budget: { max_actions_per_run: 50, max_parallel_actions: 16, max_denied_actions: 1000 }');
  const results = await Promise.all(
    Array.from({ length: 16 }, async (_, caller) => {
      const own: ToolResult[] = [];
      for (let n = 0; n < 4; n++)
        own.push(await call(run, `c${caller}-${n}`, { tool: 'exec', script: `echo x > src/f${caller}-${n}` }));
      return own;
    }),
  );
  const denied = results.flat().filter((result) => result.error?.code === 'denied');
  expect(denied).toHaveLength(64 - 50);
  expect(denied[0]?.text).toMatch(/budget/);
  await run.close();
  expect(run.candidate?.changeSet.changes.size).toBe(50);
  expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', calls: 50, denied: 14 });
});

test('a write outside the scope is denied by rule before it runs, and by the kernel when a command tries', async () => {
  const run = await open();
  const denied = await call(run, '1', { tool: 'write', path: 'README.md', content: { utf8: 'tampered' } });
  expect(denied.error).toMatchObject({ code: 'denied' });
  const tried = await call(run, '2', {
    tool: 'exec',
    script: 'echo tampered > README.md; rm -f README.md; mv README.md x; cat README.md',
  });
  expect(tried.text).toContain('read me');
  await run.close();
  expect(run.candidate?.changeSet.changes.size).toBe(0);
  expect(await entriesOf(run)).toContain('call.denied');
});

test('a call that is still running answers so, goes on, and is recorded when it ends', async () => {
  const run = await open();
  const first = await call(run, 'slow', {
    tool: 'exec',
    script: 'echo begun; read line; echo "got $line"',
    keepStdinOpen: true,
    yieldMs: 300,
  });
  expect(first.data).toMatchObject({ state: 'running' });
  expect(first.text).toContain('begun');
  expect(await entriesOf(run)).not.toContain('call.ended');
  await call(run, 'w', { tool: 'exec_write', callId: 'slow', data: { utf8: 'hello\n' } });
  const last = await call(run, 'p', { tool: 'exec_poll', callId: 'slow', yieldMs: 5000 });
  expect(last.data).toMatchObject({ state: 'ended', exitCode: 0 });
  expect(last.text).toContain('got hello');
  await run.close();
  expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
});

test('a journal that cannot be written stops the run: nothing runs any more', async () => {
  const small = await Bench.make({ dataDirBytes: 4 * 1024 * 1024 });
  const own = await Runner.create(small.engine, small.dataDir);
  try {
    const run = await own.open({ policy: smallPolicy(), workspace: await small.workspace(files) });
    await call(run, '1', { tool: 'exec', script: 'true' });
    await small.fillDataDir();
    const until = async (n: number): Promise<void> =>
      call(run, `fill-${n}`, { tool: 'exec', script: 'true' }).then(() => (n < 100 ? until(n + 1) : undefined));
    await expect(until(0)).rejects.toMatchObject({ code: 'journal_unavailable' }); // the journal's last page had room
    await expect(call(run, '2', { tool: 'exec', script: 'echo x > src/must-not-exist' })).rejects.toMatchObject({
      code: 'journal_unavailable',
    });
    await expect(run.sandbox.files.stat('src/must-not-exist')).rejects.toMatchObject({ code: 'not_found' });
    await expect(call(run, '3', { tool: 'read', path: 'src/a.txt' })).rejects.toMatchObject({
      code: 'journal_unavailable',
    });
    await expect(run.close()).rejects.toMatchObject({ code: 'data_dir_unusable' });
    expect(await small.containers()).toEqual([]);
  } finally {
    await small.close();
  }
});

test('the diff is of one moment: it is refused while something runs, and close ends what was kept', async () => {
  const run = await open();
  await call(run, 'server', {
    tool: 'exec',
    script: '(while :; do date >> src/ticks; sleep 0.05; done) & sleep 0.2',
    descendants: 'keep',
  });
  await expect(run.diff()).rejects.toMatchObject({ code: 'invalid_request' });
  await run.close();
  expect([...(run.candidate?.changeSet.changes.keys() ?? [])]).toEqual(['src/ticks']);
  expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
});

test('a call that is not one is refused before anything happens', async () => {
  const run = await open();
  const wrong = [
    { tool: 'exec' },
    { tool: 'exec', argv: [] },
    { tool: 'exec', script: 'true', user: 'root' },
    { tool: 'nothing' },
    { tool: 'exec', script: 'true', privileged: true },
  ];
  for (const input of wrong)
    await expect(run.call('x', input as ToolCallInput)).rejects.toMatchObject({ code: 'invalid_request' });
  await expect(run.call('../x', { tool: 'exec', script: 'true' })).rejects.toMatchObject({ code: 'invalid_request' });
  await run.close();
  expect(await entriesOf(run)).toEqual(['run.opened', 'sandbox.started', 'workspace.collected', 'run.closed']);
});

test('an image that is not on the list, or not in the policy, does not open', async () => {
  await expect(runner.open({ policy: smallPolicy(), image: 'node' })).rejects.toMatchObject({
    code: 'image_not_allowed',
  });
  expect(await bench.containers()).toEqual([]);
});

test('a policy that asks for more than the engine can keep is refused, not weakened', async () => {
  const policy = smallPolicy().text.replace('memory: 384MiB', 'memory: 64MiB');
  const { parsePolicy } = await import('../src/policy/policy.ts');
  await expect(runner.open({ policy: parsePolicy(policy, 'test') })).rejects.toMatchObject({
    code: 'policy_unenforceable',
  });
  expect(await bench.containers()).toEqual([]);
});

test('the answer to an id is the same one after many others, after the run is closed, and from its directory alone', async () => {
  const run = await open('budget: { max_actions_per_run: 200 }\n');
  const asked = { tool: 'exec', script: 'echo once; echo x >> src/count; exit 3' } as const;
  const first = await call(run, 'first', asked);
  const read = await call(run, 'read', { tool: 'read', path: 'src/a.txt' });
  const denied = await call(run, 'denied', { tool: 'write', path: 'README.md', content: { utf8: 'no' } });
  const script = 'for n in 1 2 3; do :; done';
  for (let n = 0; n < 100; n++) await call(run, `later-${n}`, { tool: 'exec', script });
  expect(run.findCommand('first'), 'what ended long ago is not kept at hand').toBeUndefined();
  const polled = await call(run, 'poll', { tool: 'exec_poll', callId: 'first' });
  expect(polled.data).toMatchObject({ state: 'ended', exitCode: 3, output: { text: 'once\n' } });
  const printed = await call(run, 'printed', { tool: 'output', callId: 'first', offset: 0 });
  expect(printed.data).toMatchObject({ content: { text: 'once\n' }, ended: true });
  const again = { tool: 'exec', script: 'echo twice >> src/count' } as const;
  const reused = { code: 'call_id_reused', message: /new id/ };
  expect(await call(run, 'first', { ...asked, yieldMs: 5 })).toEqual(first);
  await expect(call(run, 'first', again)).rejects.toMatchObject(reused);
  const readme = { tool: 'read', path: 'README.md' } as const;
  await expect(call(run, 'denied', readme)).rejects.toMatchObject(reused);
  const { calls: left } = run.remaining();
  await run.close();
  expect(await call(run, 'first', asked)).toEqual(first);
  await expect(call(run, 'first', again)).rejects.toMatchObject(reused);
  expect(run.remaining().calls, 'what is refused costs nothing').toBe(left);
  expect(await run.answer('read')).toEqual(read);
  expect(await findAnswer(run.dir, 'denied')).toEqual(denied);
  expect(await run.answer('never')).toBeUndefined();
  await expect(call(run, 'never', again)).rejects.toMatchObject({ code: 'run_not_open' });
  expect(run.candidate?.patch.bytes.toString()).toContain('+x');
  expect(run.candidate?.patch.bytes.toString()).not.toContain('twice');
});
