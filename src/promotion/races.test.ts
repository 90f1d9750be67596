import { existsSync, renameSync, rmSync, symlinkSync, writeFileSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PromotionBench } from './candidate.fixture.ts';
import type { Candidate } from './promote.ts';

const base = { 'README.md': 'read me\n', 'src/a.ts': 'a\n' };
const edits = { 'README.md': 'read me, and more\n' };

let bench: PromotionBench;
let git: (...args: readonly string[]) => string;
let dotGit: string;

beforeEach(async () => {
  bench = await PromotionBench.create(base, edits);
  git = (...args) => bench.repository.git(...args);
  dotGit = join(bench.repository.path, '.git');
});
afterEach(() => bench.remove());

/** Something happens once everything was looked at, and before the branch is swapped: while contents are read. */
function meanwhile(what: () => void): Candidate {
  const candidate = bench.candidate();
  let done = false;
  const contents: Candidate['contents'] = async (digest) => {
    if (!done) what();
    done = true;
    return candidate.contents(digest);
  };
  return { ...candidate, contents };
}

const outside = (): string => join(bench.repository.home, 'outside');

test('a branch that moves between check and swap stays where it was moved to', async () => {
  git('branch', 'next');
  const other = git('commit-tree', '-m', 'by somebody', '-p', 'main', 'main^{tree}');
  const candidate = meanwhile(() => git('update-ref', 'refs/heads/next', other));
  const promoted = bench.promote(candidate, { branch: 'next' });
  await expect(promoted).rejects.toMatchObject({ code: 'conflict', message: expect.stringContaining(other) as string });
  expect(git('rev-parse', 'next')).toBe(other);
  // The next one looks at it anew, and goes on top of it.
  expect((await bench.promote(candidate, { branch: 'next' })).parent).toBe(other);
});

test('a branch that somebody makes or removes meanwhile is left alone', async () => {
  const made = meanwhile(() => git('branch', 'mine', 'main'));
  await expect(bench.promote(made, { branch: 'mine' })).rejects.toMatchObject({ code: 'conflict' });
  expect(git('rev-parse', 'mine')).toBe(git('rev-parse', 'main'));
  git('branch', 'gone');
  const removed = meanwhile(() => git('branch', '-D', 'gone'));
  await expect(bench.promote(removed, { branch: 'gone' })).rejects.toMatchObject({ code: 'conflict' });
  expect(git('branch', '--list', 'gone')).toBe('');
});

test('a branch that is packed meanwhile is still what it was', async () => {
  git('branch', 'next');
  const { commit } = await bench.promote(
    meanwhile(() => git('pack-refs', '--all', '--prune')),
    { branch: 'next' },
  );
  expect(git('rev-parse', 'next')).toBe(commit);
});

test('a branch that is checked out meanwhile is refused', async () => {
  git('branch', 'next');
  const candidate = meanwhile(() => git('checkout', '-q', 'next'));
  await expect(bench.promote(candidate, { branch: 'next' })).rejects.toThrow(/checked out/);
  expect(git('status', '--porcelain')).toBe('');
});

test.each(['refs', 'refs/heads', 'objects/pack'])('%s that becomes a link meanwhile leads nowhere', async (name) => {
  const place = join(dotGit, name);
  mkdirSync(outside());
  const candidate = meanwhile(() => {
    renameSync(place, `${place}.moved`);
    symlinkSync(outside(), place);
  });
  await expect(bench.promote(candidate)).rejects.toMatchObject({ code: 'target_refused' });
  expect(readdirSync(outside())).toEqual([]);
  rmSync(place);
  renameSync(`${place}.moved`, place);
  expect(git('for-each-ref', '--format=%(refname)')).toBe('refs/heads/main');
});

test('a repository that is swapped for a link meanwhile is the one that was looked at', async () => {
  mkdirSync(outside());
  const moved = join(bench.repository.home, 'moved.git');
  const candidate = meanwhile(() => {
    renameSync(dotGit, moved);
    symlinkSync(outside(), dotGit);
  });
  await bench.promote(candidate).catch(() => undefined); // whatever it came to
  expect(readdirSync(outside())).toEqual([]);
});

test("somebody's lock on the branch is waited for, and left alone", async () => {
  const lock = join(dotGit, 'refs/heads/next.lock');
  git('branch', 'next');
  const candidate = meanwhile(() => {
    writeFileSync(lock, 'of somebody\n');
    setTimeout(() => rmSync(lock), 300);
  });
  const { commit } = await bench.promote(candidate, { branch: 'next' });
  expect(git('rev-parse', 'next')).toBe(commit);
  expect(existsSync(lock)).toBe(false);
});
