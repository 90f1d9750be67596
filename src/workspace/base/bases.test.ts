import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { newId } from '../../ids.ts';
import { BaseStore } from './bases.ts';
import { BlobStore } from '../blobs.ts';
import type { ImportProgress } from './import.ts';
import { encodeTree } from '../manifest.ts';
import { Scope } from '../scope/scope.ts';
import { selectFiles, type SelectedFile } from './select.ts';
import type { StoredBase } from './stored-base.ts';
import { writeBase } from './base-writer.ts';

const root = process.getuid?.() === 0;

/** All that is below, with owner, mode and content. */
function listing(directory: string): unknown {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => {
      const at = path.join(directory, name);
      const { uid, gid, mode } = lstatSync(at);
      const kind = mode & 0o170000;
      const content = kind === 0o100000 ? readFileSync(at, 'utf8') : kind === 0o120000 ? readlinkSync(at) : '';
      return [name, uid, gid, mode.toString(8), content];
    });
}
const scope = Scope.compile({ read: ['**'], write: ['src/**'], scratch: [], deny: [] });

describe.runIf(root)('the store of bases', () => {
  let home: string;
  let host: string;
  let blobs: BlobStore;
  let store: BaseStore;

  beforeEach(async () => {
    home = mkdtempSync(path.join(tmpdir(), 'glovebox-bases-'));
    host = path.join(home, 'host');
    mkdirSync(path.join(host, 'src'), { recursive: true });
    for (const [name, text] of Object.entries({ 'README.md': 'hi\n', 'src/a': 'a\n', 'src/b': 'b\n' }))
      write(name, text);
    blobs = await BlobStore.open(path.join(home, 'blobs'));
    store = await BaseStore.open(path.join(home, 'bases'));
  });
  afterEach(() => rmSync(home, { recursive: true, force: true }));

  /** Old enough to be settled; `ctime` is what it is, so the past is long ago only for the times that can be set. */
  function write(name: string, text: string): void {
    writeFileSync(path.join(host, name), text);
    utimesSync(path.join(host, name), 1e9, 1e9);
  }

  const hold = async (run = newId(), of = scope) => store.hold(run, await selectFiles(host, of), of, blobs);

  test('writes files as they are owned in a sandbox, and the tree beside them', async () => {
    const { base, known } = await hold();
    expect(known).toBe(false);
    const ownersOf = (name: string) => {
      const { uid, mode } = lstatSync(path.join(base.directory, name));
      return [uid, (mode & 0o7777).toString(8)];
    };
    expect(ownersOf('README.md')).toEqual([0, '644']);
    expect(ownersOf('src/a')).toEqual([10_001, '644']);
    expect(ownersOf('src')).toEqual([10_001, '755']);
    expect(readFileSync(base.manifest, 'utf8')).toBe(encodeTree(base.tree));
    expect(base.meta).toMatchObject({ files: 3, directories: 1, symlinks: 0, bytes: 7 });
  });

  test('gives equal trees under one scope one base, wherever they come from', async () => {
    const first = await hold();
    const other = path.join(home, 'other');
    mkdirSync(path.join(other, 'src'), { recursive: true });
    for (const name of ['README.md', 'src/a', 'src/b'])
      writeFileSync(path.join(other, name), readFileSync(path.join(host, name)));
    const second = await store.hold(newId(), await selectFiles(other, scope), scope, blobs);
    expect(second.base.key).toBe(first.base.key);
    expect(second.known).toBe(true);
    const narrower = Scope.compile({ read: ['**'], write: [], scratch: [], deny: [] });
    expect((await hold(newId(), narrower)).base.key).not.toBe(first.base.key);
  });

  test('says how far an import is, from the first files to all of them', async () => {
    const told: ImportProgress[] = [];
    const onProgress = (progress: ImportProgress) => void told.push(progress);
    await store.hold(newId(), await selectFiles(host, scope), scope, blobs, { onProgress });
    expect(told.length).toBeGreaterThan(1);
    expect(told.at(-1)).toEqual({ files: 3, filesTotal: 3, bytes: 7 });
  });

  test('writes nothing of another directory that it has already, and believes no size, time or commit for it', async () => {
    const git = (cwd: string, ...args: string[]) =>
      execFileSync('git', ['-c', 'user.name=x', '-c', 'user.email=x@invalid', ...args], { cwd });
    git(host, 'init', '-q');
    git(host, 'add', '.');
    git(host, 'commit', '-qm', 'all');
    const first = await hold();
    const clone = path.join(home, 'clone');
    git(home, 'clone', '-q', host, clone);
    const holdClone = async () => store.hold(newId(), await selectFiles(clone, scope), scope, blobs);
    expect(await holdClone()).toMatchObject({ known: true, base: { key: first.base.key } });

    writeFileSync(path.join(clone, 'src/b'), 'B\n'); // dirty, of the same size, and git is told not to look
    git(clone, 'update-index', '--assume-unchanged', 'src/b');
    writeFileSync(path.join(clone, 'src/new'), '');
    rmSync(path.join(home, 'bases/sources'), { recursive: true });
    const { base, known } = await holdClone();
    expect(known).toBe(false);
    const text = (name: string) => readFileSync(path.join(base.directory, name), 'utf8');
    expect([text('src/a'), text('src/b'), text('src/new')]).toEqual(['a\n', 'B\n', '']);
    const inode = (directory: string, name: string) => lstatSync(path.join(directory, name)).ino;
    expect(inode(base.directory, 'src/a')).toBe(inode(first.base.directory, 'src/a'));
    expect(inode(base.directory, 'src/b')).not.toBe(inode(first.base.directory, 'src/b'));
  });

  test('keeps a git work tree and a plain directory of the same files apart: ignore files count in one of them', async () => {
    const plain = await hold();
    execFileSync('git', ['init', '-q'], { cwd: host });
    const work = await hold();
    expect([plain.base.kind, work.base.kind]).toEqual(['plain', 'git']);
    expect(work.base.digest).toBe(plain.base.digest);
    expect((await store.find(plain.base.key))?.kind).toBe('plain');
  });

  test('sees a change that keeps size and time', async () => {
    const first = await hold();
    write('src/a', 'A\n');
    const second = await hold();
    expect(second.base.key).not.toBe(first.base.key);
    expect(readFileSync(path.join(second.base.directory, 'src/a'), 'utf8')).toBe('A\n');
    expect(readFileSync(path.join(first.base.directory, 'src/a'), 'utf8')).toBe('a\n');
  });

  test('knows an unchanged directory again, and shares unchanged files with a changed one, once they are settled', async () => {
    await new Promise((resolve) => setTimeout(resolve, 2100)); // the clock that cannot be set
    const first = await hold();
    expect((await hold()).known).toBe(true);
    write('src/b', 'new\n');
    const second = await hold();
    expect(second.known).toBe(false);
    const file = ({ files }: StoredBase, name: string) => lstatSync(path.join(files.directoryOf(name), name));
    expect(file(second.base, 'src/a').ino).toBe(file(first.base, 'src/a').ino);
    expect(file(second.base, 'src/b').ino).not.toBe(file(first.base, 'src/b').ino);
    chmodSync(path.join(host, 'src/a'), 0o755);
    const third = await hold();
    expect(file(third.base, 'src/a').mode & 0o777).toBe(0o755);
    expect(file(first.base, 'src/a').mode & 0o777).toBe(0o644);
  });

  test('of which more has changed begins as a copy of the last one, and is what it is without it', async () => {
    for (let n = 0; n < 40; n++) write(`src/${n}`, `${n}\n`);
    for (const name of [
      'src/sub/x',
      'src/gone/y',
      'locked/a',
      'src/file-then-directory',
      'src/directory-then-file/z',
    ]) {
      mkdirSync(path.dirname(path.join(host, name)), { recursive: true });
      write(name, name);
    }
    symlinkSync('a', path.join(host, 'src/link'));
    await new Promise((resolve) => setTimeout(resolve, 2100)); // the clock that cannot be set
    const first = await hold('before');
    const before = listing(first.base.directory);

    write('src/3', 'other\n');
    chmodSync(path.join(host, 'src/4'), 0o755);
    for (const name of ['src/gone', 'src/directory-then-file', 'src/file-then-directory', 'src/link'])
      rmSync(path.join(host, name), { recursive: true });
    for (const name of ['src/file-then-directory', 'src/sub/below']) mkdirSync(path.join(host, name));
    for (const name of ['src/directory-then-file', 'src/file-then-directory/z', 'src/sub/below/new', '-odd\n'])
      write(name, name);
    symlinkSync('b', path.join(host, 'src/link'));
    const second = await hold('after');
    const fresh = await BaseStore.open(path.join(home, 'fresh'));
    const plain = await fresh.hold('run', await selectFiles(host, scope), scope, blobs);
    expect(second.base.key).toBe(plain.base.key);
    expect(listing(second.base.directory)).toEqual(listing(plain.base.directory));
    expect(listing(first.base.directory)).toEqual(before);
    const inode = (base: { directory: string }, name: string) => lstatSync(path.join(base.directory, name)).ino;
    expect(inode(second.base, 'src/5')).toBe(inode(first.base, 'src/5'));
    expect(inode(second.base, 'src/4')).not.toBe(inode(first.base, 'src/4'));
    const writtenMs = (base: { directory: string }) => lstatSync(path.join(base.directory, 'locked')).mtimeMs;
    expect(writtenMs(second.base), 'it was copied').toBe(writtenMs(first.base));
    expect((await store.list()).map(({ key, holders }) => [key, holders])).toEqual([
      [first.base.key, ['before']],
      [second.base.key, ['after']],
    ]);
  });

  test('is written whole where the last one cannot be copied', async () => {
    const selection = await selectFiles(host, scope);
    const { base } = await hold();
    const whole = { directory: path.join(home, 'nowhere'), tree: base.tree };
    const find = (file: SelectedFile) => {
      const node = base.tree.get(file.path);
      return node?.kind === 'file' ? { directory: base.directory, node, identity: 'known' } : undefined;
    };
    const into = path.join(home, 'into');
    const { tree } = await writeBase(selection, scope, into, { find, whole }, {});
    expect(encodeTree(tree)).toBe(encodeTree(base.tree));
    expect(listing(into)).toEqual(listing(base.directory));
  });

  test('removes what nobody holds, the longest unused first', async () => {
    const run = newId();
    const first = await hold(run);
    write('src/a', 'second\n');
    const second = await hold(newId());
    expect(await store.collect({ count: 0 })).toEqual([]);
    expect(await store.remove(first.base.key)).toBe(false);
    await store.release(first.base.key, run);
    expect(await store.collect({ count: 1 })).toEqual([first.base.key]);
    expect((await store.list()).map(({ key }) => key)).toEqual([second.base.key]);
    expect(await store.holdByKey(newId(), first.base.key)).toBeUndefined();
  });

  test('never removes what a run has got hold of, however close the two come', async () => {
    const { base } = await hold('first');
    await store.release(base.key, 'first');
    const removing = store.remove(base.key);
    // Whoever it is that removes has seen that nobody holds it, and cannot act on it before this lets go.
    for (const endMs = Date.now() + 30; Date.now() < endMs;);
    writeFileSync(path.join(path.dirname(base.directory), 'holders/run'), '{}');
    expect(await removing).toBe(false);
    expect(readFileSync(path.join(base.directory, 'src/a'), 'utf8')).toBe('a\n');
    expect(await store.list()).toMatchObject([{ key: base.key, holders: ['run'] }]);
  });

  test('gives up a hold that cannot be read, as one of a machine that went down', async () => {
    const { base } = await hold('run');
    writeFileSync(path.join(path.dirname(base.directory), 'holders/run'), '');
    expect(await store.remove(base.key)).toBe(false);
    await store.releaseDead(() => Promise.resolve(false));
    expect(await store.remove(base.key)).toBe(true);
  });

  test('imports anew after a reboot, whoever held the base before it', async () => {
    const { base } = await hold('lost-with-the-machine');
    const meta = path.join(path.dirname(base.directory), 'meta.json');
    const holder = path.join(path.dirname(base.directory), 'holders/lost-with-the-machine');
    for (const file of [meta, holder])
      writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, 'utf8')) as object), bootId: 'earlier' }));
    const again = await hold('run');
    expect(again.known).toBe(false);
    expect(readFileSync(path.join(again.base.directory, 'src/a'), 'utf8')).toBe('a\n');
    expect(await store.list()).toMatchObject([{ key: base.key, holders: ['run'], stale: false }]);
  });

  test('does not believe a manifest that was changed', async () => {
    const { base } = await hold();
    writeFileSync(base.manifest, readFileSync(base.manifest, 'utf8').replace('README', 'REDAME'));
    const again = await BaseStore.open(path.join(home, 'bases'));
    const found = await again.find(base.key);
    expect(() => found?.tree).toThrow(/was changed/);
  });
});
