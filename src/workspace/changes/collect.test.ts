import { execFileSync } from 'node:child_process';
import { chmodSync, linkSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { DirectoryBox, baseOf, changed, found, scopeOf, everything } from '../../../test/fixtures/directory-box.ts';
import { filledTrees } from '../../../test/fixtures/trees.ts';
import { digestOf } from '../../digest.ts';
import { applyChangeSet } from '../diff.ts';

let box: DirectoryBox;

beforeEach(async () => {
  box = await DirectoryBox.create();
});
afterEach(() => box.remove());

describe('what is exported', () => {
  test('an untouched workspace gives the empty set and nothing to say', async () => {
    box.put({ 'a/b': 'x', c: 'y' });
    symlinkSync('a/b', box.at('link'));
    const collected = await box.collect(await box.base());
    expect(collected).toMatchObject({ findings: [], violations: [], complete: true, scratch: { files: 0, bytes: 0 } });
    expect(changed(collected)).toEqual([]);
  });

  test('a sparse file of terabytes is refused without reading it; what else changed comes out', async () => {
    box.put({ a: 'x', b: 'y' });
    const base = await box.base();
    writeFileSync(box.at('a'), 'changed');
    writeFileSync(box.at('sparse'), '');
    truncateSync(box.at('sparse'), 2 ** 42);
    const collected = await box.collect(base);
    expect(found(collected, 'limit_exceeded')).toEqual(['sparse']);
    expect(found(collected, 'digest_mismatch')).toEqual([]);
    expect(changed(collected)).toEqual(['a']);
    expect(collected.complete).toBe(false);
  });

  test('scratch files that could not be seen count as they were', async () => {
    box.put({ 'tmp/a': 'xx', 'tmp/b': 'yyy', 'tmp/c/d': 'z', kept: 'k' });
    const base = await box.base();
    rmSync(box.at('tmp'), { recursive: true });
    execFileSync('mkfifo', [box.at('tmp').toString()]);
    const collected = await box.collect(base, scopeOf({ read: ['**'], scratch: ['tmp/**'] }));
    expect(collected.scratch).toEqual({ files: 3, bytes: 6 });
  });

  test('what is made below scratch is scratch, also under names that the policy denies; elsewhere they are violations', async () => {
    box.put({ 'a/b': 'x' });
    const scope = scopeOf({ read: ['**'], write: ['**'], scratch: ['deps/**'], deny: ['**/*.pem', '**/.git/**'] });
    const base = await box.base();
    box.put({ 'deps/c.pem': 'xx', 'deps/d': 'y', 'deps/.git/config': 'z', 'a/e.pem': 'e' });
    const collected = await box.collect(base, scope);
    expect(changed(collected)).toEqual([]);
    expect(collected.violations).toEqual([{ path: 'a/e.pem', kind: 'added', class: 'absent' }]);
    expect([collected.findings, collected.scratch]).toEqual([[], { files: 2, bytes: 3 }]);
    const whole = await box.collect(base, scope, { everything: true });
    expect([changed(whole), whole.findings]).toEqual([['deps', 'deps/c.pem', 'deps/d'], []]);
  });

  test('base and change set are the workspace, whatever was done to it', async () => {
    await fc.assert(
      fc.asyncProperty(filledTrees, filledTrees, async (before, after) => {
        const one = box.another();
        for (const content of before.contents) await box.blobs.put(content);
        one.populate(after.tree, after.contents);
        const base = baseOf(before.tree);
        const collected = await one.collect(base);
        const refused = collected.findings
          .filter((finding) => finding.effect === 'refused')
          .map((finding) => finding.path);
        const result = applyChangeSet(before.tree, collected.changeSet);
        const known = (name: string): boolean => refused.some((one) => name === one || name.startsWith(`${one}/`));
        for (const [name, node] of after.tree) if (!known(name)) expect([name, result.get(name)]).toEqual([name, node]);
        for (const name of result.keys()) if (!after.tree.has(name)) expect(refused.length).toBeGreaterThan(0);
        for (const change of collected.changeSet.changes.values()) {
          if (change.kind === 'file') expect(await box.blobs.has(change.digest)).toBe(true);
        }
      }),
      { numRuns: 60 },
    );
  });

  test('whatever the scope and whatever was done, an exported path is in the write scope', async () => {
    const globs = fc.constantFrom('**', 'a/**', 'b', '*', '**/*.txt', '*/b/**', '!a/b', '**/c', '?', '**/.*');
    const list = fc.array(globs, { maxLength: 3 }).filter((l) => l.length === 0 || l.some((g) => !g.startsWith('!')));
    await fc.assert(
      fc.asyncProperty(list, list, list, filledTrees, filledTrees, async (write, scratch, deny, before, after) => {
        const one = box.another();
        one.populate(after.tree, after.contents);
        const scope = scopeOf({ read: ['**'], write, scratch, deny });
        const base = baseOf(before.tree);
        const { changeSet } = await one.collect(base, scope);
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
    box.put({ 'src/a': '1', 'docs/x': '1', 'src/old': '1' });
    const base = await box.base();
    box.put({
      'src/a': '2',
      'src/b/c': 'new',
      'docs/x': '2',
      'src/.env': 'SECRET',
      'src/node_modules/m/i.js': '12345',
      top: 'x',
    });
    rmSync(box.at('src/old'));
    const scope = scopeOf({ read: ['**'], write: ['src/**'], scratch: ['**/node_modules/**'], deny: ['**/.env'] });
    const collected = await box.collect(base, scope);
    expect(changed(collected)).toEqual(['src/a', 'src/b', 'src/b/c', 'src/old']);
    expect(collected.violations).toEqual([
      { path: 'docs/x', kind: 'modified', class: 'read' },
      { path: 'src/.env', kind: 'added', class: 'absent' },
      { path: 'top', kind: 'added', class: 'read' },
    ]);
    expect(collected.scratch).toEqual({ files: 1, bytes: 5 });
    expect(await box.blobs.has(digestOf('SECRET'))).toBe(false);
  });

  test('a file of the base that is changed and scratch is told, unless all of the workspace is scratch', async () => {
    box.put({ 'src/dist/a': '1', 'src/dist/b': '2', 'src/dist/c': '3' });
    const base = await box.base();
    box.put({ 'src/dist/a': '9', 'src/dist/made': 'x' });
    box.put({ 'src/dist/b': '2' }); // written again, as it was
    rmSync(box.at('src/dist/c'));
    const some = await box.collect(base, scopeOf({ read: ['**'], write: ['**'], scratch: ['**/dist/**'] }));
    expect(changed(some)).toEqual([]);
    const told = ['src/dist/a', 'src/dist/c'].map((path) => ({ kind: 'base_in_scratch', path, effect: 'noted' }));
    expect(some).toMatchObject({ findings: told, violations: [], complete: true });
    const all = await box.collect(base, scopeOf({ read: ['**'], scratch: ['**'] }));
    expect(all).toMatchObject({ findings: [], violations: [], complete: true });
  });

  test("new files that the base ignores are counted, whatever the workspace's own ignore file says now", async () => {
    box.put({ '.gitignore': '*.log\n/out/\n!keep.log\n', 'tracked.log': '1', 'sub/.gitignore': '!very.log\n' });
    const base = await box.base();
    box.put({
      '.gitignore': '',
      'tracked.log': '2',
      'new.log': 'x',
      'out/a/b': 'xyz',
      'keep.log': 'k',
      'sub/very.log': 'v',
    });
    const collected = await box.collect(base);
    expect(changed(collected)).toEqual(['.gitignore', 'keep.log', 'sub/very.log', 'tracked.log']);
    expect(collected.ignored).toEqual({ files: 2, bytes: 4 });
    expect(changed(await box.collect({ ...base, kind: 'plain' }))).toContain('new.log');
  });

  test('a file larger than one piece arrives whole', async () => {
    const base = await box.base();
    const content = Buffer.alloc(20 * 1024 * 1024 + 1, 'x');
    writeFileSync(box.at('large'), content);
    const collected = await box.collect(base);
    expect(collected.changeSet.changes.get('large')).toMatchObject({
      digest: digestOf(content),
      sizeBytes: content.length,
    });
  });
});

describe('what is refused or noted', () => {
  test('links that leave the tree, also through another one; their target is never read', async () => {
    writeFileSync(path.join(box.home, 'flag'), 'FLAG');
    box.put({ 'd/file': 'x' });
    symlinkSync('d/../file', box.at('old'));
    const base = await box.base();
    symlinkSync('../flag', box.at('up'));
    symlinkSync(path.join(box.home, 'flag'), box.at('absolute'));
    symlinkSync('up', box.at('chain'));
    symlinkSync('d/file', box.at('fine'));
    // `old` was harmless while `d` was a directory; now it points beside the workspace.
    rmSync(box.at('d'), { recursive: true });
    symlinkSync('.', box.at('d'));
    const collected = await box.collect(base);
    expect(changed(collected)).toEqual(['d/file', 'fine']);
    expect(found(collected, 'link_leaves_tree').sort()).toEqual(['absolute', 'chain', 'd', 'up']);
    expect(collected.findings.find((finding) => finding.path === 'up')?.detail).toBe('../flag');
    expect(await box.blobs.has(digestOf('FLAG'))).toBe(false);
  });

  test("git's own files, under any of their names, and what git takes for a repository", async () => {
    box.put({ a: 'x' });
    const base = await box.base();
    box.put({
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
    symlinkSync('a', box.at('.gitmodules'));
    const collected = await box.collect(base);
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
    const ours = await box.collect(base, everything, { snapshotRepository: true });
    expect(found(ours, 'git_metadata')).not.toContain('.git');
  });

  test('a FIFO or socket in place of a file leaves the file as it was, and is never opened', async () => {
    box.put({ a: 'x' });
    const base = await box.base();
    rmSync(box.at('a'));
    execFileSync('mkfifo', [path.join(box.root, 'a'), path.join(box.root, 'b')]);
    const collected = await box.collect(base);
    expect(changed(collected)).toEqual([]);
    expect(found(collected, 'special_file')).toEqual(['a', 'b']);
  });

  test('setuid, setgid, sticky and world-writable bits are dropped and told', async () => {
    box.put({ a: 'x', b: 'x' });
    const base = await box.base();
    box.put({ c: 'x' });
    chmodSync(box.at('a'), 0o4755);
    chmodSync(box.at('b'), 0o666);
    chmodSync(box.at('c'), 0o1700);
    const collected = await box.collect(base);
    expect(
      [...collected.changeSet.changes].map(([name, change]) => [name, change.kind === 'file' && change.mode]),
    ).toEqual([
      ['a', 0o755],
      ['c', 0o755],
    ]);
    expect(found(collected, 'mode_normalised')).toEqual(['a', 'b', 'c']);
  });

  test('names that another file system takes for one', async () => {
    box.put({ 'README.md': 'x', 'dir/é': 'x' });
    const base = await box.base();
    box.put({ 'readme.MD': 'evil', 'dir/e\u0301': 'evil', 'DIR/new': 'evil', 'fine.md': 'x' });
    const collected = await box.collect(base);
    expect(changed(collected)).toEqual(['fine.md']);
    expect(found(collected, 'name_collision').sort()).toEqual(['DIR', 'dir/e\u0301', 'readme.MD']);
  });

  test('renaming a file by case alone is no collision', async () => {
    box.put({ 'README.md': 'x' });
    const base = await box.base();
    renameSync(box.at('README.md'), box.at('Readme.md'));
    expect(changed(await box.collect(base))).toEqual(['README.md', 'Readme.md']);
  });

  test('strange names are exported byte for byte and pointed out', async () => {
    const base = await box.base();
    const odd = ['a\nb', '\uDCFF\uDCFE', '-rf', 'x ', '\u202Etxt'];
    for (const name of odd) writeFileSync(box.at(name), name);
    const collected = await box.collect(base);
    expect(changed(collected).sort()).toEqual([...odd].sort());
    expect(found(collected, 'odd_name').sort()).toEqual([...odd].sort());
  });

  test('hard links are files of their own', async () => {
    const base = await box.base();
    box.put({ a: 'x' });
    linkSync(box.at('a'), box.at('b'));
    const collected = await box.collect(base);
    expect(changed(collected)).toEqual(['a', 'b']);
    expect(found(collected, 'hard_link')).toEqual(['a', 'b']);
  });

  test('a directory is not deleted or replaced over what may not change below it', async () => {
    box.put({ 'd/locked': 'x', 'd/mine.md': 'x' });
    const base = await box.base();
    rmSync(box.at('d'), { recursive: true });
    box.put({ d: 'a file now' });
    const collected = await box.collect(base, scopeOf({ read: ['**'], write: ['d', 'd/*.md'] }));
    expect(changed(collected)).toEqual(['d/mine.md']);
    expect(collected.violations).toEqual([{ path: 'd/locked', kind: 'deleted', class: 'read' }]);
    expect(found(collected, 'no_parent')).toEqual(['d']);
  });
});
