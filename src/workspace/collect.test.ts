import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  type PathLike,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { DirectoryFiles } from '../../test/fixtures/directory-files.ts';
import { encodePath } from '../bytes-path.ts';
import { digestOf } from '../digest.ts';
import type { Files, WalkItem } from '../sandbox/spec.ts';
import { BlobStore } from './blobs.ts';
import type { Node, Tree } from './change-set.ts';
import { collectChanges, type CollectOptions, type Collected } from './collect.ts';
import { applyChangeSet } from './diff.ts';
import type { Finding } from './findings.ts';
import type { Base } from './import.ts';
import { digestOfTree } from './manifest.ts';
import { Scope, type FileScope } from './scope.ts';
import { filledTrees } from './trees.fixture.ts';

let home: string;
let box: string;
let blobs: BlobStore;
let files: DirectoryFiles;

beforeEach(async () => {
  home = mkdtempSync(path.join(tmpdir(), 'glovebox-collect-'));
  box = path.join(home, 'box');
  mkdirSync(box);
  files = new DirectoryFiles(box);
  blobs = await BlobStore.open(path.join(home, 'blobs'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const scopeOf = (scope: Partial<FileScope>): Scope =>
  Scope.compile({ read: [], write: [], scratch: [], deny: [], ...scope });
const everything = scopeOf({ write: ['**'] });

const at = (name: string): PathLike => Buffer.concat([Buffer.from(`${box}/`), encodePath(name)]);

function put(contents: Record<string, string>): void {
  for (const [name, content] of Object.entries(contents)) {
    mkdirSync(path.dirname(path.join(box, name)), { recursive: true });
    writeFileSync(at(name), content);
  }
}

/** What is in the box now is what the sandbox started from. */
async function baseOfBox(kind: Base['kind'] = 'git'): Promise<Base> {
  const tree = new Map<string, Node>();
  for await (const item of files.walk(['.'], { digests: true })) {
    if (item.kind !== 'entry') continue;
    const { path: name, type, mode, target, sizeBytes } = item.entry;
    if (type === 'directory') tree.set(name, { kind: 'directory' });
    if (type === 'symlink') tree.set(name, { kind: 'symlink', target: target ?? '' });
    if (type !== 'file') continue;
    const digest = await blobs.put((await files.read(name)).bytes);
    tree.set(name, { kind: 'file', mode: (mode & 0o100) === 0 ? 0o644 : 0o755, digest, sizeBytes });
  }
  return { tree, digest: digestOfTree(tree), scopeDigest: digestOf(''), kind };
}

const collect = (base: Base, scope = everything, options: CollectOptions = {}): Promise<Collected> =>
  collectChanges({ files }, base, scope, blobs, options);
const changed = (collected: Collected): string[] => [...collected.changeSet.changes.keys()];
const found = (collected: Collected, kind: Finding['kind']): string[] =>
  collected.findings.filter((finding) => finding.kind === kind).map((finding) => finding.path);

function populate(tree: Tree, contents: readonly Buffer[]): void {
  const byDigest = new Map(contents.map((content) => [digestOf(content), content]));
  for (const [name, node] of tree) {
    if (node.kind === 'directory') mkdirSync(at(name));
    if (node.kind === 'symlink') symlinkSync(encodePath(node.target), at(name));
    if (node.kind !== 'file') continue;
    writeFileSync(at(name), byDigest.get(node.digest) ?? '');
    chmodSync(at(name), node.mode);
  }
}

describe('what is exported', () => {
  test('an untouched workspace gives the empty set and nothing to say', async () => {
    put({ 'a/b': 'x', c: 'y' });
    symlinkSync('a/b', at('link'));
    const collected = await collect(await baseOfBox());
    expect(collected).toMatchObject({ findings: [], violations: [], complete: true, scratch: { files: 0, bytes: 0 } });
    expect(changed(collected)).toEqual([]);
  });

  test('base and change set are the workspace, whatever was done to it', async () => {
    let round = 0;
    await fc.assert(
      fc.asyncProperty(filledTrees, filledTrees, async (before, after) => {
        box = path.join(home, `box${++round}`);
        mkdirSync(box);
        files = new DirectoryFiles(box);
        for (const content of before.contents) await blobs.put(content);
        populate(after.tree, after.contents);
        const base: Base = {
          tree: before.tree,
          digest: digestOfTree(before.tree),
          scopeDigest: digestOf(''),
          kind: 'plain',
        };
        const collected = await collect(base);
        const refused = collected.findings
          .filter((finding) => finding.effect === 'refused')
          .map((finding) => finding.path);
        const result = applyChangeSet(before.tree, collected.changeSet);
        const known = (name: string): boolean => refused.some((one) => name === one || name.startsWith(`${one}/`));
        for (const [name, node] of after.tree) if (!known(name)) expect([name, result.get(name)]).toEqual([name, node]);
        for (const name of result.keys()) if (!after.tree.has(name)) expect(refused.length).toBeGreaterThan(0);
        for (const change of collected.changeSet.changes.values()) {
          if (change.kind === 'file') expect(await blobs.has(change.digest)).toBe(true);
        }
      }),
      { numRuns: 60 },
    );
  });

  test('whatever the scope and whatever was done, an exported path is in the write scope', async () => {
    const globs = fc.constantFrom('**', 'a/**', 'b', '*', '**/*.txt', '*/b/**', '!a/b', '**/c', '?', '**/.*');
    const list = fc.array(globs, { maxLength: 3 }).filter((l) => l.length === 0 || l.some((g) => !g.startsWith('!')));
    let round = 0;
    await fc.assert(
      fc.asyncProperty(list, list, list, filledTrees, filledTrees, async (write, scratch, deny, before, after) => {
        box = path.join(home, `box${++round}`);
        mkdirSync(box);
        files = new DirectoryFiles(box);
        populate(after.tree, after.contents);
        const scope = scopeOf({ read: ['**'], write, scratch, deny });
        const base: Base = {
          tree: before.tree,
          digest: digestOfTree(before.tree),
          scopeDigest: scope.digest,
          kind: 'plain',
        };
        const { changeSet } = await collect(base, scope);
        for (const [name, change] of changeSet.changes) {
          const node = change.kind === 'deleted' ? before.tree.get(name) : change;
          expect([name, scope.classOf(name, node?.kind === 'directory' ? 'directory' : 'file')]).toEqual([
            name,
            'write',
          ]);
        }
        applyChangeSet(before.tree, changeSet);
      }),
      { numRuns: 60 },
    );
  });

  test('every exported path is in the write scope; the rest is named or counted', async () => {
    put({ 'src/a': '1', 'docs/x': '1', 'src/old': '1' });
    const base = await baseOfBox();
    put({
      'src/a': '2',
      'src/b/c': 'new',
      'docs/x': '2',
      'src/.env': 'SECRET',
      'src/node_modules/m/i.js': '12345',
      top: 'x',
    });
    rmSync(at('src/old'));
    const scope = scopeOf({ read: ['**'], write: ['src/**'], scratch: ['**/node_modules/**'], deny: ['**/.env'] });
    const collected = await collect(base, scope);
    expect(changed(collected)).toEqual(['src/a', 'src/b', 'src/b/c', 'src/old']);
    expect(collected.violations).toEqual([
      { path: 'docs/x', kind: 'modified', class: 'read' },
      { path: 'src/.env', kind: 'added', class: 'absent' },
      { path: 'top', kind: 'added', class: 'read' },
    ]);
    expect(collected.scratch).toEqual({ files: 1, bytes: 5 });
    expect(await blobs.has(digestOf('SECRET'))).toBe(false);
  });

  test("new files that the base ignores are counted, whatever the workspace's own ignore file says now", async () => {
    put({ '.gitignore': '*.log\n/out/\n!keep.log\n', 'tracked.log': '1', 'sub/.gitignore': '!very.log\n' });
    const base = await baseOfBox();
    put({
      '.gitignore': '',
      'tracked.log': '2',
      'new.log': 'x',
      'out/a/b': 'xyz',
      'keep.log': 'k',
      'sub/very.log': 'v',
    });
    const collected = await collect(base);
    expect(changed(collected)).toEqual(['.gitignore', 'keep.log', 'sub/very.log', 'tracked.log']);
    expect(collected.ignored).toEqual({ files: 2, bytes: 4 });
    expect(changed(await collect({ ...base, kind: 'plain' }))).toContain('new.log');
  });

  test('a file larger than one piece arrives whole', async () => {
    const base = await baseOfBox();
    const content = Buffer.alloc(20 * 1024 * 1024 + 1, 'x');
    writeFileSync(at('large'), content);
    const collected = await collect(base);
    expect(collected.changeSet.changes.get('large')).toMatchObject({
      digest: digestOf(content),
      sizeBytes: content.length,
    });
  });
});

describe('what is refused or noted', () => {
  test('links that leave the tree, also through another one; their target is never read', async () => {
    writeFileSync(path.join(home, 'flag'), 'FLAG');
    put({ 'd/file': 'x' });
    symlinkSync('d/../file', at('old'));
    const base = await baseOfBox();
    symlinkSync('../flag', at('up'));
    symlinkSync(path.join(home, 'flag'), at('absolute'));
    symlinkSync('up', at('chain'));
    symlinkSync('d/file', at('fine'));
    // `old` was harmless while `d` was a directory; now it points beside the workspace.
    rmSync(at('d'), { recursive: true });
    symlinkSync('.', at('d'));
    const collected = await collect(base);
    expect(changed(collected)).toEqual(['d/file', 'fine']);
    expect(found(collected, 'link_leaves_tree').sort()).toEqual(['absolute', 'chain', 'd', 'up']);
    expect(collected.findings.find((finding) => finding.path === 'up')?.detail).toBe('../flag');
    expect(await blobs.has(digestOf('FLAG'))).toBe(false);
  });

  test("git's own files, under any of their names, and what git takes for a repository", async () => {
    put({ a: 'x' });
    const base = await baseOfBox();
    put({
      '.git/hooks/pre-commit': 'evil',
      'sub/.git': 'gitdir: /elsewhere',
      'x/.GIT/config': 'evil',
      'git~1/config': 'evil',
      'bare/HEAD': 'ref: refs/heads/main',
      'bare/config': 'evil',
      'bare/objects/x': '',
      'bare/refs/x': '',
      'bare/README': 'ok',
    });
    symlinkSync('a', at('.gitmodules'));
    const collected = await collect(base);
    expect(changed(collected)).toEqual(['bare', 'bare/README', 'sub', 'x']);
    expect(found(collected, 'git_metadata')).toEqual(
      expect.arrayContaining([
        '.git',
        'sub/.git',
        'x/.GIT',
        'x/.GIT/config',
        'git~1/config',
        'bare/config',
        '.gitmodules',
      ]),
    );
    const ours = await collect(base, everything, { snapshotRepository: true });
    expect(found(ours, 'git_metadata')).not.toContain('.git');
  });

  test('a FIFO or socket in place of a file leaves the file as it was, and is never opened', async () => {
    put({ a: 'x' });
    const base = await baseOfBox();
    rmSync(at('a'));
    execFileSync('mkfifo', [path.join(box, 'a'), path.join(box, 'b')]);
    const collected = await collect(base);
    expect(changed(collected)).toEqual([]);
    expect(found(collected, 'special_file')).toEqual(['a', 'b']);
  });

  test('setuid, setgid, sticky and world-writable bits are dropped and told', async () => {
    put({ a: 'x', b: 'x' });
    const base = await baseOfBox();
    put({ c: 'x' });
    chmodSync(at('a'), 0o4755);
    chmodSync(at('b'), 0o666);
    chmodSync(at('c'), 0o1700);
    const collected = await collect(base);
    expect(
      [...collected.changeSet.changes].map(([name, change]) => [name, change.kind === 'file' && change.mode]),
    ).toEqual([
      ['a', 0o755],
      ['c', 0o755],
    ]);
    expect(found(collected, 'mode_normalised')).toEqual(['a', 'b', 'c']);
  });

  test('names that another file system takes for one', async () => {
    put({ 'README.md': 'x', 'dir/é': 'x' });
    const base = await baseOfBox();
    put({ 'readme.MD': 'evil', 'dir/e\u0301': 'evil', 'DIR/new': 'evil', 'fine.md': 'x' });
    const collected = await collect(base);
    expect(changed(collected)).toEqual(['fine.md']);
    expect(found(collected, 'name_collision').sort()).toEqual(['DIR', 'dir/e\u0301', 'readme.MD']);
  });

  test('renaming a file by case alone is no collision', async () => {
    put({ 'README.md': 'x' });
    const base = await baseOfBox();
    renameSync(at('README.md'), at('Readme.md'));
    expect(changed(await collect(base))).toEqual(['README.md', 'Readme.md']);
  });

  test('strange names are exported byte for byte and pointed out', async () => {
    const base = await baseOfBox();
    const odd = ['a\nb', '\uDCFF\uDCFE', '-rf', 'x ', '\u202Etxt'];
    for (const name of odd) writeFileSync(at(name), name);
    const collected = await collect(base);
    expect(changed(collected).sort()).toEqual([...odd].sort());
    expect(found(collected, 'odd_name').sort()).toEqual([...odd].sort());
  });

  test('hard links are files of their own', async () => {
    const base = await baseOfBox();
    put({ a: 'x' });
    linkSync(at('a'), at('b'));
    const collected = await collect(base);
    expect(changed(collected)).toEqual(['a', 'b']);
    expect(found(collected, 'hard_link')).toEqual(['a', 'b']);
  });

  test('a directory is not deleted or replaced over what may not change below it', async () => {
    put({ 'd/locked': 'x', 'd/mine.md': 'x' });
    const base = await baseOfBox();
    rmSync(at('d'), { recursive: true });
    put({ d: 'a file now' });
    const collected = await collect(base, scopeOf({ read: ['**'], write: ['d', 'd/*.md'] }));
    expect(changed(collected)).toEqual(['d/mine.md']);
    expect(collected.violations).toEqual([{ path: 'd/locked', kind: 'deleted', class: 'read' }]);
    expect(found(collected, 'no_parent')).toEqual(['d']);
  });
});

describe('a sandbox that lies', () => {
  /** The box, with what it says about itself replaced. */
  function lying(
    walk: (items: AsyncIterable<WalkItem>) => AsyncIterable<WalkItem>,
    more: Partial<Files> = {},
  ): { files: Files } {
    const liar: Files = Object.assign(new DirectoryFiles(box), more);
    liar.walk = (paths, options) => walk(files.walk(paths, options));
    return { files: liar };
  }
  const entryOf = (name: string, more: object = {}): WalkItem => ({
    kind: 'entry',
    entry: {
      path: name,
      type: 'file',
      mode: 0o644,
      uid: 0,
      gid: 0,
      nlink: 1,
      sizeBytes: 1,
      mtimeNs: 0n,
      inode: 1n,
      digest: digestOf('?'),
      ...more,
    },
  });

  test('the digest that counts is taken here', async () => {
    put({ a: 'old', b: 'same' });
    const base = await baseOfBox();
    put({ a: 'new' });
    const sandbox = lying(async function* (items) {
      for await (const item of items) {
        yield item.kind === 'entry' ? { ...item, entry: { ...item.entry, digest: digestOf('lie') } } : item;
      }
    });
    const collected = await collectChanges(sandbox, base, everything, blobs);
    expect(collected.changeSet.changes.get('a')).toMatchObject({ digest: digestOf('new') });
    expect(changed(collected)).toEqual(['a']);
    expect(found(collected, 'digest_mismatch')).toEqual(['a', 'b']);
  });

  test.each(['../x', '/etc/x', 'a//b', 'a/../b', '.', 'a/.', 'x\0y', '\uDCC3\uDCA9'])(
    'the name %j is refused',
    async (name) => {
      const base = await baseOfBox();
      const sandbox = lying(async function* (items) {
        yield entryOf(name);
        yield* items;
      });
      const collected = await collectChanges(sandbox, base, everything, blobs);
      expect(changed(collected)).toEqual([]);
      if (name !== '.') expect(found(collected, 'bad_name')).toEqual([name]);
    },
  );

  test('an endless listing ends at the limit, and nothing is taken for deleted', async () => {
    put({ a: 'x' });
    const base = await baseOfBox();
    let told = 0;
    const sandbox = lying(async function* () {
      for (;;) yield entryOf(`f${told++}`, { type: 'directory' });
    });
    const collected = await collectChanges(sandbox, base, everything, blobs, { limits: { filesMax: 500 } });
    expect(told).toBeLessThan(510);
    expect(collected.complete).toBe(false);
    expect(found(collected, 'limit_exceeded')).toEqual(['']);
    expect([...collected.changeSet.changes.values()].some((change) => change.kind === 'deleted')).toBe(false);
  });

  test.each([
    ['truncated', [{ kind: 'end', truncated: true }]],
    ['without an end', []],
  ] as const)('a listing that is %s deletes nothing', async (_, items) => {
    put({ a: 'x' });
    const base = await baseOfBox();
    const sandbox = lying(async function* () {
      yield* items;
    });
    const collected = await collectChanges(sandbox, base, everything, blobs);
    expect(collected.complete).toBe(false);
    expect(changed(collected)).toEqual([]);
  });

  test('the second of two entries with one name is refused', async () => {
    const base = await baseOfBox();
    put({ a: 'x' });
    const sandbox = lying(async function* (items) {
      yield* [entryOf('b', { type: 'directory' }), entryOf('b', { type: 'symlink', target: '/etc' })];
      yield* items;
    });
    const collected = await collectChanges(sandbox, base, everything, blobs);
    expect(changed(collected)).toEqual(['a', 'b']);
    expect(found(collected, 'bad_name')).toEqual(['b']);
  });

  test('a name or depth beyond the limit stops the listing', async () => {
    const base = await baseOfBox();
    for (const name of ['x'.repeat(5000), 'd/'.repeat(200) + 'x']) {
      const sandbox = lying(async function* (items) {
        yield entryOf(name);
        yield* items;
      });
      const collected = await collectChanges(sandbox, base, everything, blobs);
      expect(collected.complete).toBe(false);
    }
  });

  test('what cannot be read counts as unchanged, and is said', async () => {
    put({ 'closed/a': 'x', b: 'x' });
    const base = await baseOfBox();
    const sandbox = lying(async function* () {
      yield entryOf('./closed', { type: 'directory' });
      yield { kind: 'unreadable', path: './closed', code: 'permission_denied' };
      yield { kind: 'end', truncated: false };
    });
    const collected = await collectChanges(sandbox, base, everything, blobs);
    expect(changed(collected)).toEqual(['b']);
    expect(found(collected, 'unreadable')).toEqual(['closed']);
    expect(collected.complete).toBe(false);
  });

  test('a file without end is cut off at the limit', async () => {
    const base = await baseOfBox();
    put({ a: 'x' });
    let sent = 0;
    const sandbox = lying((items) => items, {
      read: async (name, options) => {
        const bytes = Buffer.alloc(options?.lengthBytes ?? 0);
        sent += bytes.length;
        return { entry: await files.stat(name), bytes };
      },
    });
    const limits = { fileBytesMax: 64 * 1024 * 1024 };
    const collected = await collectChanges(sandbox, base, everything, blobs, { limits });
    expect(changed(collected)).toEqual([]);
    expect(found(collected, 'limit_exceeded')).toEqual(['a']);
    expect(sent).toBeLessThanOrEqual(80 * 1024 * 1024);
  });

  test('a flood of one kind of finding does not hide the others', async () => {
    const base = await baseOfBox();
    put({ '.git': 'gitdir: /elsewhere' });
    const sandbox = lying(async function* (items) {
      for (let n = 0; n < 5000; n++) yield entryOf(`-${n}`, { type: 'directory' });
      yield* items;
    });
    const collected = await collectChanges(sandbox, base, everything, blobs);
    expect(found(collected, 'git_metadata')).toEqual(['.git']);
    expect(found(collected, 'odd_name').length).toBe(200);
    expect(collected.findingsLeftOut).toBe(4800);
  });
});
