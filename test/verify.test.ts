import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Entry } from '../src/journal/entry.ts';
import { readEntries } from '../src/journal/read.ts';
import type { LoadedPolicy } from '../src/policy/policy.ts';
import { findRunSnapshot, Runner, type Run } from '../src/runner.ts';
import type { GateResult, Verification } from '../src/verify/verification.ts';
import { findVerification } from '../src/verify/verification-files.ts';
import { verifyRun } from '../src/verify/verify.ts';
import { smallPolicy } from './fixtures/bench.ts';
import { openRunnerBench } from './fixtures/runner-bench.ts';

/** What is verified runs in real sandboxes here; how gates are judged is tested beside them, without an engine. */

const { bench, runner } = await openRunnerBench();

const adds = 'def add(a, b):\n    return a + b\n';
const files = {
  'src/sum.py': 'def add(a, b):\n    return a - b\n',
  'src/test/test_sum.py': 'import sys; sys.path.insert(0, "src")\nfrom sum import add\nassert add(0, 0) == 0\n',
  'README.md': 'sums\n',
};
/** Runs each test file, and says in TAP how that went. */
const tap = `n=0; for t in src/test/test_*.py; do n=$((n+1)); python3 "$t" >/dev/null 2>&1 && echo "ok $n - $t" || { echo "not ok $n - $t"; f=1; }; done; echo "1..$n"; exit \${f:-0}`;
const gates = (extra = ''): string => `verify:
  reruns: { same: 1, half_cpu: 0, base: 1 }
  gates:
    - { id: unit, script: ${JSON.stringify(tap)}, timeout: 20s, report: { kind: tap }, red_green: true }
${extra}`;

test('a fix with a test that was red passes: each command in a sandbox of its own, without a network, on record', async () => {
  const { verification, id } = await verified(
    gates(),
    `printf '${adds.replaceAll('\n', '\\n')}' > src/sum.py; printf 'import sys; sys.path.insert(0, "src")\\nfrom sum import add\\nassert add(2, 2) == 4\\n' > src/test/test_more.py`,
  );
  expect(shown(verification)).toEqual({
    scope: 'passed',
    secrets: 'passed',
    execution_bearing: 'passed',
    diff_quality: 'passed',
    unit: 'passed',
    tests_kept: 'passed',
    red_green: 'passed',
  });
  expect(verification).toMatchObject({
    verdict: 'passed',
    checksTouched: [],
    failures: [],
    risk: { from: 'low', to: 'low' },
  });
  expect(gate(verification, 'unit').tests).toEqual({ passed: 2, failed: 0, skipped: 0, failing: [] });
  expect(verification.runs.map(({ of }) => of)).toEqual([
    'unit/candidate/same',
    'unit/base/same',
    'unit/base_checks/same',
    'unit/base_with_new_checks/same',
  ]);
  for (const { run, of, journal } of verification.runs) {
    const entries = await entriesOf(run);
    const [, where, how] = of.split('/');
    expect(entries[0]).toMatchObject({ data: { verifies: { run: id, gate: 'unit', attempt: `${where}/${how}` } } });
    expect(entries.at(-1)).toMatchObject({ type: 'run.closed', hash: journal });
  }
  expect(await bench.containers()).toEqual([]);
  expect((await findVerification(bench.dataDir.runDir(id)))?.verification).toEqual(verification);
});

test('a candidate is not paid for checks that it changes: those of the base are asked too, and its risk rises', async () => {
  const { verification, id } = await verified(
    gates().replace(', red_green: true', ''),
    `printf 'def add(a, b):\n    return 4\n' > src/sum.py; printf 'import sys; sys.path.insert(0, "src")\nfrom sum import add\nassert add(2, 2) == 4\n' > src/test/test_sum.py`,
  );
  expect(verification).toMatchObject({
    verdict: 'needs_review',
    risk: { from: 'low', to: 'high' },
    checksTouched: ['src/test/test_sum.py'],
  });
  expect(gate(verification, 'unit')).toMatchObject({ verdict: 'needs_review', tests: { passed: 1, failed: 0 } });
  expect(gate(verification, 'unit').reason).toContain('passes only with checks that the candidate changes');
  const { exitCode, stdout, stderr } = await bench.cliHere(['verify', id]);
  expect(exitCode, stderr).toBe(3);
  expect(stderr).toContain('… unit/base_checks/same');
  expect(stdout).toContain('it changes what is checked: src/test/test_sum.py');
  expect(stdout).toContain(`next: look at what is said above and at glovebox diff ${id.slice(0, 12)}`);
});

const rude = String.raw`printf '\033]0;owned\007 \033[2J'; exit 3`;

test('what fails is run again, on the base too, and what a gate prints is shown and never obeyed', async () => {
  const { verification } = await verified(
    gates(`    - { id: rude, script: ${JSON.stringify(rude)} }\n    - { id: none, run: [no-such-program] }\n`),
    `printf 'def add(a, b):\n    return a * b + 1\n' > src/sum.py`,
  );
  expect(verification.verdict).toBe('broken');
  const unit = gate(verification, 'unit');
  expect(unit).toMatchObject({ verdict: 'failed', tests: { failed: 1, failing: ['src/test/test_sum.py'] } });
  expect(unit.stability).toEqual({
    verdict: 'stable_fail',
    attempts: [
      { where: 'candidate', how: 'same', runs: 2, failed: 2 },
      { where: 'base', how: 'same', runs: 1, failed: 0 },
    ],
    bound: '2 of 2 failed: passes less than 78 % of the time, with 95 % confidence',
  });
  expect(gate(verification, 'rude')).toMatchObject({ verdict: 'failed', stability: { verdict: 'failed_before' } });
  expect(gate(verification, 'rude').evidence).toEqual([String.raw`\x1b]0;owned\x07 \x1b[2J`]);
  expect(gate(verification, 'none').verdict).toBe('broken');
  expect(verification.failures.map(({ where, class: kind, attribution }) => [where, kind, attribution])).toEqual([
    ['gate unit', 'semantic_defect', 'agent'],
    ['gate rude', 'semantic_defect', 'environment'],
    ['gate none', 'environment_mismatch', 'environment'],
    ['gate red_green', 'constraint_violation', 'agent'],
  ]);
  expect(JSON.stringify(verification)).not.toMatch(/[^\x20-\x7e×…›]/);
});

test('what depends on the order of tests, or on luck, is told as a flake and passes nothing', async () => {
  const moods = await bench.workspace({ mood: 'good' });
  chmodSync(moods, 0o755);
  const policy = smallPolicy(`inputs: [{ source: ${moods}, target: /inputs/moods }]
verify:
  reruns: { same: 1, shuffled: 1, half_cpu: 1, base: 1 }
  gates:
    - { id: ordered, script: "echo b-after-a; exit 1", shuffle: [sh, -c, "echo a-after-b"] }
    - { id: lucky, script: "grep -q good /inputs/moods/mood" }
`);
  const run = await changed(policy, 'echo "# more" >> src/sum.py');
  const { verification } = await verifyRun({ runner, dataDir: bench.dataDir }, run.id, {
    // The second attempt with the candidate has more luck than any other.
    onAttempt: (name) => writeFileSync(join(moods, 'mood'), again(name) ? 'good' : 'bad'),
  });
  expect(verification.verdict).toBe('needs_review');
  expect(gate(verification, 'ordered')).toMatchObject({
    verdict: 'needs_review',
    stability: { verdict: 'flaky_order' },
  });
  expect(gate(verification, 'lucky')).toMatchObject({
    verdict: 'needs_review',
    stability: {
      verdict: 'flaky_unknown',
      attempts: [
        { where: 'candidate', how: 'same', runs: 2, failed: 1 },
        { where: 'base', how: 'same', runs: 1, failed: 1 },
        { where: 'candidate', how: 'half_cpu', runs: 1, failed: 1 },
      ],
    },
  });
  expect(new Set(verification.failures.map(({ class: kind }) => kind))).toEqual(new Set(['flaky_verifier']));
  await expect(verifyRun({ runner, dataDir: bench.dataDir }, verification.runs[0]?.run ?? '')).rejects.toMatchObject({
    code: 'invalid_request',
    message: expect.stringContaining(`was made to verify run ${run.id}`),
  });
});

test('what a verification leaves when its runner goes away is taken up by nobody', async () => {
  const run = await changed(smallPolicy(), 'echo "# more" >> src/sum.py');
  const other = await Runner.create(bench.engine, bench.dataDir);
  const verifies = { run: run.id, gate: 'unit', attempt: 'candidate/same' };
  const [left] = await other.fork(await findRunSnapshot(bench.dataDir, run.id), { verifies });
  await other.release();
  const id = left?.id ?? '';
  await expect(runner.resume(id)).rejects.toMatchObject({ code: 'sandbox_lost' });
  await runner.closeLost(id, 'nobody waits for it');
  expect((await entriesOf(id)).at(-1)).toMatchObject({ type: 'run.closed', data: { outcome: 'lost' } });
  expect(await bench.containers()).toEqual([]);
});

const made: string[] = [];
function again(name: string): boolean {
  made.push(name);
  return name === 'lucky/candidate/same' && made.filter((one) => one === name).length === 2;
}

async function entriesOf(run: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of readEntries(bench.dataDir.runDir(run).journal)) entries.push(entry);
  return entries;
}

async function verified(policy: string, script: string): Promise<{ verification: Verification; id: string }> {
  const run = await changed(smallPolicy(policy), script);
  const { verification } = await verifyRun({ runner, dataDir: bench.dataDir }, run.id);
  return { verification, id: run.id };
}

async function changed(policy: LoadedPolicy, script: string): Promise<Run> {
  const run = await runner.open({ policy, workspace: await bench.workspace(files) });
  const result = await run.call('change', { tool: 'exec', script });
  expect(result.data, result.text).toMatchObject({ exitCode: 0 });
  await run.close();
  return run;
}

function shown({ gates: all }: Verification): Record<string, string> {
  return Object.fromEntries(all.map(({ id, verdict }) => [id, verdict]));
}

function gate({ gates: all }: Verification, id: string): GateResult {
  const found = all.find((one) => one.id === id);
  if (found === undefined) throw new Error(`no gate ${id}`);
  return found;
}
