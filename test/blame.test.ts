import { expect, test } from 'vitest';
import { blameFile, type BlamedAuthor } from '../src/context/blame-report.ts';
import type { RunDir } from '../src/data-dir/data-dir.ts';
import type { Run } from '../src/runner.ts';
import { beliefs, edits, expectBelief } from './fixtures/beliefs.ts';
import { smallPolicy } from './fixtures/bench.ts';
import { randomFrom } from './fixtures/random.ts';
import { openRunnerBench } from './fixtures/runner-bench.ts';

const { bench, runner } = await openRunnerBench();

const files = { 'src/a.txt': 'one\ntwo\nthree\n', 'src/b.txt': 'b\n' };

async function open(extra = ''): Promise<Run> {
  return runner.open({ policy: smallPolicy(extra), workspace: await bench.workspace(files) });
}

async function sh(run: Run, callId: string, script: string): Promise<void> {
  const result = await run.call(callId, { tool: 'exec', script });
  if (!result.ok) throw new Error(result.text);
}

async function told(dir: RunDir, path: string): Promise<readonly string[]> {
  const { told: found, authors } = await blameFile(bench.dataDir, dir, { path });
  if (found.kind === 'whole') return [`${found.why} ${nameOf(authors[found.author])}`];
  return found.spans.flatMap(({ authors: by, lines }) =>
    lines.map((line) => `${by.map((place) => nameOf(authors[place])).join(' or ')}: ${line}`),
  );
}

function nameOf(author: BlamedAuthor | undefined): string {
  if (author?.kind === 'call') return `${author.call.callId}${author.late ? ' late' : ''}`;
  if (author?.kind === 'between') return `${author.from.callId}..${author.to.callId}`;
  return author?.kind ?? 'nothing';
}

test('a line is blamed on the call that wrote it, a command as well as a file verb, open or closed', async () => {
  const run = await open('context: { attribution: exact }\n');
  await run.call('e1', { tool: 'edit', path: 'src/a.txt', old: 'two\n', new: 'TWO\n' });
  await sh(run, 'x1', 'echo four >> src/a.txt; echo new > src/new.txt; mv src/b.txt src/c.txt; ln -s a.txt src/link');
  await run.call('w1', { tool: 'write', path: 'src/new.txt', content: { utf8: 'new\nmore\n' } });
  await sh(run, 'x2', 'echo five >> src/a.txt; echo c >> src/c.txt; mkdir src/d; head -c 300000 /dev/zero > src/d/z');
  await sh(run, 'x3', 'sed -i 1d src/a.txt; mv src/d src/e');
  await run.diff();
  const lines = ['e1: TWO', 'base: three', 'x1: four', 'x2: five'];
  expect(await told(run.dir, 'src/a.txt')).toEqual(lines);
  await run.close();
  expect(await told(run.dir, 'src/a.txt')).toEqual(lines);
  expect(await told(run.dir, 'src/new.txt')).toEqual(['x1: new', 'w1: more']);
  expect(await told(run.dir, 'src/c.txt')).toEqual(['base: b', 'x2: c']);
  expect(await told(run.dir, 'src/e/z')).toEqual(['binary x2']);
  await expect(told(run.dir, 'src/b.txt')).rejects.toThrow('is not there');
  await expect(told(run.dir, 'src/e')).rejects.toThrow('is a directory');
  await expect(told(run.dir, '../etc/passwd')).rejects.toThrow('is no path of a file in the workspace');
});

test('while the agent thinks it is looked at what its command has written; of a script it is said what is known', async () => {
  const run = await open();
  await sh(run, 'x1', 'echo x1 >> src/a.txt');
  await expect.poll(() => told(run.dir, 'src/a.txt')).toEqual(['base: one', 'base: two', 'base: three', 'x1: x1']);
  await sh(run, 'x2', 'echo x2 >> src/a.txt');
  await sh(run, 'x3', 'echo x3 >> src/a.txt');
  await sh(run, 'x4', '(sleep 0.5; echo left >> src/b.txt) > /dev/null 2>&1 &');
  await run.close();
  const between = (await told(run.dir, 'src/a.txt')).slice(4);
  expect(between).toEqual([
    expect.stringMatching(/^x2(\.\.x4)?: x2$|^x2\.\.x3: x2$/),
    expect.stringMatching(/^x[23].*: x3$/),
  ]);
});

test('a fork blames the calls of the run that it was forked from, and its own', async () => {
  const run = await open();
  await sh(run, 'x1', 'echo x1 >> src/a.txt; mv src/b.txt src/moved.txt');
  await run.call('w1', { tool: 'write', path: 'src/w.txt', content: { utf8: 'w1\n' } });
  const [fork] = await runner.fork(run);
  if (fork === undefined) throw new Error('no fork');
  await sh(run, 'after', 'echo after >> src/a.txt');
  await fork.call('w1', { tool: 'edit', path: 'src/a.txt', old: 'one', new: 'ONE' });
  await sh(fork, 'f1', 'echo f1 >> src/w.txt; echo f1 >> src/moved.txt');
  await Promise.all([run.close(), fork.close()]);
  const { authors } = await blameFile(bench.dataDir, fork.dir, { path: 'src/a.txt', line: 4 });
  expect(authors).toMatchObject([{ kind: 'call', call: { run: run.id, callId: 'x1', tool: 'exec' } }]);
  expect(await told(fork.dir, 'src/a.txt')).toEqual(['w1: ONE', 'base: two', 'base: three', 'x1: x1']);
  const { stdout } = await bench.cliHere(['blame', fork.id, 'src/a.txt:4']);
  expect(stdout).toMatch(
    new RegExp(`^src/a.txt:4 │ x1\n  call       x1 of run ${run.id}, 20.*\n  did        exec \\{.*x1 >> src/a.txt`),
  );
  const whole = (await bench.cliHere(['blame', fork.id, 'src/a.txt'])).stdout;
  expect(whole.split('\n').map((row) => row.replace(/ +/g, ' '))).toEqual([
    expect.stringMatching(/^w1 edit( \S+)? 1 │ ONE$/),
    'base 2 │ two',
    'base 3 │ three',
    expect.stringMatching(/^x1 exec( \S+)? 4 │ x1$/),
  ]);
  const none = await bench.cliHere(['blame', fork.id, 'src/none.txt:3']);
  expect(none).toMatchObject({ exitCode: 125, stderr: /src\/none.txt of run .* is not there/ });
  expect(await told(fork.dir, 'src/w.txt')).toEqual(['w1: w1', 'f1: f1']);
  expect(await told(fork.dir, 'src/moved.txt')).toEqual(['base: b', 'f1: f1']);
});

test('of 200 edits by three models with two compactions each line has its call, its model and its belief', async () => {
  const run = await open('budget: { max_actions_per_run: 300 }\ncontext: { attribution: exact }\n');
  const lines = ['one', 'two', 'three'].map((text) => ({ text, by: 'base' }));
  const random = randomFrom(7);
  for (let at = 0; at < edits; at++) {
    const belief = beliefs.find(({ from }) => from === at);
    if (belief !== undefined) {
      const { from: version, ...said } = belief;
      await run.attachContext({ version, ...said });
    }
    const place = Math.floor(random() * lines.length);
    const before = lines[place]?.text ?? '';
    const line = { text: `line ${at}`, by: `call-${at}` };
    const isReplaced = random() < 0.6;
    lines.splice(isReplaced ? place : place + 1, isReplaced ? 1 : 0, line);
    if (random() < 0.5) await sh(run, line.by, `sed -i '${place + 1}${isReplaced ? 'c' : 'a'} ${line.text}' src/a.txt`);
    else {
      const now = isReplaced ? `${line.text}\n` : `${before}\n${line.text}\n`;
      const edit = { tool: 'edit', path: 'src/a.txt', old: `${before}\n`, new: now } as const;
      expect(await run.call(line.by, edit)).toMatchObject({ ok: true });
    }
  }
  await run.close();
  const found = await told(run.dir, 'src/a.txt');
  expect(found.map((line) => line.replace(/^.*: /, ''))).toEqual(lines.map(({ text }) => text));
  // A kernel's clock goes on in steps of milliseconds: of two calls within one it may be said that it was one of them.
  const exact = found.filter((line, at) => line.startsWith(`${lines[at]?.by ?? ''}: `));
  const either = found.filter((line) => !exact.includes(line));
  for (const line of either) expect(line).toMatch(/^call-(\d+)\.\.(call-\d+): line \d+$/);
  for (const line of either) {
    const [from = 0, to = 0, at = 0] = [...line.matchAll(/\d+/g)].map(Number);
    expect([from <= at, at <= to, to - from]).toEqual([true, true, 1]);
  }
  console.log(`${exact.length} of ${found.length} lines have their one call, ${either.length} one of two`);
  expect(either.length).toBeLessThanOrEqual(found.length / 20);
  const { authors } = await blameFile(bench.dataDir, run.dir, { path: 'src/a.txt' });
  const calls = authors.flatMap((author) => (author.kind === 'call' ? [author.call] : []));
  expect(calls.length).toBeGreaterThan(60);
  for (const call of calls) expectBelief(call);
});
