import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { editor, editScript, startingTree } from '../../../test/fixtures/edit-scripts.ts';
import { newId } from '../../ids.ts';
import { BlobStore } from '../blobs.ts';
import { encodeTree } from '../manifest.ts';
import { Scope } from '../scope/scope.ts';
import { BaseStore, type HeldBase } from './bases.ts';
import { hostName } from './host-path.ts';
import { selectFiles } from './select.ts';
import type { StoredBase } from './stored-base.ts';

const root = process.getuid?.() === 0;
const env = { PATH: process.env['PATH'], GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' };
const scope = Scope.compile({
  read: ['**'],
  write: ['**', '!s*/b/**', '!s1/a/**'],
  scratch: ['s2/c/**'],
  deny: ['s3/a'],
});

describe.runIf(root)('a base of which little has changed', () => {
  let home: string;
  let host: string;
  let blobs: BlobStore;
  let store: BaseStore;

  beforeEach(async () => {
    // What is written now is long ago: files count as settled.
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 });
    home = mkdtempSync(path.join(tmpdir(), 'glovebox-deltas-'));
    host = path.join(home, 'host');
    for (let n = 0; n < 12; n++) for (const [name, text] of Object.entries(startingTree)) write(`s${n}/${name}`, text);
    blobs = await BlobStore.open(path.join(home, 'blobs'));
    store = await BaseStore.open(path.join(home, 'bases'));
  });
  afterEach(() => {
    vi.useRealTimers();
    rmSync(home, { recursive: true, force: true });
  }, 60_000);

  const at = (name: string): string => path.join(host, name);

  function write(name: string, text: string): void {
    mkdirSync(path.dirname(at(name)), { recursive: true });
    writeFileSync(at(name), text);
  }

  const hold = async (run = newId()): Promise<HeldBase> =>
    store.hold(run, await store.select(host, scope), scope, blobs);

  /** The same, by somebody who has never seen the directory. */
  async function whole(): Promise<StoredBase> {
    const directory = mkdtempSync(path.join(home, 'fresh-'));
    const fresh = await BaseStore.open(directory);
    return (await fresh.hold(newId(), await selectFiles(host, scope), scope, blobs)).base;
  }

  async function expectWhatItHolds({ base }: HeldBase): Promise<void> {
    const reference = await whole();
    expect(base.key).toBe(reference.key);
    expect(encodeTree(base.tree)).toBe(encodeTree(reference.tree));
    expect({ ...base.meta, delta: 0, source: '' }).toEqual({ ...reference.meta, delta: 0, source: '' });
    expect(shown(base.files.directories)).toEqual(shown(reference.files.directories));
    for (const [name, node] of base.tree) {
      const found = hostName(base.files.directoryOf(name), name);
      if (node.kind === 'symlink') expect(readlinkSync(found)).toBe(node.target);
      if (node.kind === 'directory') {
        const inside = [...base.files.namesIn(name)].filter((below) => base.tree.has(below));
        expect(inside.sort()).toEqual([...reference.files.namesIn(name)].sort());
      }
    }
  }

  const edit = (lines: string): string =>
    execFileSync('perl', ['-e', editor.replace('/workspace', host)], { input: lines, encoding: 'utf8', env });

  test.each(['plain', 'git'])(
    'is what it is without the others, after any edits of a %s directory',
    async (kind) => {
      if (kind === 'git') execFileSync('git', ['init', '-q'], { cwd: host, env });
      const first = await hold();
      const before = shown(first.base.files.directories);
      const seed = Number(process.env['GLOVEBOX_EDIT_SEED'] ?? 1);
      let deltas = 0;
      for (let step = 0; step < 10; step++) {
        const random = seed * 7919 + step;
        edit(`enter\ts${(random * 5) % 12}\n${editScript(random, 3)}`);
        if (kind === 'git' && step % 4 === 1) execFileSync('git', ['add', '-A'], { cwd: host, env });
        if (kind === 'git' && step % 5 === 3)
          write(`s${step % 12}/.gitignore`, step % 2 === 0 ? 'one\n' : 'deep\n!one\n');
        const selected = await store.select(host, scope);
        const { files, directories, leftOut } = await selectFiles(host, scope);
        expect([selected.files, selected.directories]).toEqual([files, directories]);
        expect(selected.leftOut.counts).toEqual(leftOut.counts);
        const held = await hold();
        await expectWhatItHolds(held);
        if (held.base.meta.delta !== undefined) deltas++;
      }
      expect(deltas).toBeGreaterThan(4);
      expect(shown(first.base.files.directories)).toEqual(before);
    },
    120_000,
  );

  /** Two steps each, in a directory of its own. */
  const quirks: readonly { readonly name: string; first(at: Place): void; second(at: Place): void }[] = [
    {
      name: 'a directory that went and came back',
      first: (at) => rmSync(at('a'), { recursive: true }),
      second: (at) => (mkdirSync(at('a')), writeFileSync(at('a/one'), 'new\n')),
    },
    {
      name: 'a directory that came back empty',
      first: (at) => rmSync(at('a'), { recursive: true }),
      second: (at) => mkdirSync(at('a')),
    },
    {
      name: 'a directory that came back with a deeper one',
      first: (at) => rmSync(at(''), { recursive: true }),
      second: (at) => (mkdirSync(at('a/deep/c'), { recursive: true }), writeFileSync(at('a/deep/c/x'), 'x\n')),
    },
    {
      name: 'a file that became a directory',
      first: (at) => rmSync(at('one')),
      second: (at) => (mkdirSync(at('one')), writeFileSync(at('one/x'), 'x\n')),
    },
    {
      name: 'a directory that became a file, then a directory again',
      first: (at) => (rmSync(at('b'), { recursive: true }), writeFileSync(at('b'), 'file\n')),
      second: (at) => (rmSync(at('b')), mkdirSync(at('b')), writeFileSync(at('b/two'), 'b two!\n')),
    },
    {
      name: 'a directory that became a link, then went',
      first: (at) => (rmSync(at('b'), { recursive: true }), symlinkSync('a', at('b'))),
      second: (at) => rmSync(at('b')),
    },
    {
      name: 'a link that became a directory with what its target has',
      first: (at) => (rmSync(at('c'), { recursive: true }), symlinkSync('a', at('c'))),
      second: (at) => (rmSync(at('c')), mkdirSync(at('c')), writeFileSync(at('c/one'), 'c one\n')),
    },
    {
      name: 'a directory renamed twice',
      first: (at) => renameSync(at('a'), at('z')),
      second: (at) => renameSync(at('z'), at('y')),
    },
    {
      name: 'directories that changed places',
      first: (at) => (renameSync(at('a'), at('t')), renameSync(at('b'), at('a')), renameSync(at('t'), at('b'))),
      second: (at) => (renameSync(at('a'), at('t')), renameSync(at('b'), at('a')), renameSync(at('t'), at('b'))),
    },
    { name: 'a mode alone', first: (at) => chmodSync(at('one'), 0o755), second: (at) => chmodSync(at('two'), 0o755) },
    {
      name: 'a link with another target',
      first: (at) => symlinkSync('one', at('l')),
      second: (at) => (rmSync(at('l')), symlinkSync('two', at('l'))),
    },
    {
      name: 'names that are not UTF-8',
      first: (at) => writeFileSync(Buffer.concat([Buffer.from(at('')), Buffer.from([0x2f, 0xff])]), 'a\n'),
      second: (at) => rmSync(Buffer.concat([Buffer.from(at('')), Buffer.from([0x2f, 0xff])])),
    },
    {
      name: 'a directory that is no longer shared with root',
      first: (at) => rmSync(at('b'), { recursive: true }),
      second: (at) => (mkdirSync(at('b')), writeFileSync(at('b/x'), 'locked\n')),
    },
    {
      name: 'a pipe in the place of a file',
      first: (at) => (rmSync(at('one')), execFileSync('mkfifo', [at('one')])),
      second: (at) => (rmSync(at('one')), writeFileSync(at('one'), 'back\n')),
    },
  ];

  test('is right about every quirk, step by step', async () => {
    for (let n = 12; n < 40; n++) for (const [name, text] of Object.entries(startingTree)) write(`s${n}/${name}`, text);
    const { base } = await hold();
    for (const step of ['first', 'second'] as const) {
      for (const [n, quirk] of quirks.entries()) quirk[step]((name) => path.join(host, `s${n}`, name));
      const held = await hold();
      expect(held.base.meta.delta?.over).toBe(base.key);
      await expectWhatItHolds(held);
    }
  });

  test('sees a change that keeps size and time, and reads nothing else', async () => {
    const first = await hold();
    const { atime, mtime } = lstatSync(at('s5/one'));
    writeFileSync(at('s5/one'), 'eno\n');
    utimesSync(at('s5/one'), atime, mtime);
    const told: number[] = [];
    const onProgress = ({ filesTotal }: { filesTotal: number }): number => told.push(filesTotal);
    const { base } = await store.hold(newId(), await store.select(host, scope), scope, blobs, { onProgress });
    expect(new Set(told)).toEqual(new Set([1]));
    expect(base.meta.delta).toEqual({ over: first.base.key, names: 2 });
    expect(readFileSync(path.join(base.directory, 's5/one'), 'utf8')).toBe('eno\n');
    expect(readFileSync(path.join(first.base.directory, 's5/one'), 'utf8')).toBe('one\n');
    await expectWhatItHolds({ base, known: false });
  });

  test('is the one it was where a file was only touched, and is known from then on', async () => {
    const first = await hold();
    utimesSync(at('s5/one'), 1, 1);
    const second = await hold();
    expect([second.known, second.base.key]).toEqual([true, first.base.key]);
    const selection = await store.select(host, scope);
    writeFileSync(at('s5/one'), 'not read\n'); // after the look: nobody opens it
    expect((await store.hold(newId(), selection, scope, blobs)).base.key).toBe(first.base.key);
  });

  test('costs one look once more, after names came and went of which nothing is brought in', async () => {
    execFileSync('git', ['init', '-q'], { cwd: host, env });
    write('.gitignore', '*.log\n');
    const first = await hold();
    const isSameLook = async (): Promise<boolean> => {
      const { look, last } = await store.select(host, scope);
      return look.names === last?.names;
    };
    expect(await isSameLook()).toBe(true);
    write('s0/x.log', 'ignored\n');
    expect(await isSameLook()).toBe(false);
    expect((await hold()).base.key).toBe(first.base.key);
    expect(await isSameLook()).toBe(true);
  });

  test('lies over a whole one alone, however often it changes, and is whole again when much has changed', async () => {
    const first = await hold();
    const entries = first.base.meta.files + first.base.meta.directories;
    for (let n = 0; n < 5; n++) {
      appendFileSync(at(`s${n}/one`), 'more\n');
      const { base } = await hold();
      expect(base.meta.delta).toEqual({ over: first.base.key, names: 2 * (n + 1) });
    }
    for (let n = 0; n < entries / 8; n++) write(`s8/many/${n}`, `${n}\n`);
    const held = await hold();
    expect(held.base.meta.delta).toBeUndefined();
    expect(held.base.files.directories).toHaveLength(1);
    const inode = (directory: string, name: string): number => lstatSync(path.join(directory, name)).ino;
    expect(inode(held.base.directory, 's9/one')).toBe(inode(first.base.directory, 's9/one'));
    await expectWhatItHolds(held);
  });

  test('keeps the one below it, and lets it go with the last that lies over it', async () => {
    const first = await hold('first');
    appendFileSync(at('s0/one'), 'more\n');
    const second = await hold('second');
    appendFileSync(at('s0/one'), 'still more\n');
    const third = await hold('third');
    const [below, lower, upper] = [first.base.key, second.base.key, third.base.key];
    await store.release(below, 'first');
    expect(await store.remove(below)).toBe(false);
    expect(await store.collect({ count: 0 })).toEqual([]);
    expect((await store.list()).map(({ key, over }) => [key, over])).toEqual([
      [lower, below],
      [upper, below],
      [below, undefined],
    ]);
    await store.release(lower, 'second');
    expect(await store.collect({ count: 0 })).toEqual([lower]);
    await expectWhatItHolds(third);
    await store.release(upper, 'third');
    expect(await store.collect({ count: 0 })).toEqual([upper, below]);
    expect(readdirSync(path.join(home, 'bases')).filter((name) => name !== 'sources')).toEqual([]);
  });

  test('is never used without the one below it', async () => {
    const first = await hold();
    appendFileSync(at('s0/one'), 'more\n');
    const second = await hold('run');
    rmSync(path.dirname(first.base.directory), { recursive: true });
    expect(await store.find(second.base.key)).toBeUndefined();
    await store.release(second.base.key, 'run');
    const third = await hold();
    expect(third.base.meta.delta).toBeUndefined();
    await expectWhatItHolds(third);
  });

  test('keeps its ignore files where a diff finds them', async () => {
    execFileSync('git', ['init', '-q'], { cwd: host, env });
    write('.gitignore', 'build\n');
    await hold();
    write('s0/.gitignore', 'other\n');
    const { base } = await hold();
    expect(base.meta.delta).toBeDefined();
    for (const name of ['.gitignore', 's0/.gitignore']) {
      const node = base.tree.get(name);
      expect(node?.kind === 'file' && (await blobs.has(node.digest)), name).toBe(true);
    }
  });
});

type Place = (name: string) => string;

/** What an overlay shows of directories, the first on top: its rules in short, and nothing of ours. */
function shown(directories: readonly string[]): unknown {
  const look = (places: readonly Buffer[]): unknown[] => {
    const names = new Map(
      places.flatMap((place) => readdirSync(place, 'buffer').map((name) => [name.toString('latin1'), name])),
    );
    return [...names]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([shownName, name]) => {
        const there = places
          .map((place) => Buffer.concat([place, Buffer.from('/'), name]))
          .flatMap((file) => {
            const stats = lstatSync(file, { throwIfNoEntry: false });
            return stats === undefined ? [] : [{ file, stats }];
          });
        const [top] = there;
        if (top === undefined || top.stats.isCharacterDevice()) return [];
        const { uid, gid, mode } = top.stats;
        const about = [shownName, uid, gid, mode.toString(8)];
        if (top.stats.isSymbolicLink()) return [[...about, readlinkSync(top.file)]];
        if (!top.stats.isDirectory()) return [[...about, readFileSync(top.file, 'latin1')]];
        const end = there.findIndex(({ stats }) => !stats.isDirectory());
        return [[...about, look(there.slice(0, end < 0 ? undefined : end).map(({ file }) => file))]];
      });
  };
  return look(directories.map((directory) => Buffer.from(directory)));
}
