import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { DiffView } from '../src/contract/diff-view.ts';
import { smallPolicy, smallPolicyText } from './fixtures/bench.ts';
import { plantsFor } from './fixtures/plants.ts';
import { openRunnerBench } from './fixtures/runner-bench.ts';

const { bench, runner } = await openRunnerBench();

const gate =
  'verify: { gates: [{ id: unit, run: [sh, check.sh], timeout: 10s }], reruns: { same: 0, half_cpu: 0, base: 0 } }\n';

/** A repository, and a closed run on it in which that was done. */
async function runIn(files: Readonly<Record<string, string>>, script: string, extra = '') {
  const path = await bench.workspace(files);
  const git = (...args: string[]): string => {
    const identity = ['-c', 'user.name=t', '-c', 'user.email=t@example.org'];
    return execFileSync('git', [...identity, ...args], { cwd: path, stdio: 'pipe' })
      .toString()
      .trim();
  };
  git('init', '-q', '-b', 'main');
  git('add', '-A');
  git('commit', '-qm', 'base');
  const run = await runner.open({ policy: smallPolicy(extra), workspace: path, intent: 'mend it' });
  const result = await run.call('c1', { tool: 'exec', script });
  if (!result.ok) throw new Error(result.text);
  await run.close();
  return { path, git, run };
}

async function cli(...argv: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await bench.cliHere(argv);
  return `${exitCode} ${stdout}${stderr}`;
}

test('what an agent plants is flagged or stays behind, and none of it runs on its way into a repository and back', async () => {
  const marker = join(bench.folder, 'ran');
  const kinds = [
    '.gitattributes',
    '.husky/',
    'package.json',
    'conftest.py',
    '.envrc',
    '.vscode/tasks',
    '.mcp.json',
    'sub/.git/',
  ];
  const plants = plantsFor(marker).filter(({ path }) => kinds.some((kind) => path.startsWith(kind)));
  expect(plants.length).toBeGreaterThanOrEqual(8);
  const script = plants.map(({ path, content, kind }) => {
    const file = `src/${path}`;
    const text = Buffer.from(content).toString('base64');
    const mode = kind === 'program' ? '755' : '644';
    return `mkdir -p "$(dirname ${file})"; echo ${text} | base64 -d > ${file}; chmod ${mode} ${file}`;
  });
  const { path, git, run } = await runIn({ 'src/a.txt': 'one\n', 'check.sh': 'exit 0\n' }, script.join('\n'));
  const diff = DiffView.parse(JSON.parse(readFileSync(join(run.dir.path, 'diff.json'), 'utf8')));
  for (const plant of plants) {
    const found = diff.changes.find((change) => change.path === `src/${plant.path}`);
    if (plant.refused === true) expect(found).toBeUndefined();
    else expect(found?.categories).toContain('execution_bearing');
  }
  expect(diff.findings.map(({ effect }) => effect)).toContain('refused');

  const bundle = join(bench.folder, 'planted.tar');
  expect(await cli('verify', run.id)).toMatch(/^3 .*needs review/s);
  expect(await cli('export', run.id, '-o', bundle)).toMatch(/^0 /);
  const promote = ['promote', bundle, '--repo', path];
  expect(await cli('review', bundle)).toMatch(
    /riskiest first\n\s+added\s+src\/.*execution_bearing.*it needs 2 reviews/s,
  );
  expect(await cli('review', bundle, '--accept', '--as', 'ada')).toMatch(/^0 accepted by ada/);
  expect(await cli(...promote)).toMatch(/^125 .*needs 2 reviews.* and has 1 .*promotion_denied/s);
  expect(await cli('review', bundle, '--accept', '--as', 'grace')).toMatch(/^0 accepted by grace/);
  expect(await cli(...promote)).toMatch(/^0 promoted: commit/);
  expect(await cli(...promote)).toMatch(/^0 was promoted before: commit/);
  const branch = `glovebox/${run.id.slice(0, 10)}`;
  expect(git('log', '-1', '--format=%(trailers:key=Reviewed-by,valueonly,separator=%x20)', branch)).toBe('ada grace');
  expect(await cli('rollback', run.id, '--reason', 'not wanted')).toMatch(/^0 rolled back: promotion/);
  expect(git('diff', '--stat', 'main', branch)).toBe('');
  expect(await cli('promotions')).toMatch(/rolled back: not wanted/);
  expect(existsSync(marker)).toBe(false);
  expect(await cli('review', run.id, '--no-patch')).toMatch(/rolled back before .*not wanted/);
  const policy = join(bench.folder, 'again.yaml');
  writeFileSync(policy, smallPolicyText());
  const again = ['-w', path, '-p', policy, '--', 'sh', '-c', 'mkdir -p src/.husky; echo x > src/.husky/pre-commit'];
  expect(await cli('run', ...again)).toMatch(/rolled back before .*\.husky\/pre-commit .*not wanted/);
});

test('where other files have moved on, the changes are judged there before they go on', async () => {
  const files = {
    'src/a.txt': 'one\n',
    'other.txt': 'well\n',
    'check.sh': 'grep -q two src/a.txt && ! grep -q broken other.txt\n',
  };
  const { path, git, run } = await runIn(files, 'echo two > src/a.txt', gate);
  const bundle = join(bench.folder, 'moved.tar');
  for (const argv of [
    ['verify', run.id],
    ['export', run.id, '-o', bundle],
    ['review', bundle, '--accept', '--as', 'ada'],
  ])
    expect(await cli(...argv)).toMatch(/^0 /);
  const move = (branch: string, text: string): void => {
    git('checkout', '-qb', branch, 'main');
    writeFileSync(join(path, 'other.txt'), text);
    git('commit', '-qam', 'moved on');
    git('checkout', '-q', 'main');
  };
  move('next', 'very well\n');
  move('worse', 'broken\n');
  const promote = ['promote', bundle, '--repo', path, '--branch'];
  expect(await cli(...promote, 'next')).toMatch(/^125 .*rebases cleanly on next.*"other.txt".*--reverify.*conflict/s);
  expect(await cli(...promote, 'worse', '--reverify')).toMatch(/^125 .*the verdict is failed.*promotion_denied/s);
  expect(await cli(...promote, 'next', '--reverify')).toMatch(/^0 promoted: commit/);
  expect(git('show', 'next:src/a.txt')).toBe('two');
  expect(git('show', 'next:other.txt')).toBe('very well');
  expect(git('log', '-1', '--format=%s', 'worse')).toBe('moved on');
});
