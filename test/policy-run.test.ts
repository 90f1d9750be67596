import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Approver } from '../src/approvals/approval.ts';
import { checkJournal } from '../src/journal/check.ts';
import { readEntries } from '../src/journal/read.ts';
import { Runner, type Run } from '../src/runner.ts';
import { Bench, smallPolicyText } from './fixtures/bench.ts';
import { parsePolicy } from '../src/policy/policy.ts';

let bench: Bench;
const runners: Runner[] = [];

beforeAll(async () => {
  bench = await Bench.make();
});
afterAll(async () => {
  for (const runner of runners) await runner.close();
  await bench.close();
});

const rules = `approvals:
  categories: { dependency: { timeout: 20s }, secrets: { quorum: 2 } }
  triggers: [{ category: secrets, when: { diff_detector: [secret_looking] } }]
commands:
  - { id: pull, match: { program: curl }, effect: require_approval, category: dependency, tests: { match: [curl x] } }
  - { id: push, match: { program: git, subcommand: push }, effect: deny, tests: { match: [git push] } }
  - { id: rest, match: { program: "*" }, effect: allow, set_env: { MADE_BY: agent }, tests: { match: [ls] } }
`;

async function open(approver?: Approver, waitingAfterMs?: number): Promise<Run> {
  const options = {
    ...(approver === undefined ? {} : { approver }),
    ...(waitingAfterMs === undefined ? {} : { waitingAfterMs }),
  };
  const runner = await Runner.create(bench.engine, bench.dataDir, options);
  runners.push(runner);
  const text = smallPolicyText(rules).replace(
    'write: ["src/**"]',
    'write: ["src/**"]\n  write_ask: [package.json, yarn.lock]\n  propose_only: ["deploy/**"]',
  );
  const files = {
    'src/a.txt': 'one\n',
    'package.json': '{}\n',
    'deploy/prod.yaml': 'replicas: 1\n',
    'README.md': 'x\n',
  };
  const workspace = await bench.workspace(files);
  return runner.open({
    policy: parsePolicy(text, 'test'),
    workspace,
    intent: { summary: 'test', requirements: ['a'] },
  });
}

const edits = 'echo two >> src/a.txt; echo {} >> package.json; echo 2 >> deploy/prod.yaml';

async function entriesOf(run: Run): Promise<string[]> {
  const seen: string[] = [];
  for await (const { type, data } of readEntries(run.dir.journal))
    if (type === 'approval.decided') seen.push(`${data.category} ${data.verdict}`);
  return seen;
}

test('what has to be approved stays behind where nobody is asked, and what is proposed is only shown', async () => {
  const run = await open();
  expect((await run.call('1', { tool: 'exec', script: edits })).ok).toBe(true);
  expect(await run.call('2', { tool: 'exec', script: 'true && git push' })).toMatchObject({
    error: { message: /rule push/ },
  });
  expect(await run.call('3', { tool: 'exec', argv: ['curl', 'x'] })).toMatchObject({
    error: { message: /there is nobody to ask here \(rule approvals\.dependency\)/ },
  });
  expect((await run.call('4', { tool: 'exec', script: 'echo $MADE_BY' })).text).toContain('agent');
  await run.close();
  expect([...(run.candidate?.changeSet.changes.keys() ?? [])]).toEqual(['src/a.txt']);
  expect(run.candidate?.held).toEqual([
    { path: 'deploy/prod.yaml', why: 'propose_only', approvals: [] },
    { path: 'package.json', why: 'not_approved', approvals: ['write_ask'] },
  ]);
  expect(await readFile(run.dir.patch, 'utf8')).not.toContain('package.json');
  expect(await entriesOf(run)).toEqual(['dependency denied', 'write_ask denied']);
  expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [], denied: 2 });
});

test('what was approved leaves, and the call that waited has run', async () => {
  const shown: string[] = [];
  const run = await open(async ({ category, subject, quorum }) => {
    shown.push(`${category} ${quorum} ${subject}`);
    return [{ approve: true, by: 'ada' }];
  });
  await run.call('1', { tool: 'exec', script: edits });
  expect((await run.call('2', { tool: 'exec', script: 'curl --version || true; echo done' })).text).toContain('done');
  await run.close();
  expect([...(run.candidate?.changeSet.changes.keys() ?? [])]).toEqual(['package.json', 'src/a.txt']);
  expect(shown[0]).toContain('dependency 1 {"');
  expect(shown[1]).toBe('write_ask 1 package.json +1 -0');
  expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
});

test('a call that waits says so, resumes when it is decided, and answers under the same id', async () => {
  let decide: (approve: boolean) => void = () => undefined;
  const run = await open(
    () =>
      new Promise((resolve) => {
        decide = (approve) => resolve([{ approve, by: 'ada' }]);
      }),
    20,
  );
  const input = { tool: 'exec', script: 'curl --version; echo ran >> src/ran' } as const;
  const waiting = await run.call('1', input);
  expect(waiting).toMatchObject({
    ok: false,
    error: { code: 'waiting_for_approval', message: /dependency, one person/ },
  });
  expect(await run.call('2', { tool: 'exec', script: 'ls src' })).toMatchObject({ ok: true, text: /^a\.txt\n/ });
  expect((await run.call('1', input)).error?.code).toBe('waiting_for_approval');
  await expect(run.call('1', { ...input, cwd: 'src' })).rejects.toMatchObject({ code: 'call_id_reused' });
  decide(true);
  await expect.poll(async () => (await run.call('1', input)).error?.code).not.toBe('waiting_for_approval');
  expect((await run.call('3', { tool: 'read', path: 'src/ran' })).ok).toBe(true);

  const refused = await run.call('4', input);
  expect(refused.error?.code).toBe('waiting_for_approval');
  await run.close();
  expect((await run.call('4', input)).error?.message).toMatch(/the run is closed/);
  expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
});

test('what looks like a secret needs two people, and one is not two', async () => {
  const run = await open(async () => [{ approve: true, by: 'ada' }]);
  await run.call('1', { tool: 'exec', script: `echo key=AKIA${'ABCDEFGH'.repeat(2)} > src/config.txt` });
  await run.close();
  expect(run.candidate?.held).toMatchObject([{ path: 'src/config.txt', why: 'not_approved', approvals: ['secrets'] }]);
});

test('the whole intent and the policy files are kept with the run', async () => {
  const run = await open();
  await run.close();
  for await (const entry of readEntries(run.dir.journal))
    if (entry.type === 'run.opened')
      expect(entry.data).toMatchObject({ intent: 'test', request: { requirements: ['a'] } });
  expect(JSON.parse(await readFile(join(run.dir.path, 'policy.json'), 'utf8'))).toMatchObject({
    files: [{ source: 'test' }],
    intent: { summary: 'test' },
  });
});

test('the policy commands answer on the command line, for people and for machines, by their exit code too', async () => {
  const cli = (...argv: string[]) => bench.cliHere(['policy', ...argv]);
  expect(await cli('validate', 'balanced')).toMatchObject({ exitCode: 0, stdout: /class feature, risk medium/ });
  expect(await cli('lint', 'org-floor')).toMatchObject({ exitCode: 0, stdout: 'nothing found' });
  expect(await cli('test', 'org-floor')).toMatchObject({ exitCode: 0, stdout: /10 of 10 tests pass/ });
  const why = await cli('why', 'bugfix', '--json', '--', 'sudo', 'git', '-C', '.', 'push');
  expect(why.exitCode).toBe(1);
  expect(JSON.parse(why.stdout)).toMatchObject({
    decision: { effect: 'deny', rule: 'c-push', layer: 'organisation org-floor' },
  });
  expect(await cli('why', 'balanced', '-c', 'feature', '-w', 'package.json')).toMatchObject({
    exitCode: 0,
    stdout: /approvals: dependency/,
  });
  expect(JSON.parse((await cli('explain', 'bugfix', '--json')).stdout)).toMatchObject({
    lines: expect.arrayContaining([expect.objectContaining({ key: 'runtime' })]),
  });
  expect((await cli('diff', 'bugfix', 'default')).stdout).toMatch(/\*\*Becomes possible\*\*/);
  expect(JSON.parse((await cli('schema')).stdout)).toMatchObject({ type: 'object' });

  const broken = join(bench.folder, 'broken.yaml');
  await writeFile(broken, `${smallPolicyText()}tests: [{name: no, given: {read: .env}, expect: {effect: allow}}]\n`);
  expect(await cli('validate', broken)).toMatchObject({ exitCode: 125, stderr: /:13:9: the test "no" fails/ });
  expect(await cli('test', broken)).toMatchObject({ exitCode: 1, stdout: /FAIL no: effect is deny, not allow/ });
});

test('what is not offered is neither listed nor answered, watching included', async () => {
  const runner = await Runner.create(bench.engine, bench.dataDir);
  runners.push(runner);
  const run = await runner.open({ policy: parsePolicy(smallPolicyText('tools: { allow: [exec, read] }\n'), 'test') });
  expect(run.tools().map(({ name }) => name)).toEqual(['exec', 'read']);
  expect(await run.call('1', { tool: 'exec', script: 'echo hi' })).toMatchObject({ ok: true });
  for (const call of [{ tool: 'exec_list' }, { tool: 'output', callId: '1' }, { tool: 'list', path: '.' }] as const)
    expect(await run.call(call.tool, call)).toMatchObject({ error: { code: 'denied', message: /rule tools\.allow/ } });
  expect(await run.poll('1', 0)).toMatchObject({ ok: true });
  await run.close();
});

test('an intent from a file narrows, is recorded, and cannot widen', async () => {
  const policy = join(bench.folder, 'policy.yaml');
  const intent = join(bench.folder, 'intent.yaml');
  await writeFile(policy, smallPolicyText());
  const run = () => bench.cliHere(['run', '-p', policy, '--intent-file', intent, '--json', '--', 'true']);
  await writeFile(intent, 'summary: look\nsource: issue_comment\nbudget: { max_actions_per_run: 1 }\n');
  const ran = await run();
  expect(ran.exitCode, ran.stderr).toBe(0);
  expect(JSON.parse(ran.stdout)).toMatchObject({ remaining: { calls: 0 } });
  await writeFile(intent, 'budget: { max_actions_per_run: 51 }\n');
  expect(await run()).toMatchObject({
    exitCode: 125,
    stderr: /the intent: budget\.max_actions_per_run: 51 is more than/,
  });
  await writeFile(intent, 'sumary: look\n');
  expect(await run()).toMatchObject({ exitCode: 125, stderr: /sumary: unknown key; did you mean summary/ });
});

test('on a terminal whoever started the run is asked, and their answer is what happens', async () => {
  const policy = join(bench.folder, 'asking.yaml');
  await writeFile(policy, smallPolicyText(rules));
  const program = fileURLToPath(new URL('../bin/glovebox.js', import.meta.url));
  const glovebox = `${process.execPath} ${program} run -p ${policy} -- sh -c "curl x; echo it ran"`;
  const answer = (input: string) =>
    execa('script', ['-qec', glovebox, '/dev/null'], {
      reject: false,
      input,
      env: { GLOVEBOX_DATA: bench.dataDir.path, NO_COLOR: '1' },
      timeout: 40_000,
    });
  const [yes, no] = await Promise.all([answer('y\n'), answer('n\n')]);
  expect(yes.stdout).toMatch(/approval needed: dependency \(rule pull/);
  expect(yes.stdout).toMatch(/it ran/);
  expect(no.stdout).toMatch(/the approval \(dependency\) was denied by \w+: refused on the terminal/);
  expect(no.stdout).not.toMatch(/^it ran/m);
});
