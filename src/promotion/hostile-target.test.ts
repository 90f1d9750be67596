import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DataDir } from '../data-dir/data-dir.ts';
import { PromotionBench, TestRepository } from './candidate.fixture.ts';
import { rollback } from './rollback.ts';

const base = { 'README.md': 'read me\n', 'src/a.ts': 'export const a = 1;\n', link: '-> README.md' };
const edits = { 'README.md': 'read me, and more\r\n', 'src/deeper/c.ts': 'c\n', link: '-> src/a.ts' };

let bench: PromotionBench;
let repository: TestRepository;
let dataDir: DataDir;

beforeEach(async () => {
  bench = await PromotionBench.create(base, edits);
  ({ repository, dataDir } = bench);
});
afterEach(() => bench.remove());

describe('a repository that is hostile itself', () => {
  test('runs nothing: hooks, filters, monitors, includes and helpers of its configuration are not even read', async () => {
    const marker = join(repository.home, 'ran');
    const evil = join(repository.home, 'evil.sh');
    writeFileSync(evil, `#!/bin/sh\necho "$0 $*" >> ${marker}\nexit 1\n`, { mode: 0o755 });
    const hooks = join(repository.home, 'hooks');
    for (const place of [hooks, join(repository.path, '.git/hooks')]) {
      mkdirSync(place, { recursive: true });
      for (const hook of ['pre-commit', 'post-commit', 'reference-transaction', 'update', 'post-checkout', 'pre-push'])
        writeFileSync(join(place, hook), `#!/bin/sh\necho ${hook} >> ${marker}\nexit 1\n`, { mode: 0o755 });
    }
    const candidate = bench.candidate({ ...edits, '.gitattributes': '* filter=evil diff=evil merge=evil\n' });
    const settings = ['core.fsmonitor', 'core.sshCommand', 'core.pager', 'core.editor', 'core.alternateRefsCommand'];
    const drivers = ['filter.evil.clean', 'filter.evil.smudge', 'filter.evil.process', 'diff.evil.textconv'];
    const more = ['diff.evil.command', 'merge.evil.driver', 'gpg.program', 'gc.auto', 'credential.helper'];
    for (const key of [...settings, ...drivers, ...more]) repository.git('config', key, evil);
    for (const [key, value] of [
      ['core.hooksPath', hooks],
      ['commit.gpgSign', 'true'],
      ['core.worktree', repository.home],
      ['include.path', join(repository.home, 'no-such-fifo')],
      ['filter.evil.required', 'true'],
      ['core.autocrlf', 'true'],
    ] as const)
      repository.git('config', key, value);
    execFileSync('mkfifo', [join(repository.home, 'no-such-fifo')]); // whoever reads it waits for ever
    writeFileSync(join(repository.path, '.git/info/attributes'), '* filter=evil text eol=crlf\n');
    const { commit } = await bench.promote(candidate);
    await rollback(dataDir, { promotion: (await bench.promote(candidate)).id, reason: 'x', by: 'ada' });
    expect(existsSync(marker)).toBe(false);
    rmSync(join(repository.home, 'no-such-fifo'));
    repository.git('config', '--unset', 'include.path');
    expect(existsSync(marker)).toBe(false);
    expect(repository.git('cat-file', 'blob', `${commit}:README.md`)).toBe('read me, and more\r');
  });

  const outside = (): string => join(repository.home, 'outside');
  test.each([
    ['refs', '.git/refs', /refs is a link/],
    ['branches', '.git/refs/heads', /heads is a link/],
    ['objects', '.git/objects', /objects is a link/],
    ['packs', '.git/objects/pack', /pack is a link/],
    ['packed refs', '.git/packed-refs', /packed-refs is a link/],
    ['HEAD', '.git/HEAD', /HEAD is a link/],
  ])('leads nowhere by a link where its %s are', async (_, name, says) => {
    const candidate = bench.candidate();
    const place = join(repository.path, name);
    if (existsSync(place)) renameSync(place, outside());
    else writeFileSync(outside(), '');
    const listed = (): string => execFileSync('find', [outside()], { stdio: 'pipe' }).toString();
    const before = listed();
    symlinkSync(outside(), place);
    await expect(bench.promote(candidate)).rejects.toMatchObject({
      code: 'target_refused',
      message: expect.stringMatching(says) as string,
    });
    expect(listed()).toBe(before);
  });

  test('leads to no repository of somebody else by its .git', async () => {
    const other = new TestRepository(base);
    const before = other.branches();
    const fake = join(repository.home, 'fake');
    for (const make of [
      () => writeFileSync(join(fake, '.git'), `gitdir: ${other.path}/.git\n`),
      () => symlinkSync(join(other.path, '.git'), join(fake, '.git')),
    ]) {
      mkdirSync(fake);
      make();
      await expect(bench.promote(bench.candidate(edits, other), { repository: fake })).rejects.toMatchObject({
        code: 'target_refused',
      });
      rmSync(fake, { recursive: true });
    }
    expect(other.branches()).toBe(before);
    other.remove();
  });

  test('a branch that is a link, or names another one, is not followed', async () => {
    const candidate = bench.candidate();
    const heads = join(repository.path, '.git/refs/heads');
    writeFileSync(outside(), `${repository.git('rev-parse', 'main')}\n`);
    symlinkSync(outside(), join(heads, 'linked'));
    writeFileSync(join(heads, 'symbolic'), 'ref: refs/heads/main\n');
    for (const branch of ['linked', 'symbolic'])
      await expect(bench.promote(candidate, { branch })).rejects.toMatchObject({ code: 'target_refused' });
    expect(readFileSync(outside(), 'utf8')).toBe(`${repository.git('rev-parse', 'main')}\n`);
  });

  test('objects that it names by the wrong content are found out', async () => {
    const candidate = bench.candidate();
    const [file = '', forged = ''] = ['HEAD:README.md', 'HEAD:src/a.ts'].map((name) => {
      const id = repository.git('rev-parse', name);
      return join(repository.path, '.git/objects', id.slice(0, 2), id.slice(2));
    });
    rmSync(file);
    writeFileSync(file, readFileSync(forged));
    await expect(bench.promote(candidate)).rejects.toMatchObject({
      code: expect.stringMatching(/conflict|target_refused/) as string,
    });
  });
});
