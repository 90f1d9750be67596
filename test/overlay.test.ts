import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { DataDir } from '../src/data-dir/data-dir.ts';
import { digestOf, type Digest } from '../src/digest.ts';
import { DockerEngine } from '../src/engine/docker/docker-engine.ts';
import type { Engine } from '../src/engine/engine.ts';
import { sandboxLabels } from '../src/engine/labels.ts';
import { newId } from '../src/ids.ts';
import { OverlayTrial } from '../src/overlay-trial.ts';
import { Placements, workspaceVolume, type Placement } from '../src/placement.ts';
import { defaultLimits } from '../src/sandbox/container-body.ts';
import { Sandbox } from '../src/sandbox/sandbox.ts';
import type { Files } from '../src/sandbox/spec.ts';
import { BaseStore } from '../src/workspace/base/bases.ts';
import { BlobStore } from '../src/workspace/blobs.ts';
import type { Node } from '../src/workspace/change-set.ts';
import { collectChanges, type Collected, type Layered } from '../src/workspace/changes/collect.ts';
import { applyChangeSet, diffTrees } from '../src/workspace/diff.ts';
import { keptPerKind } from '../src/workspace/changes/findings.ts';
import { importWorkspace, type Base } from '../src/workspace/base/import.ts';
import { Scope } from '../src/workspace/scope/scope.ts';
import { selectFiles } from '../src/workspace/base/select.ts';
import { editor, editScript, startingTree } from './fixtures/edit-scripts.ts';
import { rootOf } from './fixtures/tiny-image.ts';

/** The overlay strategy on a real engine, beside the copy strategy and a plain look at everything. */

const owner = newId();
const tag = `glovebox-test/overlay-${owner}:1`;
const programs = ['sh', 'cat', 'mv', 'rm', 'cp', 'ln', 'mkdir', 'touch', 'stat', 'chmod', 'head', 'perl'];
const MiB = 1024 * 1024;
let engine: Engine;
let image: Digest;
let home: string;
let dataDir: DataDir;
let blobs: BlobStore;
let placements: Placements;

beforeAll(async () => {
  engine = await DockerEngine.connect();
  const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64';
  const root = Readable.from([await rootOf(programs)]);
  image = (await engine.importImage(root, { tag, labels: {}, env: [], architecture })) as Digest;
  home = mkdtempSync(path.join(tmpdir(), 'glovebox-overlay-'));
  chmodSync(home, 0o700);
  dataDir = await DataDir.open(path.join(home, 'data'));
  blobs = await BlobStore.open(dataDir.blobsDir);
  placements = await Placements.open(engine, dataDir, blobs);
});

afterAll(async () => {
  await engine.removeVolumes({ 'glovebox.owner': dataDir.owner }, []);
  await engine.removeImage(tag);
  rmSync(home, { recursive: true, force: true });
});

interface Box {
  readonly sandbox: Sandbox;
  readonly base: Base;
  readonly layered: Layered | undefined;
  close(): Promise<void>;
}

async function openBox(host: string, scope: Scope, bound: { bytes: number; inodes: number }): Promise<Box> {
  const runId = newId();
  const options = {
    runId,
    sandbox: runId,
    scope,
    runtime: 'runc',
    bound,
    image,
    withResults: false,
    options: {},
    inputs: [],
    deny: [],
  } as const;
  const placement: Placement = await placements.place(await placements.select(host, scope, {}), options);
  expect(placement.strategy).toBe('overlay');
  const dir = await dataDir.createRun(runId);
  const labels = sandboxLabels({
    owner: dataDir.owner,
    instance: owner,
    sandbox: runId,
    created: new Date(),
  });
  const { laid: ready } = await placement.prepare(dir, labels);
  const spec = specOf(runId, bound, labels);
  const workspace = { workspaceRoot: placement.root, workspaceVolume: workspaceVolume(runId) };
  const sandbox = await Sandbox.open(engine, { ...spec, ...workspace }, { directory: dir.callsDir, ready });
  const base = await placement.fill(dir, sandbox.files);
  const close = async () => {
    await sandbox.close();
    await placement.discard(dir);
  };
  return { sandbox, base, layered: placement.looking(dir).layered, close };
}

async function openCopy(host: string, scope: Scope, bound: { bytes: number; inodes: number }): Promise<Box> {
  const runId = newId();
  const imported = importWorkspace(await selectFiles(host, scope), scope, blobs);
  const labels = sandboxLabels({
    owner: dataDir.owner,
    instance: owner,
    sandbox: runId,
    created: new Date(),
  });
  const spec = { ...specOf(runId, bound, labels), workspaceRoot: imported.root };
  const sandbox = await Sandbox.open(engine, spec, { directory: path.join(home, runId) });
  await sandbox.files.unpack('.', imported.items, { owners: true });
  return { sandbox, base: imported.base(), layered: undefined, close: () => sandbox.close() };
}

function specOf(runId: string, bound: { bytes: number; inodes: number }, labels: Readonly<Record<string, string>>) {
  const memory = { memoryBytes: 512 * MiB, tmpBytes: 4 * MiB, homeBytes: 4 * MiB, shmBytes: MiB };
  const limits = { ...defaultLimits, ...memory, workspaceBytes: bound.bytes, workspaceInodes: bound.inodes };
  return { id: runId, image, runtime: 'runc', labels, limits } as const;
}

async function run(
  { sandbox }: Box,
  script: string,
  stdin = '',
  shell = '/bin/sh',
): Promise<{ code: number; output: string }> {
  const call = await sandbox.start(newId(), {
    command: { kind: 'script', script, shell: [shell] },
    stdin: { kind: 'bytes', bytes: Buffer.from(stdin) },
    killAfterMs: 120_000,
    env: { PATH: '/bin', LC_ALL: 'C' },
  });
  const { outcome } = await call.ended;
  const { bytes } = await call.output.read(0, 65_536);
  return {
    code: outcome.kind === 'exited' ? outcome.code : -1,
    output: `${bytes.toString()}${outcome.kind === 'exited' ? '' : JSON.stringify(outcome)}`,
  };
}

const collect = ({ sandbox, base, layered }: Box, scope: Scope): Promise<Collected> =>
  collectChanges(sandbox, base, scope, blobs, layered === undefined ? {} : { layered });

/** What a result says, in an order that does not depend on how it was found. */
type Said = ReturnType<typeof said>;

function said(collected: Collected) {
  const { changeSet, findings, findingsLeftOut, violations, violationsLeftOut, scratch, ignored, complete } = collected;
  const sorted = (items: readonly unknown[]) => items.map((item) => JSON.stringify(item)).sort();
  // Of very many of one kind only the first are kept, and which come first is not promised.
  const kinds = new Map<string, number>();
  for (const { kind } of findings) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  const whole = findings.filter(({ kind }) => (kinds.get(kind) ?? 0) < keptPerKind);
  return {
    changes: [...changeSet.changes],
    findings: [...sorted(whole), sorted([...kinds]), findingsLeftOut],
    violations: [...sorted(violations), violationsLeftOut],
    scratch,
    ignored,
    complete,
  };
}

/** Of two long results, what to look at first. */
function firstDifference(one: Said, other: Said): unknown {
  for (const key of Object.keys(one) as (keyof Said)[]) {
    const [a, b] = [[one[key]].flat(), [other[key]].flat()].map((list) => list.map((item) => JSON.stringify(item)));
    const at = a?.findIndex((item, index) => item !== b?.[index]) ?? -1;
    if (at >= 0 || a?.length !== b?.length) return { key, at, one: a?.slice(at, at + 3), other: b?.slice(at, at + 3) };
  }
  return undefined;
}

/** Everything that is there, byte for byte, as a change of the base. */
async function plainLook({ sandbox, base }: Box): Promise<ReturnType<typeof diffTrees>> {
  const now = new Map<string, Node>();
  for await (const item of sandbox.files.walk(['.'], { contents: true })) {
    if (item.kind === 'unreadable') throw new Error(`${item.path} cannot be read`);
    if (item.kind === 'end') break;
    const { type, mode, target, sizeBytes } = item.entry;
    const name = item.entry.path.replace(/^\.\//, '');
    if (type === 'directory') now.set(name, { kind: 'directory' });
    if (type === 'symlink') now.set(name, { kind: 'symlink', target: target ?? '' });
    const digest = digestOf(item.content ?? Buffer.alloc(0));
    if (type === 'file') now.set(name, { kind: 'file', mode: (mode & 0o100) === 0 ? 0o644 : 0o755, digest, sizeBytes });
  }
  return diffTrees(base.tree, now);
}

function hostTree(files: Readonly<Record<string, string>>): string {
  const host = mkdtempSync(path.join(home, 'host-'));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(host, name)), { recursive: true });
    writeFileSync(path.join(host, name), content);
  }
  return host;
}

/** The same, whose base is a delta: in those directories some files were others, or not there, or more when it was whole. */
async function changedTree(files: Readonly<Record<string, string>>, places: readonly string[], scope: Scope) {
  const host = hostTree(files);
  const write = (name: string, content: string) => {
    mkdirSync(path.dirname(path.join(host, name)), { recursive: true });
    writeFileSync(path.join(host, name), content);
  };
  for (const place of places) {
    for (const name of ['a/one', 'b/old', 'deep/x/y', 'c/deep/z']) write(`${place}/${name}`, 'old\n');
    rmSync(path.join(host, place, 'two'));
  }
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 }); // files count as settled
  const store = await BaseStore.open(dataDir.basesDir);
  await store.hold(newId(), await store.select(host, scope), scope, blobs);
  vi.useRealTimers();
  for (const place of places) {
    for (const name of ['b/old', 'deep/x', 'c/deep']) rmSync(path.join(host, place, name), { recursive: true });
    for (const name of ['a/one', 'two']) write(`${place}/${name}`, files[`${place}/${name}`] ?? '');
  }
  return host;
}

const isDelta = { meta: { delta: { over: expect.any(String) as string } } };
const everything = Scope.compile({ read: ['**'], write: ['**'], scratch: [], deny: [] });
const roomy = { bytes: 128 * MiB, inodes: 100_000 };

describe('an overlay workspace', () => {
  test('gives the same changes as a copy and as a plain look, after thousands of random edit scripts', async () => {
    const scripts = Number(process.env['GLOVEBOX_EDIT_SCRIPTS'] ?? 800);
    const seed = Number(process.env['GLOVEBOX_EDIT_SEED'] ?? 1);
    const mixed = Scope.compile({ read: ['**'], write: ['**', '!s*7/b/**'], scratch: ['s*3/deep/**'], deny: [] });
    const lines: string[] = [];
    const files: Record<string, string> = {};
    for (let n = 0; n < scripts; n++) {
      for (const [name, content] of Object.entries(startingTree)) files[`s${n}/${name}`] = content;
      lines.push(`enter\ts${n}`, editScript(seed * 1_000_003 + n, 12));
    }
    const changed = Array.from({ length: scripts / 16 }, (_, n) => `s${n * 16}`);
    const host = await changedTree(files, changed, mixed);
    const bound = { bytes: 192 * MiB, inodes: 200_000 };
    const [over, copy] = [await openBox(host, mixed, bound), await openCopy(host, mixed, bound)];
    try {
      expect(over.base).toMatchObject(isDelta);
      for (const box of [over, copy])
        expect(await run(box, editor, lines.join('\n'), '/bin/perl')).toEqual({ code: 0, output: 'done\n' });
      const byLayer = await collect(over, mixed);
      const byScan = await collectChanges(over.sandbox, over.base, mixed, blobs);
      const byCopy = await collect(copy, mixed);
      expect(byLayer.changeSet.changes.size).toBeGreaterThan(scripts);
      expect(firstDifference(said(byLayer), said(byScan))).toBeUndefined();
      expect(firstDifference(said(byLayer), said(byCopy))).toBeUndefined();
    } finally {
      await Promise.all([over.close(), copy.close()]);
    }
  }, 240_000);

  const quirks: readonly { readonly name: string; readonly script: string }[] = [
    { name: 'a directory that was renamed', script: 'mv a z' },
    { name: 'a directory renamed over the place of another', script: 'rm -r b; mv a b' },
    { name: 'directories that changed places', script: 'mv a t; mv b a; mv t b' },
    { name: 'a renamed directory inside a renamed one', script: 'mv a/deep a/d2; mv a z; mv z/d2 z/d3' },
    { name: 'a directory deleted and made again, empty', script: 'rm -r a; mkdir a' },
    { name: 'a directory made again with one of its files', script: "rm -r a; mkdir a; echo 'a one' > a/one" },
    { name: 'a file where a directory was', script: 'rm -r a; echo x > a' },
    { name: 'a directory where a file was', script: 'rm one; mkdir one; echo x > one/x' },
    { name: 'a link where a directory was', script: 'rm -r a; ln -s b a' },
    { name: 'hard links', script: 'ln one a/uno; ln a/one dos' },
    { name: 'a mode alone', script: 'chmod 755 one; chmod 644 run.sh' },
    { name: 'a touch alone', script: 'touch one a a/one' },
    { name: 'what was written and taken back', script: 'cat one > t; echo x > one; cat t > one; rm t' },
    { name: 'an empty directory made and one that became empty', script: 'mkdir e; rm -r deep/a deep/b' },
    { name: 'a sparse file', script: "perl -e 'open F, q(>), q(sparse); truncate F, 1e6; print F q()'" },
    { name: 'names that are not UTF-8', script: "perl -e 'open F, q(>), qq(a/\\xff\\xfe)'; perl -e 'mkdir qq(\\xe9)'" },
    {
      name: 'content changed with its size and times restored',
      script:
        "perl -e '@s = stat q(one); open F, q(>), q(one); print F qq(eno\\n); close F; utime $s[8], $s[9], q(one)'",
    },
  ];

  test.each(['whole', 'delta'])('is right about every quirk of the layers over a %s base', async (kind) => {
    const files: Record<string, string> = { kind }; // or it would be a base that is there already
    for (const index of quirks.keys())
      for (const [name, content] of Object.entries(startingTree)) files[`q${index}/${name}`] = content;
    for (let n = 0; n < 600; n++) files[`more/${n}`] = '';
    const places = Array.from(quirks, (_, index) => `q${index}`);
    const host = kind === 'whole' ? hostTree(files) : await changedTree(files, places, everything);
    const [over, copy] = [await openBox(host, everything, roomy), await openCopy(host, everything, roomy)];
    try {
      if (kind === 'delta') expect(over.base).toMatchObject(isDelta);
      const script = quirks.map((quirk, index) => `cd /workspace/q${index} || exit 9\n${quirk.script}\n`).join('');
      for (const box of [over, copy]) expect(await run(box, `${script}exit 0`)).toEqual({ code: 0, output: '' });
      const byLayer = await collect(over, everything);
      const byLook = await plainLook(copy);
      for (const [index, quirk] of quirks.entries()) {
        const of = ({ changes }: { changes: ReadonlyMap<string, unknown> }) =>
          [...changes].filter(([name]) => name.startsWith(`q${index}/`));
        expect(of(byLayer.changeSet), quirk.name).toEqual(of(byLook));
        if (quirk.name.startsWith('content')) expect(of(byLayer.changeSet), quirk.name).toHaveLength(1);
        if (quirk.name.includes('touch')) expect(of(byLayer.changeSet)).toEqual([]);
      }
      expect(applyChangeSet(over.base.tree, byLayer.changeSet)).toEqual(
        applyChangeSet(over.base.tree, await plainLook(over)),
      );
    } finally {
      await Promise.all([over.close(), copy.close()]);
    }
  });

  test('looks only where something was written', async () => {
    const host = hostTree(Object.fromEntries(Array.from({ length: 400 }, (_, n) => [`d${n % 20}/f${n}`, `${n}\n`])));
    const box = await openBox(host, everything, roomy);
    try {
      await run(box, 'echo x >> d3/f3; rm d4/f4');
      const asked: string[] = [];
      const real = box.sandbox.files;
      const watched: Pick<Files, 'walk' | 'read'> = {
        walk: (paths, options) => (asked.push(...paths), real.walk(paths, options)),
        read: (name, options) => real.read(name, options),
      };
      const files = watched as Files;
      const { changeSet } = await collectChanges(
        { files },
        box.base,
        everything,
        blobs,
        box.layered === undefined ? {} : { layered: box.layered },
      );
      expect([...changeSet.changes.keys()]).toEqual(['d3/f3', 'd4/f4']);
      expect(asked).toEqual(['.', 'd3', 'd4', 'd3/f3']);
    } finally {
      await box.close();
    }
  });

  test('stops a filler and an inode bomb, and gives the disk back', async () => {
    const host = hostTree({ one: 'one\n' });
    const bound = { bytes: 48 * MiB, inodes: 2000 };
    const box = await openBox(host, everything, bound);
    const disk = () => statfsSync(home).bavail * statfsSync(home).bsize;
    try {
      const filled = await run(box, 'head -c 200000000 /dev/zero > big; stat -c %s big');
      const held = Number(/(\d+)\n?$/.exec(filled.output)?.[1]);
      expect(filled.output).toMatch(/No space left/);
      expect(held).toBeGreaterThan(bound.bytes * 0.95);
      expect(held).toBeLessThan(bound.bytes * 1.5);
      const bombed = await run(box, 'rm big; n=0; while echo > f$n; do n=$((n + 1)); done 2>/dev/null; echo made $n');
      const made = Number(/made (\d+)/.exec(bombed.output)?.[1]);
      expect(made).toBeGreaterThan(bound.inodes * 0.9);
      expect(made).toBeLessThan(bound.inodes * 1.2);
    } finally {
      const before = disk();
      await box.close();
      expect(disk()).toBeGreaterThanOrEqual(before - 64 * MiB);
    }
  });

  test('is mounted nosuid and nodev, owned as planned, and what is read-only stays so', async () => {
    const host = hostTree({ 'src/a': 'a\n', 'docs/b': 'b\n' });
    const box = await openBox(host, Scope.compile({ read: ['**'], write: ['src/**'], scratch: [], deny: [] }), roomy);
    try {
      const { output } = await run(box, 'cat /proc/self/mountinfo; stat -c "%u %a" . src docs docs/b src/a');
      expect(output).toMatch(/ \/workspace rw,nosuid,nodev\S* .*- overlay /);
      expect(output).toMatch(/0 755\n10001 755\n0 755\n0 644\n10001 644\n$/);
      const denied = await run(
        box,
        'echo x > docs/b; echo x > docs/c; mv docs d; rm docs/b; echo y > src/new && echo ok',
      );
      expect(denied.output.match(/ermission denied|not permitted/g)).toHaveLength(4);
      expect(denied.output).toMatch(/ok\n$/);
    } finally {
      await box.close();
    }
    expect(readFileSync(path.join(host, 'docs/b'), 'utf8')).toBe('b\n');
  });

  test('is tried once, until the machine or the engine starts anew', async () => {
    const works = () => new OverlayTrial(engine, dataDir).works(image);
    const file = path.join(dataDir.path, 'overlay.json');
    expect(await works()).toMatchObject({ works: true });
    const known = readFileSync(file, 'utf8');
    const trying = vi.spyOn(engine, 'tryVolume');
    await works();
    expect(trying).not.toHaveBeenCalled();
    writeFileSync(file, known.replace(/sha256:.{8}/, 'sha256:00000000'));
    await works();
    expect(trying).toHaveBeenCalledTimes(1);
    expect(readFileSync(file, 'utf8')).toBe(known);
  });

  test('leaves no mount, volume or loop device behind', async () => {
    expect(await engine.listVolumes({ 'glovebox.owner': dataDir.owner })).toEqual([]);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(home);
    expect(execFileSync('losetup', ['-a'], { encoding: 'utf8' })).not.toContain(home);
  });
});
