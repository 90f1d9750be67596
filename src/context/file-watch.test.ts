import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { WatchedFiles, type WatchedOptions } from '../../test/fixtures/watched-files.ts';
import { DataDir, type RunDir } from '../data-dir/data-dir.ts';
import { blameFile, type BlamedAuthor } from './blame-report.ts';

const base = { 'a.txt': 'one\ntwo\n', 'b.txt': 'b\n' };

let root: string;
let dataDir: DataDir;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'glovebox-watch-'));
  dataDir = await DataDir.open(root);
});
afterEach(async () => {
  for (const { watch } of opened.splice(0)) await watch.close(); // twice is fine
  await rm(root, { recursive: true, force: true });
});

const opened: WatchedFiles[] = [];

function watched(options: WatchedOptions = {}): WatchedFiles {
  const run = new WatchedFiles(root, base, options);
  opened.push(run);
  return run;
}

async function told(dir: RunDir, path: string): Promise<readonly string[]> {
  const { told: found, authors } = await blameFile(dataDir, dir, { path });
  if (found.kind === 'whole') return [`${found.why} ${nameOf(authors[found.author])}`];
  return found.spans.flatMap(({ authors: by, lines }) =>
    lines.map((line) => `${by.map((place) => nameOf(authors[place])).join(' or ')}: ${line}`),
  );
}

function nameOf(author: BlamedAuthor | undefined): string {
  if (author?.kind === 'call') return `${author.call.callId}${author.late ? ' late' : ''}`;
  if (author?.kind === 'between') return `${author.from.callId}..${author.to.callId}/${author.calls}`;
  return author?.kind ?? 'nothing';
}

describe('what a file verb writes', () => {
  test('is its own, whatever commands wrote before it where it writes', async () => {
    const run = watched();
    await run.command('c1', ({ put }) => put('a.txt', 'one\ntwo\nthree\n'));
    await run.command('c2', ({ put }) => put('b.txt', 'other\n'));
    await run.tool('e1', { tool: 'edit', path: './a.txt', old: 'two', new: 'TWO' });
    await run.tool('w1', { tool: 'write', path: '/workspace/n.txt', content: { utf8: 'n\n' } });
    await run.settle();
    const dir = await run.leave(dataDir);
    expect(await told(dir, 'a.txt')).toEqual(['base: one', 'e1: TWO', 'c1..c2/2: three']);
    expect(await told(dir, 'n.txt')).toEqual(['w1: n']);
    expect(await told(dir, 'b.txt')).toEqual(['c1..c2/2: other']);
  });

  test('stays what it is under another name, and when it is put back', async () => {
    const run = watched();
    await run.tool('e1', { tool: 'edit', path: 'a.txt', old: 'two', new: 'TWO' });
    await run.tool('m1', { tool: 'move', from: 'a.txt', to: 'sub.txt' });
    await run.tool('w1', { tool: 'write', path: 'a.txt', content: { utf8: 'one\n' } });
    await run.tool('r1', { tool: 'remove', path: 'b.txt' });
    const dir = await run.leave(dataDir);
    expect(await told(dir, 'sub.txt')).toEqual(['base: one', 'e1: TWO']);
    expect(await told(dir, 'a.txt')).toEqual(['w1: one']);
    await expect(told(dir, 'b.txt')).rejects.toThrow('b.txt of run');
  });

  test('costs no look where no command has written since the last one', async () => {
    const run = watched();
    await run.command('c1', ({ put }) => put('a.txt', 'x\n'));
    await run.look();
    expect(run.watch.isWaiting).toBe(false);
    await run.tool('w1', { tool: 'write', path: 'a.txt', content: { utf8: 'y\n' } });
    expect(run.story.filter(({ type }) => type === 'files.seen')).toHaveLength(1);
    await run.watch.close(); // what it keeps is written beside
  });
});

describe('what a command writes', () => {
  test('is its own where somebody looked before the next one, and where the time says so', async () => {
    const run = watched();
    await run.command('c1', ({ put }) => put('a.txt', 'one\ntwo\nc1\n'));
    await run.look();
    await run.command('c2', ({ put }) => put('a.txt', 'one\ntwo\nc1\nc2\n'));
    await run.command('c3', ({ put }) => put('b.txt', 'c3\n'));
    await run.settle();
    const dir = await run.leave(dataDir);
    expect(await told(dir, 'a.txt')).toEqual(['base: one', 'base: two', 'c1: c1', 'c2: c2']);
    expect(await told(dir, 'b.txt')).toEqual(['c2..c3/2: c3']);
  });

  test('is that of a process that it left, or of nobody', async () => {
    const run = watched();
    let end: () => void = () => undefined;
    await run.command('c1', () => undefined, new Promise((resolve) => (end = resolve)));
    await run.tool('w1', { tool: 'write', path: 'n.txt', content: { utf8: 'n\n' } });
    run.hand().put('a.txt', 'late\n');
    await run.look();
    end();
    await Promise.resolve();
    await run.look();
    run.hand().put('b.txt', 'who?\n');
    await run.settle();
    const dir = await run.leave(dataDir);
    expect(await told(dir, 'a.txt')).toEqual(['c1 late: late']);
    expect(await told(dir, 'b.txt')).toEqual(['nobody: who?']);
  });

  test('goes on under another name, where it was copied or moved', async () => {
    const run = watched();
    await run.command('c1', ({ move, put }) => {
      move('a.txt', 'moved.txt');
      put('copy.txt', 'b\n');
    });
    await run.look();
    await run.command('c2', ({ put }) => put('moved.txt', 'one\ntwo\nc2\n'));
    await run.settle();
    const dir = await run.leave(dataDir);
    expect(await told(dir, 'moved.txt')).toEqual(['base: one', 'base: two', 'c2: c2']);
    expect(await told(dir, 'copy.txt')).toEqual(['base: b']);
    await expect(told(dir, 'a.txt')).rejects.toThrow(/is not there/);
  });

  test('through a link is that of the file verb that wrote through it', async () => {
    const run = watched();
    await run.tool('w1', { tool: 'write', path: 'link.txt', content: { utf8: 'one\ntwo\nw1\n' } });
    run.hand().put('a.txt', 'one\ntwo\nw1\n'); // where the link leads
    await run.settle();
    expect(await told(await run.leave(dataDir), 'a.txt')).toEqual(['base: one', 'base: two', 'w1: w1']);
  });

  test('is one of all calls since where there is too much to see, and still the right ones', async () => {
    const run = watched({ entriesMax: 1 });
    await run.command('c1', ({ put }) => ['a.txt', 'b.txt', 'c.txt'].forEach((path) => put(path, `${path}\n`)));
    await run.look();
    await run.command('c2', ({ put }) => put('d.txt', 'd\n'));
    await run.look();
    await run.settle();
    const dir = await run.leave(dataDir);
    expect(await told(dir, 'a.txt')).toEqual(['c1..c2/2: a.txt']);
    expect(await told(dir, 'd.txt')).toEqual(['c1..c2/2: d']);
  });

  test('of more files than a look or an entry takes is told in the next ones, and what is left is counted', async () => {
    const run = watched();
    await run.command('c1', ({ put }) => {
      for (let at = 0; at < 1_100; at++) put(`f${at}`, `${at}\n`);
    });
    await run.look();
    await run.look();
    await run.settle();
    const seen = run.story.flatMap((draft) => (draft.type === 'files.seen' ? [draft.data] : []));
    expect(seen.every(({ files, calls }) => files.length <= 256 && calls === 1)).toBe(true);
    const count = seen.reduce((sum, { files, moreFiles = 0 }) => sum + files.length + moreFiles, 0);
    expect(count).toBe(1_100);
    const dir = await run.leave(dataDir);
    expect(await told(dir, 'f7')).toEqual(['c1: 7']);
    expect(await told(dir, 'f1099')).toEqual(['c1: 1099']);
  });

  test('where nothing can be seen from outside is told by what file verbs and diffs find', async () => {
    const run = watched({ sight: 'base' });
    await run.command('c1', ({ put }) => put('a.txt', 'one\ntwo\nc1\n'));
    await run.tool('e1', { tool: 'edit', path: 'a.txt', old: 'two', new: 'TWO' });
    await run.settle();
    await run.command('c2', ({ put }) => put('b.txt', 'c2\n'));
    await run.tool('e2', { tool: 'edit', path: 'a.txt', old: 'one', new: 'ONE' });
    await run.settle();
    const dir = await run.leave(dataDir);
    expect(await told(dir, 'a.txt')).toEqual(['e2: ONE', 'e1: TWO', 'c1: c1']);
    expect(await told(dir, 'b.txt')).toEqual(['c2: c2']);
    // Of a file that was as in the base nothing is said.
    const paths = run.story
      .flatMap((draft) => (draft.type === 'files.seen' ? draft.data.files : []))
      .map(({ path }) => path);
    expect(paths.toSorted()).toEqual(['a.txt', 'b.txt']);
  });

  test('with a name that is no text, or a control, is told under that name', async () => {
    const run = watched();
    const odd = ['n\u001b[2J\n.txt', 'caf\udce9', '.\u202e.'];
    await run.command('c1', ({ put }) => odd.forEach((name) => put(name, `${odd.indexOf(name)}\n`)));
    await run.settle();
    const dir = await run.leave(dataDir);
    for (const [at, name] of odd.entries()) expect(await told(dir, name)).toEqual([`c1: ${at}`]);
  });
});

test('a failure of what looks is nobody else’s', async () => {
  const run = watched();
  run.files.walk = () => {
    throw new Error('the sandbox is gone');
  };
  await run.command('c1', ({ put }) => put('a.txt', 'x\n'));
  await run.look();
  await run.tool('w1', { tool: 'write', path: 'b.txt', content: { utf8: 'w1\n' } });
  await run.settle();
  const dir = await run.leave(dataDir);
  expect(await told(dir, 'b.txt')).toEqual(['w1: w1']);
  expect(await told(dir, 'a.txt')).toEqual(['c1: x']);
});
