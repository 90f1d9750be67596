import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { DirectoryFiles } from '../../../test/fixtures/directory-files.ts';
import { BlobStore } from '../blobs.ts';
import type { Node, Tree } from '../change-set.ts';
import { ancestorsOf, applyChangeSet, diffTrees, parentOf, sortedByBytes } from '../diff.ts';
import { makePatch, type Patch } from './patch.ts';
import { toUnpackItems } from '../snapshot.ts';
import { filledTrees } from '../../../test/fixtures/trees.ts';

let home: string;
let blobs: BlobStore;

beforeEach(async () => {
  home = mkdtempSync(path.join(tmpdir(), 'glovebox-patch-test-'));
  blobs = await BlobStore.open(path.join(home, 'blobs'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

/** A tree of plain files, in the store. `null` is an empty directory, `-> x` a link, `#!` makes a program. */
async function treeOf(contents: Record<string, string | Buffer | null>): Promise<Tree> {
  const tree = new Map<string, Node>();
  for (const [name, content] of Object.entries(contents)) {
    for (let parent = parentOf(name); parent !== ''; parent = parentOf(parent)) tree.set(parent, { kind: 'directory' });
    if (content === null) tree.set(name, { kind: 'directory' });
    else if (typeof content === 'string' && content.startsWith('-> ')) {
      tree.set(name, { kind: 'symlink', target: content.slice(3) });
    } else {
      const bytes = Buffer.from(content);
      const mode = bytes.toString().startsWith('#!') ? 0o755 : 0o644;
      tree.set(name, { kind: 'file', mode, digest: await blobs.put(bytes), sizeBytes: bytes.length });
    }
  }
  return sortedByBytes(tree);
}

const emptyTree: Tree = new Map();
const patchOf = (base: Tree, now: Tree): Promise<Patch> => makePatch(base, diffTrees(base, now), blobs);

/** Lays the tree out in a new directory as git would (it knows no empty directories), applies the patch there with plain `git apply`, and looks at what it became. */
async function applied(base: Tree, patch: Patch): Promise<Tree> {
  const directory = mkdtempSync(path.join(home, 'apply-'));
  const files = new DirectoryFiles(directory);
  await files.unpack('.', toUnpackItems(emptyTree, diffTrees(emptyTree, withoutEmpty(base)), blobs));
  if (patch.bytes.length > 0) {
    const result = spawnSync('git', ['apply', '--whitespace=nowarn', '-'], {
      cwd: directory,
      input: patch.bytes,
      env: {
        PATH: process.env['PATH'],
        GIT_CEILING_DIRECTORIES: home,
        GIT_CONFIG_GLOBAL: '/dev/null',
        GIT_CONFIG_NOSYSTEM: '1',
      },
    });
    if (result.status !== 0) throw new Error(`git apply: ${result.stderr.toString()}\n${patch.bytes.toString()}`);
  }
  return scan(files);
}

async function scan(files: DirectoryFiles): Promise<Tree> {
  const tree = new Map<string, Node>();
  for await (const item of files.walk(['.'], { digests: true })) {
    if (item.kind !== 'entry') continue;
    const { path: name, type, mode, target, sizeBytes, digest } = item.entry;
    if (type === 'directory') tree.set(name, { kind: 'directory' });
    if (type === 'symlink') tree.set(name, { kind: 'symlink', target: target ?? '' });
    if (type !== 'file' || digest === undefined) continue;
    tree.set(name, { kind: 'file', mode: (mode & 0o100) === 0 ? 0o644 : 0o755, digest, sizeBytes });
  }
  return tree;
}

function withoutEmpty(tree: Tree): Tree {
  const needed = new Set([...leaves(tree).keys()].flatMap((name) => ancestorsOf(name)));
  return new Map([...tree].filter(([name, node]) => node.kind !== 'directory' || needed.has(name)));
}

const leaves = (tree: Tree): Tree => new Map([...tree].filter(([, node]) => node.kind !== 'directory'));

/**
 * What `docs/limitations.md` names: git looks for a new file through the old link, and must not meet one there that the
 * patch does not remove.
 */
function stopsGit(before: Tree, after: Tree): boolean {
  return [...leaves(after).keys()].some((leaf) =>
    [...ancestorsOf(leaf), leaf].some((name) => {
      if (!ancestorsOf(name).some((above) => before.get(above)?.kind === 'symlink')) return false;
      const seen = lookUp(before, name);
      return seen === 'loop' || (seen === 'link' && name !== leaf);
    }),
  );
}

/** As lstat does: every link but the last one is followed. */
function lookUp(tree: Tree, name: string): 'link' | 'loop' | 'other' {
  let rest = name.split('/');
  const at: string[] = [];
  for (let links = 0; rest.length > 0;) {
    const [first = '', ...others] = rest;
    rest = others;
    if (first === '..') at.pop();
    if (first === '..' || first === '.' || first === '') continue;
    const node = tree.get([...at, first].join('/'));
    if (node?.kind !== 'symlink') at.push(first);
    else if (rest.length === 0) return 'link';
    else if (++links > 40) return 'loop';
    else if (node.target.startsWith('/')) return 'other';
    else rest = [...node.target.split('/'), ...rest];
  }
  return 'other';
}

describe('the patch of a change set', () => {
  test('applied to the base with git, gives the workspace, but for empty directories', async () => {
    await fc.assert(
      fc.asyncProperty(filledTrees, filledTrees, async (before, after) => {
        fc.pre(!stopsGit(before.tree, after.tree));
        for (const content of [...before.contents, ...after.contents]) await blobs.put(content);
        const patch = await patchOf(before.tree, after.tree);
        expect(leaves(await applied(before.tree, patch))).toEqual(leaves(after.tree));
      }),
      { numRuns: 100 },
    );
  }, 60_000);

  test.each<[string, Record<string, string | Buffer | null>, Record<string, string | Buffer | null>]>([
    ['a file becomes a directory', { a: 'x' }, { 'a/b': 'y' }],
    ['a directory becomes a file', { 'a/b': 'x' }, { a: 'y' }],
    ['a file becomes a link', { a: 'x', b: 'y' }, { a: '-> b', b: 'y' }],
    ['a link becomes a directory', { a: '-> b', b: 'y' }, { 'a/c': 'x', b: 'y' }],
    ['a directory becomes a link', { 'a/c': 'x', b: 'y' }, { a: '-> b', b: 'y' }],
    ['a link changes its target', { a: '-> b\n' }, { a: '-> c' }],
    ['a file moves below itself', { a: 'same\n'.repeat(20) }, { 'a/b': 'same\n'.repeat(20) }],
    [
      'two files swap names',
      { a: 'one\n'.repeat(20), b: 'two\n'.repeat(20) },
      { a: 'two\n'.repeat(20), b: 'one\n'.repeat(20) },
    ],
    ['an empty file appears', {}, { a: '' }],
    ['an empty file goes', { a: '' }, {}],
    ['only the mode changes', { a: 'x' }, { a: 'x', b: '#!' }],
    ['a newline at the end comes and goes', { a: 'x', b: 'x\n' }, { a: 'x\n', b: 'x' }],
    ['binary content changes', { a: Buffer.from([0, 1, 2]) }, { a: Buffer.from([0, 255, 2, 0]) }],
    ['carriage returns', { a: 'x\r\ny\r\n' }, { a: 'x\r\nz\n' }],
    ['everything goes', { 'a/b/c': 'x', d: 'y' }, {}],
  ])('%s', async (_, before, after) => {
    const [base, now] = [await treeOf(before), await treeOf(after)];
    expect(leaves(await applied(base, await patchOf(base, now)))).toEqual(leaves(now));
  });

  test.each([
    ['leads through itself', { b: '-> b/c' }, { 'b/a': 'x' }, /Too many levels of symbolic links/],
    ['shows a link there', { a: '-> .' }, { 'a/a/x': 'x' }, /beyond a symbolic link/],
  ] as const)('cannot say that a link became a directory if it %s: git apply stops', async (_, before, after, why) => {
    const [base, now] = [await treeOf(before), await treeOf(after)];
    expect(stopsGit(base, now)).toBe(true);
    const patch = await patchOf(base, now);
    await expect(applied(base, patch)).rejects.toThrow(why);
  });

  test('is the same bytes each time, and nothing for nothing', async () => {
    const [base, now] = [await treeOf({ a: 'x', 'b/c': 'y' }), await treeOf({ a: 'z', 'b/d': 'y' })];
    const first = await patchOf(base, now);
    const changes = new Map([...diffTrees(base, now).changes].reverse());
    expect((await makePatch(base, { changes }, blobs)).bytes).toEqual(first.bytes);
    expect(await patchOf(base, base)).toEqual({ bytes: Buffer.alloc(0), files: [] });
  });

  test('renames are renames, and every file has its lines counted', async () => {
    const long = Array.from({ length: 40 }, (_, n) => `line ${n}`).join('\n');
    const odd = 'new\n"name"\uDCFF';
    const base = await treeOf({ 'old name': long, gone: 'a\nb\n', image: Buffer.from([0, 1]) });
    const now = await treeOf({ [odd]: `${long}\nmore`, image: Buffer.from([0, 2]), link: '-> x' });
    const patch = await patchOf(base, now);
    expect(patch.bytes.toString()).toContain('rename from old name\nrename to "new\\n\\"name\\"\\377"\n');
    expect([...patch.files].sort((a, b) => (a.path < b.path ? -1 : 1))).toEqual([
      { path: 'gone', added: 0, removed: 2 },
      { path: 'image', added: undefined, removed: undefined },
      { path: 'link', added: 1, removed: 0 },
      { path: odd, from: 'old name', added: 2, removed: 1 },
    ]);
  });

  test('attributes and settings of the tree have no say', async () => {
    const attributes = '* -diff -text filter=evil diff=evil merge=evil\n*.txt binary\n';
    const base = await treeOf({ 'a.txt': 'one\n', '.gitattributes': '' });
    const now = await treeOf({ 'a.txt': 'two\n', '.gitattributes': attributes });
    const patch = await patchOf(base, now);
    expect(patch.bytes.toString()).toContain('-one\n+two\n');
    const hostile = { GIT_EXTERNAL_DIFF: '/bin/false', GIT_DIFF_OPTS: '--unified=0', GIT_CONFIG_COUNT: '1' };
    const saved = { ...process.env };
    try {
      Object.assign(process.env, hostile, { GIT_CONFIG_KEY_0: 'diff.noprefix', GIT_CONFIG_VALUE_0: 'true' });
      expect((await patchOf(base, now)).bytes).toEqual(patch.bytes);
    } finally {
      for (const key of [...Object.keys(hostile), 'GIT_CONFIG_KEY_0', 'GIT_CONFIG_VALUE_0']) {
        if (saved[key] === undefined) delete process.env[key];
      }
    }
  });

  test('content that git could take for commands stays content', async () => {
    const commands = 'done\ncommit refs/heads/x\nM 120000 inline /etc/passwd\ndata 4\nevil\n';
    const [base, now] = [await treeOf({}), await treeOf({ a: commands, [`x\ndone\n`]: commands })];
    expect(leaves(await applied(base, await patchOf(base, now)))).toEqual(leaves(now));
  });

  test('a size that is not that of the content is refused', async () => {
    const digest = await blobs.put(Buffer.from('four'));
    for (const sizeBytes of [3, 5]) {
      const now: Tree = new Map([['a', { kind: 'file', mode: 0o644, digest, sizeBytes }]]);
      await expect(patchOf(emptyTree, now)).rejects.toMatchObject({ code: 'internal' });
    }
  });

  test('nothing of it is left in the temporary directory', async () => {
    const before = process.env['TMPDIR'];
    process.env['TMPDIR'] = path.join(home, 'tmp');
    mkdirSync(path.join(home, 'tmp'));
    try {
      await patchOf(emptyTree, await treeOf({ a: 'x' }));
      expect(execFileSync('ls', ['-A', path.join(home, 'tmp')]).toString()).toBe('');
    } finally {
      if (before === undefined) delete process.env['TMPDIR'];
      else process.env['TMPDIR'] = before;
    }
  });
});

test('a change set laid over its base is the workspace, empty directories and all', async () => {
  await fc.assert(
    fc.asyncProperty(filledTrees, filledTrees, async (before, after) => {
      for (const content of [...before.contents, ...after.contents]) await blobs.put(content);
      const files = new DirectoryFiles(mkdtempSync(path.join(home, 'fork-')));
      await files.unpack('.', toUnpackItems(emptyTree, diffTrees(emptyTree, before.tree), blobs));
      const changeSet = diffTrees(before.tree, after.tree);
      await files.unpack('.', toUnpackItems(before.tree, changeSet, blobs));
      expect(await scan(files)).toEqual(applyChangeSet(before.tree, changeSet));
    }),
    { numRuns: 50 },
  );
});
