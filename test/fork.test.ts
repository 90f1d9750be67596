import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { checkJournal } from '../src/journal/check.ts';
import type { Entry } from '../src/journal/entry.ts';
import { readEntries } from '../src/journal/read.ts';
import { findRunSnapshot, type Run } from '../src/runner.ts';
import { smallPolicy, smallPolicyText } from './fixtures/bench.ts';
import { openRunnerBench } from './fixtures/runner-bench.ts';

const { bench, runner } = await openRunnerBench();

const files = {
  'README.md': 'read me\n',
  'src/a.txt': 'one\n',
  'src/gone.txt': 'x\n',
  'src/old/deep/b.txt': 'b\n',
  'src/was-file': 'f\n',
  'src/was-dir/c.txt': 'c\n',
};
/** Every kind of change there is. */
const edits = `set -e
echo two >> src/a.txt; rm src/gone.txt; mv src/old src/new; chmod +x src/a.txt
rm src/was-file; mkdir src/was-file; echo in > src/was-file/x
rm -r src/was-dir; echo now > src/was-dir
ln -s a.txt src/link; mkdir -p src/empty/er; head -c 3000000 /dev/urandom > src/big
mkdir -p build; echo o > build/o`;
/** Path, type, permissions and content of all that may change. */
const listing =
  'cd src; find . -printf "%p %y %m %U %l\\n" | sort; find . -type f | sort | xargs sha256sum | sha256sum';

async function open(workspace?: string, extra = ''): Promise<Run> {
  return runner.open({ policy: smallPolicy(extra), workspace: workspace ?? (await bench.workspace(files)) });
}

let calls = 0;
async function sh(run: Run, script: string): Promise<string> {
  const result = await run.call(`c${calls++}`, { tool: 'exec', script });
  if (!result.ok) throw new Error(result.text);
  return result.text;
}

async function only(forks: Promise<readonly Run[]>): Promise<Run> {
  const [fork] = await forks;
  if (fork === undefined) throw new Error('no fork');
  return fork;
}

async function entriesOf(run: Run): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of readEntries(run.dir.journal)) entries.push(entry);
  return entries;
}

test('a fork is the base and the change set, exactly, whatever became of the host directory meanwhile', async () => {
  const workspace = await bench.workspace(files);
  const run = await open(workspace);
  await sh(run, edits);
  await writeFile(join(workspace, 'src/a.txt'), 'of the host\n');
  await appendFile(join(workspace, 'README.md'), 'of the host\n');
  const snapshot = await run.snapshot();
  const fork = await only(runner.fork(snapshot));

  expect(await sh(fork, listing)).toBe(await sh(run, listing));
  expect(await sh(fork, 'cat README.md; ls build 2>&1 || true')).toMatch(/^read me\nls: cannot access 'build'/);
  expect(await sh(fork, 'echo x >> README.md || echo locked')).toMatch(/locked/);
  await sh(fork, 'echo y >> src/new/deep/b.txt && rm src/new/deep/b.txt src/empty/er -r && mv src/was-file src/again');
  await sh(fork, 'mv src/again src/was-file; mkdir src/empty/er; echo b > src/new/deep/b.txt');
  const again = await fork.snapshot();
  expect(again.digest).toBe(snapshot.digest);
  expect(again.base.digest).toBe(snapshot.base.digest);
  await Promise.all([run.close(), fork.close()]);
  expect([...(fork.candidate?.changeSet.changes ?? [])]).toEqual([...(run.candidate?.changeSet.changes ?? [])]);
});

test('forks do not see each other or their origin; each has its own budget and a journal that says where it starts', async () => {
  const run = await open(undefined, 'budget: { max_actions_per_run: 3 }\n');
  await sh(run, 'echo mine > src/a.txt');
  await sh(run, 'true');
  const forks = await runner.fork(run, { count: 3, intent: 'explore' });
  await Promise.all(
    forks.map((fork, at) => sh(fork, `grep -q mine src/a.txt && echo ${at} > src/a.txt && echo ${at} > src/${at}`)),
  );
  await sh(run, 'echo still > src/a.txt');
  for (const [at, fork] of forks.entries()) {
    expect(await sh(fork, 'cat src/a.txt; ls src | tr "\\n" " "')).toMatch(new RegExp(`^${at}\n${at} a.txt gone`));
    expect(fork.remaining().calls).toBe(1);
  }
  await Promise.all([run, ...forks].map((each) => each.close()));
  expect(new Set([run, ...forks].map((each) => each.id)).size).toBe(4);

  const taken = (await entriesOf(run)).find((entry) => entry.type === 'snapshot.taken');
  for (const fork of forks) {
    expect(await checkJournal(fork.dir.journal)).toMatchObject({ verdict: 'closed', findings: [], calls: 2 });
    const [opened, started, applied] = await entriesOf(fork);
    expect(opened?.data).toMatchObject({
      intent: 'explore',
      forkedFrom: { run: run.id, base: run.base.digest },
    });
    expect(started).toMatchObject({ type: 'sandbox.started', data: { workspace: { kind: 'plain', files: 6 } } });
    expect(applied).toMatchObject({
      type: 'snapshot.applied',
      data: { run: run.id, digest: taken?.data.digest, changes: 1 },
    });
  }
  expect(await bench.containers()).toEqual([]);
});

test('where a closed run ended can be forked from its directory, and only while that is what its journal says', async () => {
  const run = await open();
  await expect(findRunSnapshot(bench.dataDir, run.id)).rejects.toMatchObject({ code: 'run_not_open' });
  await sh(run, edits);
  const before = await sh(run, listing);
  await run.close();
  const fork = await only(runner.fork(await findRunSnapshot(bench.dataDir, run.id)));
  expect(await sh(fork, listing)).toBe(before);
  await fork.close();
  // A fork of a fork has the changes of both.
  const second = await only(runner.fork(await findRunSnapshot(bench.dataDir, fork.id)));
  expect(await sh(second, listing)).toBe(before);
  await second.close();

  for (const file of [run.dir.changeSet, run.dir.base]) {
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replace(/"sizeBytes":\d+/, '"sizeBytes":1'));
    await expect(findRunSnapshot(bench.dataDir, run.id)).rejects.toMatchObject({ code: 'journal_broken' });
    await writeFile(file, text);
  }
  await writeFile(run.dir.policy, (await readFile(run.dir.policy, 'utf8')).replace('32MiB', '31MiB'));
  await expect(findRunSnapshot(bench.dataDir, run.id)).rejects.toMatchObject({ code: 'journal_broken' });
});

test('the commit that a run began at is on record, and that of its forks is the same', async () => {
  const top = await bench.workspace({ 'services/api/src/a.txt': 'one\n' });
  const git = async (...args: string[]): Promise<string> =>
    (await execa('git', ['-c', 'user.name=t', '-c', 'user.email=t@e', ...args], { cwd: top })).stdout;
  await git('init', '-q');
  await git('add', '.');
  await git('commit', '-qm', 'base');
  const commit = await git('rev-parse', 'HEAD');
  const run = await open(join(top, 'services/api'));
  await writeFile(join(top, 'services/api/src/a.txt'), 'two\n');
  await git('commit', '-qam', 'later');
  const live = await only(runner.fork(run));
  await run.close();
  const closed = await only(runner.fork(await findRunSnapshot(bench.dataDir, run.id)));
  for (const each of [run, live, closed]) {
    const started = (await entriesOf(each)).find((entry) => entry.type === 'sandbox.started');
    expect(started?.data.workspace).toMatchObject({ commit, below: 'services/api' });
    await each.close();
  }
});

test('a run goes back to a snapshot, and forward again', async () => {
  const run = await open();
  const start = await run.snapshot();
  const before = await sh(run, listing);
  await sh(run, edits);
  const edited = await run.snapshot();
  const after = await sh(run, listing);
  await run.restore(start);
  // Directories that were made anew belong to the tools as the old ones did.
  expect(await sh(run, listing)).toBe(before);
  await run.restore(edited);
  expect(await sh(run, listing)).toBe(after);
  expect(await sh(run, 'cat build/o')).toMatch(/^o\n/);

  const stranger = await open(await bench.workspace({ 'src/z': '' }));
  await expect(stranger.restore(edited)).rejects.toMatchObject({ code: 'invalid_request' });
  await Promise.all([run.close(), stranger.close()]);
  expect((await entriesOf(run)).filter((entry) => entry.type === 'snapshot.applied')).toHaveLength(2);
});

test('what an agent leaves against going back is named; a fork of the snapshot is where the way back goes on', async () => {
  const run = await open();
  await sh(run, 'echo kept > src/a.txt');
  const before = await sh(run, listing);
  const snapshot = await run.snapshot();
  const traps = [
    ['mkfifo src/trap', 'rm src/trap', 'special_file'],
    ['mkdir src/trap; chmod 0 src/trap', 'rmdir src/trap', 'unreadable'],
    ['ln -s /etc/passwd src/trap', 'rm src/trap', 'link_leaves_tree'],
  ] as const;
  for (const [leave, remove, kind] of traps) {
    await sh(run, `${leave}; echo lost > src/a.txt`);
    await expect(run.restore(snapshot), kind).rejects.toMatchObject({
      code: 'export_refused',
      message: `restore: the workspace holds what cannot be put back: "src/trap" (${kind}); open a fork of the snapshot, or remove it and restore again`,
    });
    expect(await sh(run, 'cat src/a.txt'), kind).toMatch(/^lost\n/);
    if (kind === 'special_file') {
      const fork = await only(runner.fork(snapshot));
      expect(await sh(fork, listing)).toBe(before);
      await fork.close();
    }
    await sh(run, remove);
    await run.restore(snapshot);
    expect(await sh(run, listing), kind).toBe(before);
  }
  await run.close();
});

test('scratch comes along when it is asked for, and stays out of the diff of the fork', async () => {
  const run = await open();
  await sh(run, 'mkdir -p build/deps; echo lib > build/deps/lib; echo s > src/s');
  const plain = await only(runner.fork(run));
  expect(await sh(plain, 'ls build 2>/dev/null; cat src/s')).toMatch(/^s\n/);
  const whole = await only(runner.fork(await run.snapshot({ scratch: true })));
  expect(await sh(whole, 'cat build/deps/lib && echo more > build/deps/more')).toMatch(/^lib\n/);
  await Promise.all([run, plain, whole].map((each) => each.close()));
  expect([...(whole.candidate?.changeSet.changes.keys() ?? [])]).toEqual(['src/s']);
});

test('links out of the tree come along with scratch as links, are followed by nobody, and still come out of no diff', async () => {
  const run = await open();
  await sh(
    run,
    'mkdir -p build/bin build/real; ln -s /usr/bin/python3 build/bin/python; ln -s ../../../etc/passwd build/up',
  );
  await sh(run, 'echo kept > build/real/file; echo 1 > build/Name; echo 2 > build/name; ln -s /etc/passwd src/out');
  await expect(run.snapshot()).rejects.toMatchObject({ code: 'export_refused' });
  const snapshot = await run.snapshot({ scratch: true });
  const fork = await only(runner.fork(snapshot));
  const look =
    'build/bin/python -c "print(6 * 7)"; readlink build/up src/out; cat build/real/file build/Name build/name';
  const there = /^42\n\.\.\/\.\.\/\.\.\/etc\/passwd\n\/etc\/passwd\nkept\n1\n2\n/;
  expect(await sh(fork, look)).toMatch(there);
  // Links in the place of directories that a restore fills: the way back does not lead through them.
  await sh(run, 'mkdir /tmp/trap; rm -r build/real build/bin; ln -s /tmp/trap build/real; ln -s /tmp/trap build/bin');
  await run.restore(snapshot);
  expect(await sh(run, `${look}; ls /tmp/trap | wc -l`)).toMatch(new RegExp(`${there.source}0\n`));
  await Promise.all([run.close(), fork.close()]);
  for (const each of [run, fork]) {
    expect(each.candidate?.changeSet.changes.size).toBe(0);
    expect(each.candidate?.findings).toEqual([expect.objectContaining({ kind: 'link_leaves_tree', path: 'src/out' })]);
  }
});

test('a snapshot is all or nothing: not while a command runs, and not with what cannot be taken', async () => {
  const run = await open();
  await run.call('long', { tool: 'exec', script: 'sleep 60', yieldMs: 0 });
  await expect(run.snapshot()).rejects.toMatchObject({ code: 'invalid_request' });
  await expect(runner.fork(run)).rejects.toMatchObject({ code: 'invalid_request' });
  await run.call('kill', { tool: 'exec_kill', callId: 'long' });
  await sh(run, 'mkfifo src/pipe; ln -s /etc/passwd src/out');
  await expect(run.snapshot()).rejects.toMatchObject({
    code: 'export_refused',
    message: expect.stringMatching(/src\/pipe/),
  });
  await sh(run, 'rm src/pipe src/out');
  await expect(run.snapshot()).resolves.toMatchObject({ run: run.id });
  await expect(runner.fork(run, { count: 0 })).rejects.toMatchObject({ code: 'invalid_request' });
  await run.close();
});

test('run --fork-of goes on where a run ended', async () => {
  const policy = join(bench.folder, 'policy.yaml');
  await writeFile(policy, smallPolicyText());
  const workspace = await bench.workspace(files);
  const first = await bench.cliHere([
    'run',
    '--json',
    '-p',
    policy,
    '-w',
    workspace,
    '--',
    'sh',
    '-c',
    'echo two >> src/a.txt',
  ]);
  const { run } = JSON.parse(first.stdout) as { run: string };
  const forked = await bench.cliHere(['run', '--fork-of', run, '--', 'cat', 'src/a.txt']);
  expect(forked.stdout).toBe('one\ntwo');
  expect(forked.stderr).toMatch(/modified\s+src\/a\.txt/);
  const both = await bench.cliHere(['run', '--fork-of', run, '-p', policy, '--', 'true']);
  expect(both).toMatchObject({ exitCode: 125, stderr: expect.stringMatching(/--fork-of takes/) });
});
