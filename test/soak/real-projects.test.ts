import { mkdtemp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, expect, test } from 'vitest';
import { removeEnvironment } from '../../src/environment/build.ts';
import { listEnvironmentLocks } from '../../src/environment/lock.ts';
import { bugfixPolicy, changed, npmEnvironment, openBuilt, sh } from '../fixtures/real/project.ts';
import { fetchJinja } from '../fixtures/real/sources.ts';
import { openRunnerBench } from '../fixtures/runner-bench.ts';

const { bench, runner } = await openRunnerBench();

afterAll(async () => {
  const { path } = bench.dataDir;
  for (const lock of await listEnvironmentLocks(path)) await removeEnvironment(bench.engine, path, lock);
});

test('this very project: unit tests pass inside, and a change comes out as that change alone', async () => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const policy = bugfixPolicy('node', npmEnvironment, ['src/**', 'test/**']);
  const run = await openBuilt(runner, policy, root);
  const unit = 'npx vitest run --project unit src/policy src/workspace/scope src/bytes-path.test.ts';
  expect(await sh(run, unit)).toMatch(/Test Files .*\d+ passed/);
  expect(await sh(run, 'git status --porcelain | wc -l')).toMatch(/^0\n/);
  await sh(run, "echo '// more' >> src/digest.ts; npx tsc -p tsconfig.json");
  expect(await sh(run, 'git status --porcelain')).toMatch(/^ M src\/digest\.ts\n/);
  await run.close();
  expect(changed(run)).toEqual(['src/digest.ts']);
  expect(run.candidate?.findings).toEqual([]);
  const patch = await readFile(run.dir.patch, 'utf8');
  expect(patch.match(/^[+-](?![+-])/gm)).toHaveLength(1);
  const { stdout } = await execa('git', ['apply', '--check', '--verbose', run.dir.patch], { cwd: root, all: true });
  expect(stdout).toBe('');
});

test('make and a C compiler build, rebuild what changed alone, and run what they built', async () => {
  const workspace = await bench.workspace({
    Makefile: 'prog: main.o word.o\n\t$(CC) -o $@ $^\n%.o: %.c word.h\n\t$(CC) -c $<\nclean:\n\trm -f prog *.o\n',
    'word.h': 'const char *word(void);\n',
    'word.c': '#include "word.h"\nconst char *word(void) { return "first"; }\n',
    'main.c': '#include <stdio.h>\n#include "word.h"\nint main(void) { puts(word()); return 0; }\n',
  });
  const install = '[apt-get, install, --yes, --no-install-recommends, make, gcc, libc6-dev]';
  const environment = `{ image: base, setup: [[apt-get, update], ${install}] }`;
  const run = await openBuilt(runner, bugfixPolicy('base', environment, ['*.c', '*.o', 'prog']), workspace);
  expect(await sh(run, 'make -s && ./prog')).toMatch(/^first\n/);
  expect(await sh(run, 'sed -i s/first/second/ word.c && make && ./prog')).toMatch(
    /-c word\.c\n(?!.*main\.c).*second\n/s,
  );
  await sh(run, 'make -s clean');
  await run.close();
  expect(changed(run)).toEqual(['word.c']);
});

test('a Python project of others with Debian packages: its own test suite is green', async () => {
  const workspace = await mkdtemp(join(bench.folder, 'jinja-'));
  await fetchJinja(workspace);
  const install = '[apt-get, install, --yes, --no-install-recommends, python3-markupsafe, python3-pytest]';
  const environment = `{ image: python, setup: [[apt-get, update], ${install}] }`;
  const run = await openBuilt(runner, bugfixPolicy('python', environment, ['src/**', 'tests/**']), workspace);
  expect(await sh(run, 'PYTHONPATH=src python3 -m pytest -q -W ignore::pytest.PytestRemovedIn8Warning tests')).toMatch(
    /\d{3} passed/,
  );
  await sh(run, "sed -i 's/def do_upper/def do_upper_/' src/jinja2/filters.py; git diff --stat");
  await run.close();
  expect(changed(run)).toEqual(['src/jinja2/filters.py']);
});
