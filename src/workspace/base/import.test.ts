import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { DirectoryFiles } from '../../../test/fixtures/directory-files.ts';
import { digestOf } from '../../digest.ts';
import { BlobStore } from '../blobs.ts';
import { importWorkspace, type Base } from './import.ts';
import { Scope, type FileScope } from '../scope/scope.ts';
import { selectFiles, type SelectOptions } from './select.ts';
import { readingBuffer, readSteadily } from './steady-read.ts';

let home: string;
let host: string;
let blobs: BlobStore;
let files: DirectoryFiles;

beforeEach(async () => {
  home = mkdtempSync(path.join(tmpdir(), 'glovebox-import-'));
  host = path.join(home, 'host');
  mkdirSync(host);
  mkdirSync(path.join(home, 'box'));
  files = new DirectoryFiles(path.join(home, 'box'));
  blobs = await BlobStore.open(path.join(home, 'blobs'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const scopeOf = (scope: Partial<FileScope>): Scope =>
  Scope.compile({ read: [], write: [], scratch: [], deny: [], ...scope });
const everything = scopeOf({ read: ['**'] });

function put(files: Record<string, string>, root = host): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    writeFileSync(path.join(root, name), content);
  }
}

function git(...args: string[]): string {
  const env = { PATH: process.env['PATH'], HOME: home, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' };
  const identity = ['-c', 'user.name=t', '-c', 'user.email=t@example.com', '-c', 'protocol.file.allow=always'];
  return execFileSync('git', [...identity, ...args], {
    cwd: host,
    env,
    stdio: ['ignore', 'pipe', 'ignore'],
  }).toString();
}

/** git's own commands refuse to write such names; a file that comes with a directory need not come from them. */
function indexOf(names: readonly string[]): Buffer {
  const header = Buffer.from('DIRC\0\0\0\x02\0\0\0\0', 'latin1');
  header.writeUInt32BE(names.length, 8);
  const entries = [...names].sort().map((name) => {
    const entry = Buffer.alloc(Math.ceil((62 + name.length + 1) / 8) * 8);
    entry.writeUInt32BE(0o100644, 24);
    entry.writeUInt16BE(name.length, 60);
    entry.write(name, 62);
    return entry;
  });
  const body = Buffer.concat([header, ...entries]);
  return Buffer.concat([body, createHash('sha1').update(body).digest()]);
}

async function bringIn(scope: Scope, options: SelectOptions = {}): Promise<Base> {
  const imported = importWorkspace(await selectFiles(host, scope, options), scope, blobs);
  await files.unpack('.', imported.items);
  return imported.base();
}

describe('which files of a git work tree are brought in', () => {
  test('tracked and untracked ones, with the content they have now; ignored and deleted ones are absent', async () => {
    put({ '.gitignore': 'out/\n*.log\n', 'a.txt': 'old', 'gone.txt': 'x', 'tracked.log': 'kept' });
    git('init', '-q');
    git('add', '-f', '.');
    git('commit', '-qm', 'base');
    rmSync(path.join(host, 'gone.txt'));
    put({ 'a.txt': 'new', 'b/untracked.txt': 'u', 'out/x': 'ignored', 'c.log': 'ignored' });
    const selection = await selectFiles(host, everything);
    expect(selection.kind).toBe('git');
    expect(selection.checkout.commit).toMatch(/^[0-9a-f]{40}$/);
    expect(selection.files.map((file) => file.path)).toEqual(['.gitignore', 'a.txt', 'b/untracked.txt', 'tracked.log']);
    expect(selection.leftOut.counts).toEqual({ ignored: 2, missing: 1 });
    expect(selection.checkout.below).toBeUndefined();
    const base = await bringIn(everything);
    expect(base.tree.get('a.txt')).toEqual({ kind: 'file', mode: 0o644, digest: digestOf('new'), sizeBytes: 3 });
    expect(base.tree.has('.git')).toBe(false);
  });

  test('ignored ones where asked for', async () => {
    put({ '.gitignore': 'out\n', 'out/keep/x': 'x', 'out/y': 'y' });
    git('init', '-q');
    const selection = await selectFiles(host, everything, { includeIgnored: ['out/keep/**'] });
    expect(selection.files.map((file) => file.path)).toEqual(['.gitignore', 'out/keep/x']);
  });

  test('submodules and nested repositories are named, not entered', async () => {
    const other = path.join(home, 'other');
    mkdirSync(other);
    put({ 'lib.c': 'x' }, other);
    execFileSync('git', ['init', '-q'], { cwd: other });
    execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@e', 'add', '.'], { cwd: other });
    execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@e', 'commit', '-qm', 'x'], { cwd: other });
    git('init', '-q');
    git('submodule', 'add', '-q', other, 'dep');
    execFileSync('git', ['clone', '-q', other, path.join(host, 'nested')], { stdio: 'ignore' });
    const selection = await selectFiles(host, everything);
    expect(selection.files.map((file) => file.path)).toEqual(['.gitmodules']);
    expect(selection.leftOut.examples).toEqual([
      { path: 'dep', reason: 'submodule' },
      { path: 'nested', reason: 'nested_repository' },
    ]);
  });

  test('nothing that its configuration names is run', async () => {
    const marker = path.join(home, 'ran');
    put({ 'a.txt': 'x', '.gitattributes': '* filter=evil diff=evil\n', 'evil.sh': `#!/bin/sh\ntouch ${marker}\n` });
    chmodSync(path.join(host, 'evil.sh'), 0o755);
    git('init', '-q');
    const evil = path.join(host, 'evil.sh');
    for (const key of [
      'core.fsmonitor',
      'filter.evil.clean',
      'filter.evil.smudge',
      'diff.evil.textconv',
      'core.pager',
    ]) {
      git('config', key, evil);
    }
    put({ '.git/hooks/post-index-change': `#!/bin/sh\ntouch ${marker}\n` });
    chmodSync(path.join(host, '.git/hooks/post-index-change'), 0o755);
    await bringIn(everything);
    expect(await files.stat('a.txt')).toMatchObject({ type: 'file' });
    await expect(new DirectoryFiles(home).stat('ran')).rejects.toThrow('ENOENT');
  });

  test('an object that is missing is not fetched by what its configuration names', async () => {
    const marker = path.join(home, 'ran');
    put({ 'kept/a.txt': 'x', 'away/b.txt': 'y', '.git/evil.sh': `#!/bin/sh\ntouch ${marker}\n` });
    chmodSync(path.join(host, '.git/evil.sh'), 0o755);
    git('init', '-q');
    git('add', '.');
    git('commit', '-qm', 'all');
    git('sparse-checkout', 'init', '--cone', '--sparse-index');
    git('sparse-checkout', 'set', 'kept');
    const missing = git('rev-parse', 'HEAD:away').trim();
    rmSync(path.join(host, '.git/objects', missing.slice(0, 2), missing.slice(2)));
    for (const [key, value] of [
      ['core.repositoryFormatVersion', '1'],
      ['extensions.partialClone', 'origin'],
      ['remote.origin.promisor', 'true'],
      ['remote.origin.url', `ext::${path.join(host, '.git/evil.sh')}`],
      ['protocol.ext.allow', 'always'],
    ] as const)
      git('config', key, value);
    const selection = await selectFiles(host, everything);
    expect(selection.files.map((file) => file.path)).toEqual(['kept/a.txt']);
    await expect(new DirectoryFiles(home).stat('ran')).rejects.toThrow('ENOENT');
  });

  test.each(['../secret', '.git/config', './a.txt', 'sub//a.txt', 'sub/../../secret', 'sub/.git/config'])(
    'an index that names %s is refused: nothing outside the work tree is read',
    async (name) => {
      put({ 'a.txt': 'x', 'sub/a.txt': 'y', 'sub/.git/config': 'z' });
      writeFileSync(path.join(home, 'secret'), 'of the host');
      git('init', '-q');
      writeFileSync(path.join(host, '.git/index'), indexOf(['a.txt', name]));
      await expect(selectFiles(host, everything)).rejects.toMatchObject({
        code: 'import_refused',
        message: expect.stringContaining(JSON.stringify(name)) as string,
      });
    },
  );

  test('a directory below the top is a workspace of its own', async () => {
    put({ 'top.txt': 'x', 'sub/a.txt': 'y', 'sub/.gitignore': 'z\n', 'sub/z': 'ignored' });
    git('init', '-q');
    git('add', '.');
    const selection = await selectFiles(path.join(host, 'sub'), everything);
    expect(selection.files.map((file) => file.path)).toEqual(['.gitignore', 'a.txt']);
    expect(selection.checkout).toEqual({ below: 'sub' });
  });

  test.each([['d\nir'], ['é/ ']])('where it lies below the top is told byte for byte: %j', async (below) => {
    put({ [`${below}/a`]: 'x' });
    git('init', '-q', '--object-format=sha256');
    git('add', '.');
    git('commit', '-qm', 'base');
    const { checkout } = await selectFiles(path.join(host, below), everything);
    expect(checkout).toEqual({ commit: expect.stringMatching(/^[0-9a-f]{64}$/) as string, below });
  });

  test('names that need quoting come in byte for byte', async () => {
    const odd = [' x ', 'a\nb', '"q"', '-rf', 'é', 'tab\t'];
    put(Object.fromEntries(odd.map((name) => [name, name])));
    git('init', '-q');
    git('add', '.');
    const base = await bringIn(everything);
    expect([...base.tree.keys()].sort()).toEqual([...odd].sort());
  });
});

test('a directory that becomes a link before it is read leads nowhere', async () => {
  put({ 'sub/a.txt': 'mine' });
  const outside = path.join(home, 'outside');
  put({ 'a.txt': 'of the host' }, outside);
  const selection = await selectFiles(host, everything);
  rmSync(path.join(host, 'sub'), { recursive: true });
  symlinkSync(outside, path.join(host, 'sub'));
  const imported = importWorkspace(selection, everything, blobs);
  await expect(files.unpack('.', imported.items)).rejects.toMatchObject({ code: 'import_refused' });
  const read = (): unknown => readSteadily(host, 'sub/a.txt', readingBuffer(), 100, () => () => undefined);
  expect(read).toThrow(/a directory above it was replaced/);
});

describe('which files of a plain directory are brought in', () => {
  test('all of them but .git, and empty directories too', async () => {
    put({ '.gitignore': '*\n', 'a/b': 'x', 'a/.git': 'gitdir: /elsewhere', 'node_modules/m.js': 'x' });
    mkdirSync(path.join(host, 'empty/deep'), { recursive: true });
    const base = await bringIn(everything);
    expect([...base.tree.keys()]).toEqual([
      '.gitignore',
      'a',
      'a/b',
      'empty',
      'empty/deep',
      'node_modules',
      'node_modules/m.js',
    ]);
  });

  test('what is denied or outside the scope is absent, and said to be', async () => {
    put({ 'src/a': 'x', 'src/.env': 'SECRET', 'private/x/y': 'SECRET', 'docs/a': 'x' });
    const scope = scopeOf({ read: ['src/**', 'private/**'], deny: ['private', '**/.env'] });
    const base = await bringIn(scope);
    expect([...base.tree.keys()]).toEqual(['src', 'src/a']);
    expect((await selectFiles(host, scope)).leftOut.counts).toEqual({ denied: 2, out_of_scope: 1 });
    expect(await blobs.has(digestOf('SECRET'))).toBe(false);
  });

  test('links come in as links when they stay inside; nothing is read through one', async () => {
    writeFileSync(path.join(home, 'secret'), 'SECRET');
    put({ 'a/file': 'x' });
    symlinkSync('a/file', path.join(host, 'good'));
    symlinkSync('../good', path.join(host, 'a/up'));
    symlinkSync('missing', path.join(host, 'dangling'));
    symlinkSync('../secret', path.join(host, 'out'));
    symlinkSync(path.join(home, 'secret'), path.join(host, 'absolute'));
    symlinkSync('out', path.join(host, 'chain'));
    symlinkSync(home, path.join(host, 'directory'));
    execFileSync('mkfifo', [path.join(host, 'fifo')]);
    const selection = await selectFiles(host, everything);
    expect(selection.files.filter((file) => file.kind === 'symlink').map((file) => file.path)).toEqual([
      'a/up',
      'dangling',
      'good',
    ]);
    expect(selection.leftOut.counts).toEqual({ link_leaves_tree: 4, special_file: 1 });
    await bringIn(everything);
    expect(await blobs.has(digestOf('SECRET'))).toBe(false);
  });

  test('a tracked path whose directory has become a link is not read through it', async () => {
    put({ 'd/secret': 'public' });
    git('init', '-q');
    git('add', '.');
    rmSync(path.join(host, 'd'), { recursive: true });
    put({ 'elsewhere/secret': 'SECRET' }, home);
    symlinkSync('../elsewhere', path.join(host, 'd'));
    const base = await bringIn(everything);
    expect([...base.tree.keys()]).toEqual([]);
    expect(await blobs.has(digestOf('SECRET'))).toBe(false);
  });
});

describe('limits', () => {
  test.each([
    ['filesMax', { filesMax: 2 }, 'c'],
    ['bytesMax', { bytesMax: 10 }, 'c'],
    ['fileBytesMax', { fileBytesMax: 4 }, 'a'],
    ['depthMax', { depthMax: 2 }, 'd/e/f'],
    ['pathBytesMax', { pathBytesMax: 4 }, 'd/e/f'],
  ])('%s names the first path that breaks it', async (_, limits, offender) => {
    put({ a: '12345', b: '12', c: '12345', 'd/e/f': '' });
    git('init', '-q');
    git('add', '.');
    const refusal = { code: 'import_refused', message: expect.stringContaining(JSON.stringify(offender)) as string };
    await expect(selectFiles(host, everything, { limits })).rejects.toMatchObject(refusal);
  });

  test('a directory that is not there is refused', async () => {
    await expect(selectFiles(path.join(home, 'nope'), everything)).rejects.toMatchObject({ code: 'import_refused' });
  });
});

describe('import', () => {
  test('modes are reduced to what git knows, large files are streamed, progress is told', async () => {
    put({ small: 'x', program: '#!/bin/sh\n', large: 'L'.repeat(3 * 1024 * 1024) });
    chmodSync(path.join(host, 'program'), 0o6755);
    chmodSync(path.join(host, 'small'), 0o600);
    const selection = await selectFiles(host, everything);
    const seen: number[] = [];
    const imported = importWorkspace(selection, everything, blobs, { onProgress: ({ files }) => seen.push(files) });
    expect(() => imported.base()).toThrow('once all items');
    await files.unpack('.', imported.items);
    const { tree } = imported.base();
    expect(tree.get('program')).toMatchObject({ mode: 0o755 });
    expect(tree.get('small')).toMatchObject({ mode: 0o644 });
    expect(tree.get('large')).toMatchObject({ sizeBytes: 3 * 1024 * 1024 });
    expect((await files.read('large')).bytes.length).toBe(3 * 1024 * 1024);
    expect(seen).toEqual([1, 2, 3]);
  });

  test('the base is named by what is in it, not by when or where', async () => {
    put({ 'a/b': 'x', c: 'y' });
    const first = await bringIn(everything);
    put({ 'a/b': 'x', c: 'y' });
    expect((await bringIn(everything)).digest).toBe(first.digest);
    put({ c: 'z' });
    expect((await bringIn(everything)).digest).not.toBe(first.digest);
  });

  test('a file that became a link after it was selected is refused, not followed', async () => {
    put({ a: 'x', secret: 'SECRET' });
    const selection = await selectFiles(host, everything);
    rmSync(path.join(host, 'a'));
    symlinkSync('secret', path.join(host, 'a'));
    const imported = importWorkspace(selection, everything, blobs);
    await expect(files.unpack('.', imported.items)).rejects.toMatchObject({ code: 'import_refused' });
  });

  test('a file that never stops changing is refused', async () => {
    put({ a: 'x'.repeat(2 * 1024 * 1024) });
    const selection = await selectFiles(host, everything);
    const busy = Object.create(blobs) as BlobStore;
    let round = 0;
    busy.putStream = async (chunks, bytesMax) => {
      const result = await blobs.putStream(chunks, bytesMax);
      put({ a: 'y'.repeat(2 * 1024 * 1024 + ++round) });
      return result;
    };
    const imported = importWorkspace(selection, everything, busy);
    await expect(files.unpack('.', imported.items)).rejects.toThrow('keeps changing');
    expect(round).toBe(3);
  });
});

describe('ownership', () => {
  test('writable is the tools, the rest is root, a directory with both is sticky', async () => {
    put({ 'src/a.ts': '', 'src/gen/b.ts': '', 'docs/x.md': '', 'docs/logo.png': '', 'vendor/v.c': '', README: '' });
    mkdirSync(path.join(host, 'src/empty'));
    const scope = scopeOf({ read: ['**'], write: ['src/**', 'docs/*.md'], scratch: ['**/node_modules/**'] });
    const imported = importWorkspace(await selectFiles(host, scope), scope, blobs);
    await files.unpack('.', imported.items);
    expect(imported.root).toEqual({ owner: 'root', mode: 0o1777 });
    expect(Object.fromEntries(files.owners)).toEqual({
      README: { owner: 'root', mode: 0o644 },
      docs: { owner: 'root', mode: 0o1777 },
      'docs/logo.png': { owner: 'root', mode: 0o644 },
      'docs/x.md': { owner: 'tool', mode: 0o644 },
      src: { owner: 'tool', mode: 0o755 },
      'src/a.ts': { owner: 'tool', mode: 0o644 },
      'src/empty': { owner: 'tool', mode: 0o755 },
      'src/gen': { owner: 'tool', mode: 0o755 },
      'src/gen/b.ts': { owner: 'tool', mode: 0o644 },
      vendor: { owner: 'root', mode: 0o1777 }, // node_modules may be made anywhere
      'vendor/v.c': { owner: 'root', mode: 0o644 },
    });
  });

  test('where nothing may be made, a directory is closed', async () => {
    put({ 'a/x': '', 'b/c/y': '', 'b/z': '' });
    const scope = scopeOf({ read: ['**'], write: ['b/c/**'] });
    const imported = importWorkspace(await selectFiles(host, scope), scope, blobs);
    await files.unpack('.', imported.items);
    expect(imported.root).toEqual({ owner: 'root', mode: 0o755 });
    expect(files.owners.get('a')).toEqual({ owner: 'root', mode: 0o755 });
    expect(files.owners.get('b')).toEqual({ owner: 'root', mode: 0o755 });
    expect(files.owners.get('b/c')).toEqual({ owner: 'tool', mode: 0o755 });
  });

  test('a workspace that may be changed everywhere belongs to the tools', async () => {
    put({ 'a/x': '' });
    const scope = scopeOf({ write: ['**'] });
    const imported = importWorkspace(await selectFiles(host, scope), scope, blobs);
    expect(imported.root).toEqual({ owner: 'tool', mode: 0o755 });
  });
});
