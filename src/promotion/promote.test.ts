import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DataDir } from '../data-dir/data-dir.ts';
import { accepted, candidateOf, PromotionBench, TestRepository, type Files } from './candidate.fixture.ts';
import { Ledger } from './ledger.ts';
import type { Candidate, PromoteRequest, Promoted } from './promote.ts';
import { rollback } from './rollback.ts';

const base = {
  'README.md': 'read me\n',
  'src/a.ts': 'export const a = 1;\n',
  'src/gone.ts': 'x\n',
  'src/deep/b.ts': 'b\n',
  link: '-> README.md',
  'tool.sh': '#!/bin/sh\n',
};
const edits = {
  'README.md': 'read me, and more\r\n',
  'src/gone.ts': null,
  'src/deep/b.ts': '#!/bin/sh\nnow a program\n',
  link: '-> src/a.ts',
  'new dir/"odd"\n\\name': 'new\n',
  'src/deeper/c.ts': 'c\n',
};

let bench: PromotionBench;
let repository: TestRepository;
let dataDir: DataDir;

beforeEach(async () => {
  bench = await PromotionBench.create(base, edits);
  ({ repository, dataDir } = bench);
});
afterEach(() => bench.remove());

const ofRepository = (over?: Files, at?: TestRepository): Candidate => bench.candidate(over, at);
const go = (candidate: Candidate, over?: Partial<PromoteRequest>): Promise<Promoted> => bench.promote(candidate, over);

describe('a bundle that is promoted', () => {
  test('is one commit on a branch of its own, with all changes byte for byte and nothing else', async () => {
    const candidate = ofRepository();
    const { commit, branch } = await go(candidate);
    expect(branch).toBe(`glovebox/${candidate.manifest.run.slice(0, 10)}`);
    expect(repository.git('rev-parse', branch)).toBe(commit);
    expect(repository.git('rev-parse', `${commit}^`)).toBe(repository.git('rev-parse', 'main'));
    expect(repository.git('fsck', '--full', '--strict')).toBe('');
    repository.git('checkout', '-q', branch);
    const read = (path: string): string => readFileSync(join(repository.path, path), 'utf8');
    for (const [path, text] of Object.entries({ ...base, ...edits })) {
      if (text === null) expect(existsSync(join(repository.path, path))).toBe(false);
      else if (text.startsWith('-> ')) expect(repository.git('show', `${branch}:${path}`)).toBe(text.slice(3));
      else expect(read(path)).toBe(text);
    }
    expect(repository.git('ls-tree', '-r', branch, 'src/deep')).toMatch(/^100755/);
    expect(repository.git('diff', '--name-only', 'main', branch).split('\n')).toHaveLength(Object.keys(edits).length);
    expect(repository.leftovers()).toEqual([]);
  });

  test('says in its trailers what it was made of and who has accepted it', async () => {
    const candidate = candidateOf(base, edits, {
      intent: 'mend the parser\n\nReviewed-by: mallory',
      base: { digest: `sha256:${'0'.repeat(64)}`, commit: repository.git('rev-parse', 'HEAD') },
    });
    const { commit } = await go(candidate, { author: { name: 'Bot', email: 'bot@example.org' } });
    const { run, policy } = candidate.manifest;
    const trailers = repository.git('log', '-1', '--format=%(trailers)', commit).trim().split('\n');
    expect(trailers).toEqual([
      `Glovebox-Run: ${run}`,
      `Glovebox-Bundle: ${candidate.digest}`,
      `Glovebox-Policy: ${policy}`,
      'Reviewed-by: ada',
    ]);
    expect(repository.git('log', '-1', '--format=%an %ae %s', commit)).toBe(
      'Bot bot@example.org mend the parser Reviewed-by: mallory',
    );
  });

  test('goes onto a branch that is there, on top of what it names', async () => {
    repository.git('branch', 'next');
    const { commit, parent } = await go(ofRepository(), { branch: 'next' });
    expect([repository.git('rev-parse', 'next'), repository.git('rev-parse', 'next^')]).toEqual([commit, parent]);
  });

  test('is the same commit when it is promoted again, and when 50 do so at once', async () => {
    const candidate = ofRepository();
    const all = await Promise.all(Array.from({ length: 50 }, () => go(candidate)));
    expect(new Set(all.map(({ commit }) => commit)).size).toBe(1);
    expect(all.filter(({ again }) => !again)).toHaveLength(1);
    const [first] = all;
    expect(repository.git('rev-list', '--count', `main..${first?.branch ?? ''}`)).toBe('1');
    expect((await go(candidate)).commit).toBe(first?.commit);
    expect(await new Ledger(dataDir).list()).toHaveLength(1);
  });

  test.each([
    ['by SHA-256', ['--object-format=sha256']],
    ['without a work tree', ['--bare']],
  ])('goes into a repository %s', async (_, options) => {
    const other = options.includes('--bare') ? repository : new TestRepository(base, options);
    const path = options.includes('--bare') ? join(repository.home, 'bare.git') : other.path;
    if (options.includes('--bare')) repository.git('clone', '-q', '--bare', '.', path);
    const { commit, branch } = await go(ofRepository(edits, other), { repository: path });
    const git = (...args: string[]): string =>
      execFileSync('git', args, { cwd: path, stdio: 'pipe' }).toString().trim();
    expect(git('rev-parse', branch)).toBe(commit);
    expect(git('fsck', '--full')).toBe('');
    if (other !== repository) other.remove();
  });

  test('goes into the repository of a linked work tree', async () => {
    const linked = join(repository.home, 'linked');
    repository.git('worktree', 'add', '-q', '-b', 'other', linked);
    const { commit, branch } = await go(ofRepository(), { repository: linked });
    expect(repository.git('rev-parse', branch)).toBe(commit);
    await expect(go(ofRepository(), { branch: 'other' })).rejects.toThrow(/checked out in .*linked/);
  });

  test('of a workspace below the top changes files there', async () => {
    const deep = Object.fromEntries(Object.entries(base).map(([path, text]) => [`services/api/${path}`, text]));
    const other = new TestRepository(deep);
    const commit = other.git('rev-parse', 'HEAD');
    const below = { digest: `sha256:${'0'.repeat(64)}`, commit, below: 'services/api' } as const;
    const made = await go(candidateOf(base, edits, { base: below }), { repository: other.path });
    expect(other.git('show', `${made.branch}:services/api/src/deeper/c.ts`)).toBe('c');
    other.remove();
  });
});

describe('nothing is promoted, and the repository stays as it was,', () => {
  async function refused(work: Promise<unknown>, code: string, says: RegExp): Promise<void> {
    const before = repository.branches();
    await expect(work).rejects.toMatchObject({ code, message: expect.stringMatching(says) as string });
    expect(repository.branches()).toBe(before);
    expect(repository.leftovers()).toEqual([]);
  }

  test.each([
    ['changed', { 'README.md': 'by somebody\n' }, /README.md.*no longer what the run began with/],
    ['deleted', { 'README.md': null }, /no longer what the run began with/],
    ['another kind of file', { link: 'a file\n' }, /no longer what the run began with/],
    ['there', { 'src/deeper/c.ts': 'by somebody\n' }, /something is there now/],
    ['a file where a directory is to be', { 'src/deeper': 'x\n' }, /is no directory there/],
    ['the same but for its case', { 'SRC/deeper/C.ts': 'x\n' }, /where case does not count/],
  ])('where a file is %s by now', async (_, meanwhile: Files, says) => {
    const candidate = ofRepository();
    repository.commit(meanwhile);
    repository.git('branch', 'next');
    await refused(go(candidate, { branch: 'next' }), 'conflict', says);
  });

  test.each([
    ['.git/hooks/post-checkout', {}],
    ['deep/.GIT/config', {}],
    ['git~1/config', {}],
    ['hooks/post-checkout', { below: '.git' }],
  ])("where a path is git's own for some file system: %s", async (path, place) => {
    const { manifest, ...rest } = ofRepository({ [path]: '#!/bin/sh\n' });
    const candidate = { ...rest, manifest: { ...manifest, base: { ...manifest.base, ...place } } };
    await refused(go(candidate), 'bundle_refused', /git's own directory/);
  });

  test('where a directory with files that the run did not see would be replaced', async () => {
    const candidate = ofRepository({ data: 'a file now\n' });
    repository.commit({ 'data/unseen': 'x\n' });
    repository.git('branch', 'next');
    await refused(go(candidate, { branch: 'next' }), 'conflict', /which the run did not see/);
  });

  test('where other files have moved on, unless it is verified there', async () => {
    const candidate = ofRepository();
    repository.commit({ 'src/a.ts': 'moved on\n' });
    repository.git('branch', 'next');
    await refused(go(candidate, { branch: 'next' }), 'conflict', /rebases cleanly .* 1 file .*"src\/a.ts".*--reverify/);
  });

  test('where the run began with files that were never committed', async () => {
    const dirty = { ...base, 'src/a.ts': 'not committed\n' };
    const commit = repository.git('rev-parse', 'HEAD');
    const candidate = candidateOf(dirty, edits, { base: { digest: `sha256:${'0'.repeat(64)}`, commit } });
    await refused(go(candidate), 'conflict', /"src\/a.ts"/);
  });

  test('where the branch is checked out, being rebased or bisected', async () => {
    await refused(go(ofRepository(), { branch: 'main' }), 'conflict', /checked out in /);
    repository.git('branch', 'busy');
    for (const [name, text] of [
      ['rebase-merge/head-name', 'refs/heads/busy\n'],
      ['BISECT_START', 'busy\n'],
    ] as const) {
      mkdirSync(join(repository.path, '.git', 'rebase-merge'), { recursive: true });
      writeFileSync(join(repository.path, '.git', name), text);
      await refused(go(ofRepository(), { branch: 'busy' }), 'conflict', /checked out in /);
      rmSync(join(repository.path, '.git', name));
    }
  });

  test('without the reviews that are asked for, or after a rejection', async () => {
    const candidate = ofRepository();
    await refused(go(candidate, { reviews: [] }), 'promotion_denied', /needs one review and has 0/);
    const no = { ...accepted(candidate, 'eve'), verdict: 'rejected', reason: 'too much' } as const;
    await refused(
      go(candidate, { reviews: [accepted(candidate, 'ada'), no] }),
      'promotion_denied',
      /rejected by eve: too much/,
    );
  });

  test.each([['failed'], ['broken'], [undefined]] as const)('when the verification says %s', async (verdict) => {
    const commit = repository.git('rev-parse', 'HEAD');
    const verification = verdict === undefined ? undefined : { id: '0'.repeat(26), digest: digest0, verdict };
    const over = { base: { digest: digest0, commit }, ...(verification === undefined ? {} : { verification }) };
    const candidate = candidateOf(base, edits, over);
    const { verification: _, ...unverified } = candidate.manifest;
    const manifest = verdict === undefined ? unverified : candidate.manifest;
    await refused(go({ ...candidate, manifest }), 'promotion_denied', /is not promoted/);
  });

  test('when it has no commit to begin from', async () => {
    await refused(go(candidateOf(base, edits)), 'conflict', /did not begin at a commit/);
    const elsewhere = candidateOf(base, edits, { base: { digest: digest0, commit: 'c'.repeat(40) } });
    await refused(go(elsewhere), 'conflict', /has no commit cccc/);
  });

  test.each([['-x'], ['a..b'], ['x.lock'], ['refs/heads/x'], ['a b'], ['HEAD'], ['']])(
    'onto %j, which is no name of a branch',
    async (branch) => {
      await refused(go(ofRepository(), { branch }), 'invalid_request', /no name of a branch/);
    },
  );

  test('where a branch of that name leaves no room', async () => {
    repository.git('branch', 'glovebox');
    await refused(go(ofRepository()), 'target_refused', /glovebox.* is a link, or not what a repository has there/);
    repository.git('pack-refs', '--all');
    rmSync(join(repository.path, '.git/refs/heads/glovebox'), { force: true });
    await refused(go(ofRepository()), 'conflict', /refs\/heads\/glovebox is a branch/);
  });
});

const digest0 = `sha256:${'0'.repeat(64)}` as const;

describe('owners', () => {
  test('have to be among the reviewers where a rule asks for them, by the CODEOWNERS of the base', async () => {
    const other = new TestRepository({ ...base, CODEOWNERS: '* @nobody\nsrc/ @org/core\nlink ada@example.org\n' });
    const files = { ...base, CODEOWNERS: '* @nobody\nsrc/ @org/core\nlink ada@example.org\n' };
    const commit = other.git('rev-parse', 'HEAD');
    const rules = [{ id: 'owned', action: 'review', reviews: 1, owners: true }] as const;
    // The change itself makes everybody an owner: that counts for nothing.
    const change = { 'src/a.ts': 'export const a = 2;\n', CODEOWNERS: '* @ada\n' };
    const at = { base: { digest: digest0, commit } };
    const candidate = candidateOf(files, change, at, { promotion: [{ layer: 'p', rules }] });
    const asked = { repository: other.path, reviews: [accepted(candidate, 'ada')] };
    await expect(go(candidate, asked)).rejects.toThrow(/owner of "(CODEOWNERS|src\/a.ts)" and 1 more/);
    const small = candidateOf(files, { 'src/a.ts': 'a\n' }, at, { promotion: [{ layer: 'p', rules }] });
    const reviews = [accepted(small, 'grace')];
    await expect(go(small, { repository: other.path, reviews })).rejects.toThrow(/CODEOWNERS: @org\/core/);
    const members = { '@org/core': ['Grace'] };
    const { commit: made } = await go(small, { repository: other.path, reviews, members });
    expect(other.git('log', '-1', '--format=%s', made)).toBe('mend it');
    other.remove();
  });
});

test('where nobody owns anything, as many people are asked all the same, and the record says that there was no list', async () => {
  const rules = [{ id: 'owned', action: 'review', reviews: 2, owners: true }] as const;
  const commit = repository.git('rev-parse', 'HEAD');
  const candidate = candidateOf(
    base,
    { 'src/a.ts': 'a\n' },
    { base: { digest: digest0, commit } },
    { promotion: [{ layer: 'p', rules }] },
  );
  await expect(go(candidate, { reviews: [accepted(candidate, 'ada')] })).rejects.toThrow(/needs 2 reviews.* and has 1/);
  const reviews = [accepted(candidate, 'ada'), accepted(candidate, 'grace')];
  const { id } = await go(candidate, { reviews });
  const { demand } = (await new Ledger(dataDir).get(id)).intended;
  expect(demand).toMatchObject({
    owners: true,
    because: [/rule owned/, /has no CODEOWNERS/].map((text) => expect.stringMatching(text)),
  });
});

test('an acceptance of who is not known as surely as the policy wants counts for nothing, and is named', async () => {
  const commit = repository.git('rev-parse', 'HEAD');
  const policy = { promotion: [{ layer: 'p', rules: [], reviewers: 'authenticated' }] } as const;
  const candidate = candidateOf(base, { 'src/a.ts': 'a\n' }, { base: { digest: digest0, commit } }, policy);
  const said = accepted(candidate, 'ada');
  await expect(go(candidate, { reviews: [said] })).rejects.toThrow(/has 0, without that of ada.*a key of theirs/);
  const { commit: made } = await go(candidate, { reviews: [said, { ...said, known: 'authenticated' }] });
  expect(repository.git('log', '-1', '--format=%(trailers:key=Reviewed-by,valueonly)', made).trim()).toBe('ada');
});

describe('a rollback', () => {
  test('is the way back as a commit, recorded; the same once more is that commit', async () => {
    const { id, commit, branch } = await go(ofRepository());
    repository.git('checkout', '-q', branch);
    repository.commit({ 'src/a.ts': 'somebody went on\n' });
    repository.git('checkout', '-q', 'main');
    const all = await Promise.all(
      Array.from({ length: 10 }, () => rollback(dataDir, { promotion: id, reason: 'it broke\nthings', by: 'ada' })),
    );
    const [undone] = all;
    expect(new Set(all.map((one) => one.commit)).size).toBe(1);
    expect(repository.git('rev-parse', branch)).toBe(undone?.commit);
    expect(repository.git('diff', '--name-only', 'main', branch)).toBe('src/a.ts');
    expect(repository.git('log', '-1', '--format=%s%n%(trailers:key=Glovebox-Reverts,valueonly)', branch).trim()).toBe(
      `Revert "mend it"\n${commit}`,
    );
    expect((await new Ledger(dataDir).get(id)).rolledBack).toMatchObject({ reason: 'it broke\nthings', by: 'ada' });
    await expect(go(ofRepository())).resolves.toMatchObject({ again: false });
  });

  test('a bundle that was rolled back does not go onto that branch again', async () => {
    const candidate = ofRepository();
    const { id } = await go(candidate);
    await rollback(dataDir, { promotion: id, reason: 'it broke', by: 'ada' });
    await expect(go(candidate)).rejects.toMatchObject({ code: 'promotion_denied' });
  });

  test('is refused where its files have changed since, or the branch does not have it', async () => {
    const { id, branch } = await go(ofRepository());
    const again = (over = {}): Promise<unknown> =>
      rollback(dataDir, { promotion: id, reason: 'x', by: 'ada', ...over });
    await expect(again({ reason: ' ' })).rejects.toMatchObject({ code: 'invalid_request' });
    await expect(again({ branch: 'main' })).rejects.toThrow(/does not have/);
    repository.git('checkout', '-q', branch);
    repository.commit({ 'README.md': 'somebody went on\n' });
    await expect(again()).rejects.toThrow(/1 of its files have changed since, such as "README.md"/);
  });
});
