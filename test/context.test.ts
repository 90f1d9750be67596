import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { describeRun } from '../src/bundle/export.ts';
import { readContexts } from '../src/context/context-report.ts';
import type { ContextView } from '../src/contract/context-view.ts';
import { parsePolicy } from '../src/policy/policy.ts';
import { findRunSnapshot } from '../src/runner.ts';
import { smallPolicyText } from './fixtures/bench.ts';
import { openRunnerBench } from './fixtures/runner-bench.ts';

const { bench, runner } = await openRunnerBench();

const text = smallPolicyText(`approvals: {categories: {release: {}}}
commands:
  - {id: publish, match: {program: publish}, tags: [publish], effect: allow, tests: {match: [publish]}}
  - {id: all, match: {program: "*"}, effect: allow, tests: {match: [ls]}}
lanes: {explore: {}, commit: {models: ["strong-*"]}}
classes: {look: {lane: explore}, ship: {lane: commit}}
context: {fresh_before: [publish], max_age_calls: 2}
`);
const files = { 'src/a.txt': 'one\n' };

test('what is found in one lane goes on in another one, and each change has the belief behind it, also in the bundle', async () => {
  const policy = parsePolicy(text, 'p', { taskClass: 'look', intent: { model: 'quick-1' } });
  const run = await runner.open({ policy, workspace: await bench.workspace(files) });
  const publish = (callId: string) => run.call(callId, { tool: 'exec', script: 'publish || true' });
  expect(await publish('p1')).toMatchObject({ ok: false, error: { code: 'denied' }, text: /attach_context/ });
  const attached = await run.attachContext({ version: 1, summary: 'a.txt says one', source_refs: ['src/a.txt:1'] });
  expect(await run.attachContext({ version: 1, summary: 'a.txt says one', source_refs: ['src/a.txt:1'] })).toEqual(
    attached,
  );
  expect(await publish('p1'), 'a denial stays the answer to its call').toMatchObject({ error: { code: 'denied' } });
  expect(await publish('p2')).toMatchObject({ ok: true });
  await run.call('w', { tool: 'exec', script: 'echo two > src/a.txt' });
  expect(await publish('p3')).toMatchObject({ ok: false, text: /2 calls old/ });
  await run.close();
  await expect(run.attachContext({ version: 2, summary: 'late' })).rejects.toMatchObject({ code: 'run_not_open' });

  const taken = await findRunSnapshot(bench.dataDir, run.id);
  await expect(runner.fork(taken, { taskClass: 'ship' })).rejects.toThrow(/in lane commit only strong-\*/);
  const [fork] = await runner.fork(taken, { taskClass: 'ship', intent: { model: 'strong-2' } });
  if (fork === undefined) throw new Error('no fork');
  expect(await fork.call('r', { tool: 'exec', script: 'cat src/a.txt' })).toMatchObject({ text: /two/ });
  await expect(fork.attachContext({ version: 1, summary: 'x', model: 'quick-1' })).rejects.toThrow(/in lane commit/);
  await fork.attachContext({ version: 1, summary: 'it should say three', model: 'strong-3' });
  await fork.call('w', { tool: 'exec', script: 'echo three > src/a.txt' });
  await fork.close();

  const told = await readContexts(fork.dir, 'w');
  expect(told.parts).toMatchObject([
    { lane: 'commit', model: 'strong-2', from: { run: run.id, lane: 'explore', model: 'quick-1' }, calls: 1 },
    { lane: 'commit', model: 'strong-3', from: { run: fork.id, model: 'strong-2' }, calls: 1 },
  ]);
  expect(told.applied).toEqual([{ run: run.id, digest: taken.digest, changes: 1 }]);
  expect(told.inForce?.snapshot).toMatchObject({ summary: 'it should say three' });
  const { facts } = await describeRun(bench.dataDir, fork.id);
  expect([...facts.contexts.values()].map(({ summary }) => summary)).toEqual(['it should say three']);
});

test('a session that is played attaches what it believes, and glovebox context tells it of each call', async () => {
  const [policy, session] = [join(bench.folder, 'policy.yaml'), join(bench.folder, 'session.jsonl')];
  await writeFile(policy, text);
  const lines = [
    { callId: 'a', call: { tool: 'exec', script: 'true' } },
    { note: 'it thinks', context: { version: 1, summary: 'all is \u001b[2Jwell', model: 'quick-1' } },
    { callId: 'b', call: { tool: 'exec', script: 'publish || true' } },
  ];
  await writeFile(session, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  const played = await bench.cliHere(['play', session, '-p', policy, '-c', 'look', '--model', 'quick-0', '--json']);
  expect(played.exitCode).toBe(0);
  const { run } = JSON.parse(played.stdout.split('\n').at(-1) ?? '') as { run: string };
  const asJson = await bench.cliHere(['context', run, '--at', 'b', '--json']);
  const view = JSON.parse(asJson.stdout) as ContextView;
  expect(view).toMatchObject({ call: 'b', worker: { lane: 'explore', model: 'quick-1' }, inForce: { number: 1 } });
  expect(view.parts.map(({ model }) => model)).toEqual(['quick-0', 'quick-1']);
  const shown = await bench.cliHere(['context', run, '--at', 'a']);
  expect(shown.stdout).toMatch(/made call a.*: nobody had said what the agent believes/);
  expect((await bench.cliHere(['context', run])).stdout).toContain(String.raw`all is \x1b[2Jwell`);
  expect((await bench.cliHere(['context', run, '--at', 'zzz'])).exitCode).toBe(125);
  expect(await readFile(join(bench.dataDir.runDir(run).journal), 'utf8')).not.toContain('\u001b');
});
