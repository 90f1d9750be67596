import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync, chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import { digestOf } from '../src/digest.ts';
import { DockerEngine } from '../src/engine/docker/docker-engine.ts';
import type { Engine } from '../src/engine/engine.ts';
import { sandboxLabels } from '../src/engine/labels.ts';
import { newId } from '../src/ids.ts';
import { defaultLimits } from '../src/sandbox/container-body.ts';
import { Sandbox } from '../src/sandbox/sandbox.ts';
import type { Files } from '../src/sandbox/spec.ts';
import { BlobStore } from '../src/workspace/blobs.ts';
import type { Node, Tree } from '../src/workspace/change-set.ts';
import { classifyChanges } from '../src/workspace/changes/classify.ts';
import { collectChanges, type Collected } from '../src/workspace/changes/collect.ts';
import { applyChangeSet, diffTrees } from '../src/workspace/diff.ts';
import type { Finding } from '../src/workspace/changes/findings.ts';
import { importWorkspace, type Base } from '../src/workspace/base/import.ts';
import { makePatch } from '../src/workspace/patch/patch.ts';
import { Scope, type FileScope } from '../src/workspace/scope/scope.ts';
import { selectFiles } from '../src/workspace/base/select.ts';
import { toUnpackItems } from '../src/workspace/snapshot.ts';
import { DirectoryFiles } from './fixtures/directory-files.ts';
import { rootOf } from './fixtures/tiny-image.ts';

/** The workspace on a real engine: a host directory goes in, hostile hands work on it, a change set comes out. */

const programs = [
  'sh',
  'cat',
  'mv',
  'rm',
  'cp',
  'ln',
  'chmod',
  'mkdir',
  'mkfifo',
  'touch',
  'id',
  'ls',
  'readlink',
  'stat',
];

const owner = newId();
const tag = `glovebox-test/workspace-${owner}:1`;
let engine: Engine;
let image: string;
let home: string;
let host: string;
let blobs: BlobStore;
let opened: Sandbox[] = [];

beforeAll(async () => {
  engine = await DockerEngine.connect();
  image = await engine.importImage(Readable.from([await rootOf(programs)]), {
    tag,
    labels: {},
    env: [],
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
  });
});
afterAll(() => engine.removeImage(tag));

beforeEach(async () => {
  home = mkdtempSync(path.join(tmpdir(), 'glovebox-workspace-'));
  host = path.join(home, 'host');
  mkdirSync(host);
  blobs = await BlobStore.open(path.join(home, 'blobs'));
  opened = [];
});
afterEach(async () => {
  await Promise.all(opened.map((sandbox) => sandbox.close()));
  rmSync(home, { recursive: true, force: true });
});

function put(contents: Record<string, string>): void {
  for (const [name, content] of Object.entries(contents)) {
    mkdirSync(path.dirname(path.join(host, name)), { recursive: true });
    writeFileSync(path.join(host, name), content);
  }
}

const gitEnv = { PATH: process.env['PATH'], GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' };

function commit(): void {
  const identity = ['-c', 'user.name=t', '-c', 'user.email=t@example.com'];
  for (const args of [
    ['init', '-q'],
    ['add', '.'],
    [...identity, 'commit', '-qm', 'base'],
  ]) {
    execFileSync('git', args, { cwd: host, env: gitEnv });
  }
}

interface Opened {
  readonly sandbox: Sandbox;
  readonly base: Base;
  readonly scope: Scope;
}

async function open(files: Partial<FileScope>): Promise<Opened> {
  const scope = Scope.compile({ read: [], write: [], scratch: [], deny: [], ...files });
  const imported = importWorkspace(await selectFiles(host, scope), scope, blobs);
  const sandbox = await openSandbox(imported.root);
  await sandbox.files.unpack('.', imported.items, { owners: true });
  return { sandbox, base: imported.base(), scope };
}

async function openSandbox(root: { owner: 'root' | 'tool'; mode: number }): Promise<Sandbox> {
  const id = newId();
  const sandbox = await Sandbox.open(
    engine,
    {
      id,
      image,
      runtime: 'runc',
      workspaceRoot: root,
      labels: sandboxLabels({ owner, instance: owner, sandbox: id, created: new Date() }),
      limits: {
        ...defaultLimits,
        memoryBytes: 256 * 1024 * 1024,
        pidsMax: 64,
        workspaceBytes: 64 * 1024 * 1024,
        tmpBytes: 4 * 1024 * 1024,
        homeBytes: 4 * 1024 * 1024,
        shmBytes: 1024 * 1024,
      },
    },
    { directory: path.join(home, `sandbox-${id}`) },
  );
  opened.push(sandbox);
  return sandbox;
}

/** Runs a script as the tools' user and gives its exit code. */
async function run({ sandbox }: Pick<Opened, 'sandbox'>, script: string): Promise<number> {
  const call = await sandbox.start(newId(), {
    command: { kind: 'script', script, shell: ['/bin/sh'] },
    killAfterMs: 20_000,
    env: { PATH: '/bin' },
  });
  const { outcome } = await call.ended;
  return outcome.kind === 'exited' ? outcome.code : -1;
}

const collect = ({ sandbox, base, scope }: Opened): Promise<Collected> => collectChanges(sandbox, base, scope, blobs);

/** Everything that is there, read back byte for byte and hashed here. */
async function rescan(files: Files): Promise<Tree> {
  const tree = new Map<string, Node>();
  for await (const item of files.walk(['.'], { contents: true })) {
    if (item.kind !== 'entry') continue;
    const { type, mode, target, sizeBytes } = item.entry;
    const name = item.entry.path.replace(/^\.\//, '');
    if (type === 'directory') tree.set(name, { kind: 'directory' });
    if (type === 'symlink') tree.set(name, { kind: 'symlink', target: target ?? '' });
    if (type !== 'file') continue;
    const digest = digestOf(item.content ?? Buffer.alloc(0));
    tree.set(name, { kind: 'file', mode: (mode & 0o100) === 0 ? 0o644 : 0o755, digest, sizeBytes });
  }
  return tree;
}

const leaves = (tree: Tree): Tree => new Map([...tree].filter(([, node]) => node.kind !== 'directory'));

function populate(): void {
  put({
    '.gitignore': 'build/\n',
    README: 'read me\n',
    'src/a.txt': 'one\ntwo\nthree\n',
    'src/gone.txt': 'soon gone\n',
    'src/moved.txt': 'line\n'.repeat(50),
    'src/run.sh': 'echo hello\n',
    'src/deep/er/x': 'x',
    'odd name "q"\n.txt': 'odd\n',
    'build/ignored': 'never comes in',
  });
  writeFileSync(path.join(host, 'src/image.bin'), Buffer.from([0, 1, 2, 3]));
  symlinkSync('src/a.txt', path.join(host, 'link'));
  chmodSync(path.join(host, 'README'), 0o600);
  commit();
}

describe('a work tree in a sandbox', () => {
  test('is what was selected, and untouched it gives the empty set', async () => {
    populate();
    const box = await open({ read: ['**'], write: ['src/**'] });
    expect(await rescan(box.sandbox.files)).toEqual(box.base.tree);
    expect([...box.base.tree.keys()]).not.toContain('build/ignored');
    const collected = await collect(box);
    expect(collected).toMatchObject({ findings: [], violations: [], complete: true });
    expect(collected.changeSet.changes.size).toBe(0);
  });

  test('comes out as a change set that equals a plain look at the workspace, and as a patch that git applies', async () => {
    populate();
    const box = await open({ write: ['**'] });
    const code = await run(
      box,
      `set -e
      printf 'one\\n2\\nthree' > src/a.txt
      rm src/gone.txt
      mv src/moved.txt src/elsewhere.txt
      chmod 755 src/run.sh
      printf '\\000\\377\\000' > src/image.bin
      rm -r src/deep && printf 'a file now' > src/deep
      mkdir -p new/empty && : > new/file
      rm link && ln -s README link
      printf x > "$(printf 'new\\nline')"
      printf x > "$(printf 'bytes\\377\\376')"
      printf x > ./-rf
      printf x > '$(id)'
      printf x > ' spaces '
      mv 'odd name "q"
.txt' 'tab	"q"'
      `,
    );
    expect(code).toBe(0);
    const collected = await collect(box);
    expect(collected.complete).toBe(true);
    expect(collected.violations).toEqual([]);
    const now = await rescan(box.sandbox.files);
    expect(collected.changeSet).toEqual(diffTrees(box.base.tree, now));
    expect(applyChangeSet(box.base.tree, collected.changeSet)).toEqual(now);
    expect((await collect(box)).changeSet).toEqual(collected.changeSet);

    const patch = await makePatch(box.base.tree, collected.changeSet, blobs);
    expect(patch.files.find((file) => file.path === 'src/elsewhere.txt')?.from).toBe('src/moved.txt');
    const applied = spawnSync('git', ['apply', '--whitespace=nowarn', '-'], {
      cwd: host,
      env: gitEnv,
      input: patch.bytes,
    });
    expect(applied.stderr.toString()).toBe('');
    rmSync(path.join(host, '.git'), { recursive: true });
    rmSync(path.join(host, 'build'), { recursive: true });
    expect(leaves(await rescan(new DirectoryFiles(host)))).toEqual(leaves(now));

    const classified = await classifyChanges(box.base.tree, collected.changeSet, blobs);
    expect(classified.find((change) => change.path === 'src/run.sh')).toEqual({
      path: 'src/run.sh',
      status: 'mode_changed',
      kind: 'file',
      categories: ['execution_bearing'],
    });
  });

  test('is forked by laying its change set over its base in another sandbox', async () => {
    populate();
    const box = await open({ write: ['**'] });
    expect(
      await run(
        box,
        'rm -r src/deep; printf y > src/deep; ln -s a src/l; rm src/gone.txt; mkdir e; printf 2 >> README',
      ),
    ).toBe(0);
    const { changeSet } = await collect(box);
    const fork = await open({ write: ['**'] });
    await fork.sandbox.files.unpack('.', toUnpackItems(fork.base.tree, changeSet, blobs), { owners: true });
    expect(await rescan(fork.sandbox.files)).toEqual(await rescan(box.sandbox.files));
    expect((await collect(fork)).changeSet).toEqual(changeSet);
  });
});

describe('the write scope is kept by the kernel', () => {
  let box: Opened;
  let shared: string;

  beforeAll(async () => {
    shared = mkdtempSync(path.join(tmpdir(), 'glovebox-kernel-'));
    host = path.join(shared, 'host');
    home = shared;
    blobs = await BlobStore.open(path.join(shared, 'blobs'));
    put({ 'docs/locked.txt': 'locked', 'docs/mine.md': 'mine', 'closed/file': 'closed', 'free/file': 'free' });
    box = await open({ read: ['**'], write: ['docs/*.md', 'free/**'] });
    opened = [];
  });
  afterAll(async () => {
    await box.sandbox.close();
    rmSync(shared, { recursive: true, force: true });
  });

  const cases: readonly (readonly [string, string, boolean])[] = [
    ['write to a locked file', 'printf x > docs/locked.txt', false],
    ['append to a locked file', 'printf x >> docs/locked.txt', false],
    ['unlink a locked file beside writable ones', 'rm -f docs/locked.txt', false],
    ['rename a locked file', 'mv docs/locked.txt docs/other.txt', false],
    ['put another file in its place', 'printf x > docs/new.md && mv docs/new.md docs/locked.txt', false],
    ['chmod a locked file', 'chmod 777 docs/locked.txt', false],
    ['make a hard link to a locked file', 'ln docs/locked.txt docs/hard.md', false],
    ['rename the directory that holds it', 'mv docs docs2', false],
    ['make a name in a closed directory', ': > closed/new', false],
    ['unlink in a closed directory', 'rm -f closed/file', false],
    ['rename a closed directory', 'mv closed moved', false],
    ['make a name at the top', ': > top', false],
    ['make a new file beside a locked one', ': > docs/new.md', true],
    [
      'change, replace and unlink a writable file',
      'printf x > docs/mine.md && cp docs/mine.md docs/t.md && mv docs/t.md docs/mine.md && rm docs/mine.md',
      true,
    ],
    ['do anything in a writable directory', 'mkdir free/d && mv free/file free/d/file && rm -r free/d', true],
  ];

  test.each(cases)('%s', async (_, script, allowed) => {
    expect(await run(box, script)).toEqual(allowed ? 0 : expect.toSatisfy((code: number) => code > 0));
    const { bytes } = await box.sandbox.files.read('docs/locked.txt');
    expect(bytes.toString()).toBe('locked');
    await run(box, 'rm -f docs/new.md docs/hard.md');
  });

  test('and all of that together changed nothing outside it', async () => {
    const { changeSet, violations } = await collect(box);
    expect([...changeSet.changes]).toEqual([
      ['docs/mine.md', { kind: 'deleted' }],
      ['free/file', { kind: 'deleted' }],
    ]);
    expect(violations).toEqual([]);
  });

  test("the runner's own file verbs obey it too", async () => {
    const { sandbox } = box;
    await expect(sandbox.files.write('docs/locked.txt', Buffer.from('x'))).rejects.toMatchObject({
      code: 'permission_denied',
    });
    await expect(sandbox.files.remove('docs/locked.txt')).rejects.toMatchObject({ code: 'permission_denied' });
    await expect(sandbox.files.write('docs/mine.md', Buffer.from('changed'))).resolves.toMatchObject({ sizeBytes: 7 });
  });
});

test('what hostile hands leave behind is named, and none of it is exported or followed', async () => {
  put({ 'src/a': 'x', 'src/secret-free': 'y', other: 'z' });
  writeFileSync(path.join(home, 'flag'), 'FLAG');
  const box = await open({ read: ['**'], write: ['src/**'], scratch: ['src/tmp/**'], deny: ['**/.env'] });
  const code = await run(
    box,
    `set -e
    ln -s /etc/passwd src/shadow
    ln -s ../../../../../../../../flag src/up
    ln -s /proc/1/environ src/environ
    mkfifo src/fifo
    mkdir -p src/sub/.git/hooks src/tmp
    printf 'touch /pwned' > src/sub/.git/hooks/post-checkout
    printf 'gitdir: /elsewhere' > src/.git
    printf x > src/A
    printf SECRET > src/.env
    printf 12345 > src/tmp/scratch
    printf x > src/suid && chmod 4777 src/suid
    ln src/secret-free src/hard
    mkdir src/closed && printf x > src/closed/x && chmod 000 src/closed
    printf x > src/fine
    `,
  );
  expect(code).toBe(0);
  const collected = await collect(box);
  expect([...collected.changeSet.changes.keys()]).toEqual([
    'src/closed',
    'src/fine',
    'src/hard',
    'src/sub',
    'src/suid',
  ]);
  const found = (kind: Finding['kind']): readonly Finding[] => collected.findings.filter((one) => one.kind === kind);
  const pathsOf = (kind: Finding['kind']): string[] => found(kind).map((finding) => finding.path);
  expect(pathsOf('link_leaves_tree')).toEqual(['src/environ', 'src/shadow', 'src/up']);
  expect(found('link_leaves_tree').map((finding) => finding.detail)).toContain('/etc/passwd');
  expect(pathsOf('special_file')).toEqual(['src/fifo']);
  expect(pathsOf('git_metadata')).toEqual(['src/.git', 'src/sub/.git']);
  expect(pathsOf('name_collision')).toEqual(['src/A']);
  expect(pathsOf('mode_normalised')).toEqual(['src/suid']);
  expect(pathsOf('hard_link')).toEqual(['src/hard']);
  expect(pathsOf('unreadable')).toEqual(['src/closed']);
  expect(collected.complete).toBe(false);
  expect(collected.violations).toEqual([{ path: 'src/.env', kind: 'added', class: 'absent' }]);
  expect(collected.scratch).toEqual({ files: 1, bytes: 5 });
  for (const secret of ['FLAG', 'SECRET', 'touch /pwned']) expect(await blobs.has(digestOf(secret))).toBe(false);
});

test('of a thousand files, exactly the hundred that were changed come out', async () => {
  put(Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`d${n % 50}/f${n}`, `content ${n}\n`])));
  const box = await open({ write: ['**'] });
  expect(await run(box, 'for n in 1 2 3 4 5; do for f in d$n/*; do printf x >> $f; done; done')).toBe(0);
  const collected = await collect(box);
  expect(collected.changeSet.changes.size).toBe(100);
});
