import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { beforeAll, describe, expect, test } from 'vitest';
import { defaultPolicy, parsePolicy, type LoadedPolicy } from '../src/policy/policy.ts';
import type { Run } from '../src/runner.ts';
import { smallPolicyText } from './fixtures/bench.ts';
import { openRunnerBench } from './fixtures/runner-bench.ts';

const { bench, runner } = await openRunnerBench();
let policy: LoadedPolicy;

beforeAll(async () => {
  policy = await defaultPolicy();
});

/** In a run of the shipped default policy; what it changed, by path. */
async function inRun(
  files: Readonly<Record<string, string>>,
  work: (run: Run) => Promise<void>,
  image?: string,
  with_: LoadedPolicy = policy,
): Promise<Run> {
  const workspace = await bench.workspace(files);
  const run = await runner.open({ policy: with_, workspace, ...(image === undefined ? {} : { image }) });
  try {
    await work(run);
  } finally {
    await run.close();
  }
  return run;
}

const changed = (run: Run): string[] => [...(run.candidate?.changeSet.changes.keys() ?? [])].sort();

let calls = 0;
async function sh(run: Run, script: string): Promise<string> {
  const result = await run.call(`c${calls++}`, { tool: 'exec', script: `set -e\n${script}`, yieldMs: 60_000 });
  if (!result.ok || result.data?.kind !== 'exec' || result.data.exitCode !== 0) throw new Error(result.text);
  return result.text;
}

describe('git inside', () => {
  const files = { 'src/a.txt': 'one\n', 'b.txt': 'b\n', '.gitignore': '*.log\n', 'kept.log': 'tracked\n' };

  test('status, diff, stash, commit and reset work; the diff of the run is against what was copied in', async () => {
    const run = await inRun(files, async (inside) => {
      expect(await sh(inside, 'git status --porcelain; git log --oneline | wc -l; git ls-files')).toMatch(
        /^1\n\.gitignore\nb\.txt\nkept\.log\nsrc\/a\.txt\n/,
      );
      await sh(inside, 'echo two >> src/a.txt; git diff --exit-code >/tmp/d && exit 1; grep -q "^+two" /tmp/d');
      await sh(inside, 'git stash -q; test "$(cat src/a.txt)" = one; git stash pop -q; grep -q two src/a.txt');
      await sh(inside, 'git commit -qam second; git checkout -qb other; git rm -q b.txt; git commit -qm third');
      await sh(inside, 'git status --porcelain | wc -l; git switch -q -; test -f b.txt; git switch -q other; git fsck');
    });
    expect(changed(run)).toEqual(['b.txt', 'src/a.txt']);
    expect(run.candidate?.findings).toEqual([]);
  });

  test('branches are rebased and merged, also with a conflict, and what is left in the work tree is the diff', async () => {
    const run = await inRun(files, async (inside) => {
      await sh(inside, 'git switch -qc topic; echo topic > topic.txt; git add .; git commit -qm topic');
      await sh(
        inside,
        'git switch -q -; echo main >> b.txt; git commit -qam main; git switch -q topic; git rebase -q @{-1}',
      );
      expect(await sh(inside, 'git log --format=%s | head -2; cat b.txt')).toMatch(/^topic\nmain\nb\nmain\n/);
      await sh(inside, 'git switch -qc mine HEAD~1; echo mine > topic.txt; git add .; git commit -qm mine');
      await sh(
        inside,
        'git rebase topic && exit 1; echo both > topic.txt; git add .; git rebase --continue; git gc -q',
      );
      expect(await sh(inside, 'git merge-base --is-ancestor topic mine; git status --porcelain | wc -l')).toMatch(
        /^0\n/,
      );
    });
    expect(changed(run)).toEqual(['b.txt', 'topic.txt']);
    expect(run.candidate?.findings).toEqual([]);
  });

  test('has one commit, no remote, no hook and nothing of the repository outside', async () => {
    const workspace = await bench.workspace(files);
    const git = (...args: string[]) =>
      execa('git', ['-c', 'user.name=t', '-c', 'user.email=t@e', ...args], { cwd: workspace });
    await git('init', '-q');
    await git('add', '-f', '.');
    await git('commit', '-qm', 'secret history');
    await git('remote', 'add', 'origin', 'https://example.invalid/secret');
    const run = await runner.open({ policy, workspace });
    const said = await sh(
      run,
      'git log --all; git remote -v; git config --list --local; ls .git; grep -r secret .git || true',
    );
    expect(said).not.toMatch(/secret|hooks|origin/);
    expect(said.match(/^commit /gm)).toHaveLength(1);
    await run.close();
    expect(changed(run)).toEqual([]);
  });

  test('whatever an agent does to it is not read back', async () => {
    for (const spoil of [
      'rm -rf .git',
      'rm -rf .git; echo gitdir: /etc > .git',
      'rm -rf .git; ln -s /etc .git',
      'mkdir -p .git/hooks; echo x > .git/hooks/pre-commit; git config core.fsmonitor /bin/sh',
    ]) {
      const run = await inRun(files, async (inside) => void (await sh(inside, `${spoil}; echo new > n`)));
      expect(changed(run), spoil).toEqual(['n']);
      expect(run.candidate?.findings, spoil).toEqual([]);
    }
  });

  test('a workspace that is closed at the top has it too, and a fork starts with its changes uncommitted', async () => {
    const narrow = parsePolicy(smallPolicyText().replace('deny:', 'git: true\n  deny:'), 'narrow');
    const run = await runner.open({ policy: narrow, workspace: await bench.workspace(files) });
    await sh(run, 'echo two >> src/a.txt; git commit -qam mine; test "$(git status --porcelain)" = ""');
    const [fork] = await runner.fork(run);
    expect(await sh(fork ?? run, 'git status --porcelain; git log --oneline | wc -l')).toMatch(/^ M src\/a\.txt\n1\n/);
    await Promise.all([run.close(), fork?.close()]);
    expect(changed(fork ?? run)).toEqual(['src/a.txt']);
  });

  test('without files.git there is none', async () => {
    const plain = parsePolicy(smallPolicyText(), 'plain');
    await inRun(files, async (run) => void (await sh(run, 'test ! -e .git; ! git status')), undefined, plain);
  });
});

describe('in the default policy', () => {
  test('sed -i, editors that save by rename or keep a backup, and patch-like rewrites give one change each', async () => {
    const files = { 'a.txt': 'one\n', 'd/b.txt': 'one\n', 'd/run.sh': 'one\n', 'untouched.txt': 'one\n' };
    const run = await inRun(files, async (inside) => {
      await sh(inside, "sed -i 's/one/two/' a.txt");
      // As vim and most editors: a new file beside it, the old one renamed to a backup, then removed.
      await sh(inside, 'printf "two\\n" > d/.b.swp; mv d/b.txt d/b.txt~; mv d/.b.swp d/b.txt; rm d/b.txt~');
      await sh(
        inside,
        "python3 -c \"import os; open('d/t','w').write('two\\n'); os.chmod('d/t', 0o755); os.replace('d/t','d/run.sh')\"",
      );
      await sh(inside, 'cp -a untouched.txt x; mv x untouched.txt; touch -d 1999-01-01 untouched.txt');
    });
    expect(changed(run)).toEqual(['a.txt', 'd/b.txt', 'd/run.sh']);
    expect(await readFile(run.dir.patch, 'utf8')).toContain('old mode 100644\nnew mode 100755');
  });

  test('npm runs scripts, installs what is there without a network, and leaves its modules out of the diff', async () => {
    const files = {
      'package.json': JSON.stringify({ name: 'app', version: '1.0.0', scripts: { test: 'node test.js' } }),
      'test.js': "if (require('dep') !== 42) process.exit(1); console.log('passed');",
      'dep/package.json': JSON.stringify({ name: 'dep', version: '1.0.0' }),
      'dep/index.js': 'module.exports = 42;',
    };
    const run = await inRun(
      files,
      async (inside) => {
        await sh(inside, 'npm install --offline --no-audit --no-fund --install-links ./dep');
        expect(await sh(inside, 'npm test')).toContain('passed');
      },
      'node',
    );
    expect(changed(run)).toEqual(['package-lock.json', 'package.json']);
    expect(run.candidate?.scratch.files).toBeGreaterThan(1);
  });

  test('npm installs from packages that an operator shares, and 10,000 files of modules cost the diff nothing', async () => {
    const shared = await mkdtemp(join(tmpdir(), 'glovebox-packages-'));
    await chmod(shared, 0o755);
    const dep = await bench.workspace({
      'package.json': JSON.stringify({ name: 'dep', version: '1.0.0', files: ['index.js'] }),
      'index.js': 'module.exports = 42;',
    });
    await execa('npm', ['pack', '--silent', '--offline', '--pack-destination', shared], { cwd: dep });
    const sharing = parsePolicy(`${policy.text}inputs: [{ source: ${shared}, target: /inputs/packages }]\n`, 'sharing');
    const run = await inRun(
      { 'package.json': JSON.stringify({ name: 'app', version: '1.0.0' }), 'index.js': "console.log(require('dep'));" },
      async (inside) => {
        await sh(inside, 'npm install --offline --no-audit --no-fund /inputs/packages/dep-1.0.0.tgz');
        expect(await sh(inside, 'node index.js; touch /inputs/packages/x || echo refused')).toMatch(/^42\n.*refused/s);
        await sh(
          inside,
          'for d in $(seq 100); do mkdir -p node_modules/p$d; (cd node_modules/p$d; touch $(seq 100)); done',
        );
        const startedMs = performance.now();
        await inside.diff();
        expect(performance.now() - startedMs).toBeLessThan(3_000);
      },
      'node',
      sharing,
    );
    await rm(shared, { recursive: true });
    expect(changed(run)).toEqual(['package-lock.json', 'package.json']);
    expect(run.candidate?.scratch.files).toBeGreaterThan(10_000);
  });

  test('pip builds and installs into a venv without a network, and pytest runs; both stay out of the diff', async () => {
    const files = {
      'pkg/setup.py': "from setuptools import setup\nsetup(name='pkg', version='1', py_modules=['mod'])\n",
      'pkg/mod.py': 'answer = 42\n',
      'tests/test_mod.py': 'import mod\n\n\ndef test_answer():\n    assert mod.answer == 42\n',
    };
    const run = await inRun(
      files,
      async (inside) => {
        // With the image's pip: that a venv gets one of its own is tried in images.test.ts.
        await sh(inside, 'python3 -m venv --system-site-packages --without-pip .venv');
        await sh(inside, '.venv/bin/python -m pip install -q --no-index --no-build-isolation ./pkg');
        expect(await sh(inside, '.venv/bin/python -m pytest -q tests')).toContain('1 passed');
        // Its links lead to the image's Python; a fork has them, and works.
        const [fork] = await runner.fork(await inside.snapshot({ scratch: true }));
        expect(await sh(fork ?? inside, '.venv/bin/python -m pytest -q tests')).toContain('1 passed');
        await fork?.close();
      },
      'python',
    );
    expect(changed(run)).toEqual([]);
    expect(run.candidate?.findings.filter(({ effect }) => effect === 'refused')).toEqual([]);
  });
});
