import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { DirectoryBox, changed, everything, found } from '../../../test/fixtures/directory-box.ts';
import { DirectoryFiles } from '../../../test/fixtures/directory-files.ts';
import { digestOf } from '../../digest.ts';
import type { Files, WalkItem } from '../../sandbox/spec.ts';

let box: DirectoryBox;

beforeEach(async () => {
  box = await DirectoryBox.create();
});
afterEach(() => box.remove());

describe('a sandbox that lies', () => {
  /** The box, with what it says about itself replaced. */
  function lying(
    walk: (items: AsyncIterable<WalkItem>) => AsyncIterable<WalkItem>,
    more: Partial<Files> = {},
  ): { files: Files } {
    const liar: Files = Object.assign(new DirectoryFiles(box.root), more);
    liar.walk = (paths, options) => walk(box.files.walk(paths, options));
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
    box.put({ a: 'old', b: 'same' });
    const base = await box.base();
    box.put({ a: 'new' });
    const sandbox = lying(async function* (items) {
      for await (const item of items) {
        yield item.kind === 'entry' ? { ...item, entry: { ...item.entry, digest: digestOf('lie') } } : item;
      }
    });
    const collected = await box.collect(base, everything, {}, sandbox.files);
    expect(collected.changeSet.changes.get('a')).toMatchObject({ digest: digestOf('new') });
    expect(changed(collected)).toEqual(['a']);
    expect(found(collected, 'digest_mismatch')).toEqual(['a', 'b']);
  });

  test.each(['../x', '/etc/x', 'a//b', 'a/../b', '.', 'a/.', 'x\0y', '\uDCC3\uDCA9'])(
    'the name %j is refused',
    async (name) => {
      const base = await box.base();
      const sandbox = lying(async function* (items) {
        yield entryOf(name);
        yield* items;
      });
      const collected = await box.collect(base, everything, {}, sandbox.files);
      expect(changed(collected)).toEqual([]);
      if (name !== '.') expect(found(collected, 'bad_name')).toEqual([name]);
    },
  );

  test('an endless listing ends at the limit, and nothing is taken for deleted', async () => {
    box.put({ a: 'x' });
    const base = await box.base();
    let told = 0;
    const sandbox = lying(async function* () {
      for (;;) yield entryOf(`f${told++}`, { type: 'directory' });
    });
    const collected = await box.collect(base, everything, { limits: { filesMax: 500 } }, sandbox.files);
    expect(told).toBeLessThan(510);
    expect(collected.complete).toBe(false);
    expect(found(collected, 'limit_exceeded')).toEqual(['']);
    expect([...collected.changeSet.changes.values()].some((change) => change.kind === 'deleted')).toBe(false);
  });

  test.each([
    ['truncated', [{ kind: 'end', truncated: true }]],
    ['without an end', []],
  ] as const)('a listing that is %s deletes nothing', async (_, items) => {
    box.put({ a: 'x' });
    const base = await box.base();
    const sandbox = lying(async function* () {
      yield* items;
    });
    const collected = await box.collect(base, everything, {}, sandbox.files);
    expect(collected.complete).toBe(false);
    expect(changed(collected)).toEqual([]);
  });

  test('the second of two entries with one name is refused', async () => {
    const base = await box.base();
    box.put({ a: 'x' });
    const sandbox = lying(async function* (items) {
      yield* [entryOf('b', { type: 'directory' }), entryOf('b', { type: 'symlink', target: '/etc' })];
      yield* items;
    });
    const collected = await box.collect(base, everything, {}, sandbox.files);
    expect(changed(collected)).toEqual(['a', 'b']);
    expect(found(collected, 'bad_name')).toEqual(['b']);
  });

  test('a name or depth beyond the limit stops the listing', async () => {
    const base = await box.base();
    for (const name of ['x'.repeat(5000), 'd/'.repeat(200) + 'x']) {
      const sandbox = lying(async function* (items) {
        yield entryOf(name);
        yield* items;
      });
      const collected = await box.collect(base, everything, {}, sandbox.files);
      expect(collected.complete).toBe(false);
    }
  });

  test('what cannot be read counts as unchanged, and is said', async () => {
    box.put({ 'closed/a': 'x', b: 'x' });
    const base = await box.base();
    const sandbox = lying(async function* () {
      yield entryOf('./closed', { type: 'directory' });
      yield { kind: 'unreadable', path: './closed', code: 'permission_denied' };
      yield { kind: 'end', truncated: false };
    });
    const collected = await box.collect(base, everything, {}, sandbox.files);
    expect(changed(collected)).toEqual(['b']);
    expect(found(collected, 'unreadable')).toEqual(['closed']);
    expect(collected.complete).toBe(false);
  });

  test('a file without end is cut off at the limit', async () => {
    const base = await box.base();
    box.put({ a: 'x' });
    let sent = 0;
    const sandbox = lying((items) => items, {
      read: async (name, options) => {
        const bytes = Buffer.alloc(options?.lengthBytes ?? 0);
        sent += bytes.length;
        return { entry: await box.files.stat(name), bytes };
      },
    });
    const limits = { fileBytesMax: 64 * 1024 * 1024 };
    const collected = await box.collect(base, everything, { limits }, sandbox.files);
    expect(changed(collected)).toEqual([]);
    expect(found(collected, 'limit_exceeded')).toEqual(['a']);
    expect(sent).toBeLessThanOrEqual(80 * 1024 * 1024);
  });

  test('a flood of one kind of finding does not hide the others', async () => {
    const base = await box.base();
    box.put({ '.git': 'gitdir: /elsewhere' });
    const sandbox = lying(async function* (items) {
      for (let n = 0; n < 5000; n++) yield entryOf(`-${n}`, { type: 'directory' });
      yield* items;
    });
    const collected = await box.collect(base, everything, {}, sandbox.files);
    expect(found(collected, 'git_metadata')).toEqual(['.git']);
    expect(found(collected, 'odd_name').length).toBe(200);
    expect(collected.findingsLeftOut).toBe(4800);
  });
});
