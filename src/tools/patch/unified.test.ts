import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MemoryFiles } from '../../../test/fixtures/memory-files.ts';
import { applyPatch } from '../apply-patch.ts';
import { ToolContext } from '../tool-context.ts';
import type { ToolData } from '../tool-result.ts';
import { parsePatch } from './parse-patch.ts';

async function apply(files: MemoryFiles, patch: string, dryRun = false): Promise<ToolData> {
  const context = new ToolContext({ files, start: () => Promise.reject(new Error('no commands here')) });
  return await applyPatch(context, { tool: 'apply_patch', patch, format: 'unified', dryRun });
}

const diff = (body: string, name = 'f'): string => `--- a/${name}\n+++ b/${name}\n${body}`;

describe('a unified diff', () => {
  it('is applied where it says', async () => {
    const files = new MemoryFiles({ f: 'a\nb\nc\n' });
    const done = await apply(files, diff('@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n'));
    expect(files.text('f')).toBe('a\nB\nc\n');
    expect(done).toMatchObject({ files: [{ action: 'updated', hunks: [{ line: 1, offset: 0, strategy: 'exact' }] }] });
  });

  it('is applied at the nearest other place, which is reported', async () => {
    const files = new MemoryFiles({ f: 'x\nx\nx\na\nb\nc\nx\n' });
    const done = await apply(files, diff('@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n'));
    expect(files.text('f')).toBe('x\nx\nx\na\nB\nc\nx\n');
    expect(done).toMatchObject({ files: [{ hunks: [{ line: 4, offset: 3 }] }] });
  });

  it('is never applied to context that differs, not even in white space', async () => {
    const files = new MemoryFiles({ f: 'a\n b\nc\n' });
    const before = files.snapshot();
    const patch = diff('@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n');
    await expect(apply(files, patch)).rejects.toMatchObject({ code: 'patch_mismatch', message: /line 2 is " b".*"b"/ });
    expect(files.snapshot()).toEqual(before);
  });

  it('keeps CRLF, also when the patch came with LF', async () => {
    const files = new MemoryFiles({ f: 'a\r\nb\r\nc\r\n', g: 'a\r\nb\r\nc\r\n' });
    await apply(files, diff('@@ -1,3 +1,4 @@\n a\r\n-b\r\n+B\r\n+C\r\n c\r\n'));
    const done = await apply(files, diff('@@ -1,3 +1,4 @@\n a\n-b\n+B\n+C\n c\n', 'g'));
    expect(files.text('f')).toBe('a\r\nB\r\nC\r\nc\r\n');
    expect(files.text('g')).toBe('a\r\nB\r\nC\r\nc\r\n');
    expect(done).toMatchObject({ files: [{ hunks: [{ strategy: 'trailing_space' }] }] });
  });

  it('that was itself carried with CRLF is read as LF', async () => {
    const files = new MemoryFiles({ f: 'a\nb\n' });
    await apply(files, diff('@@ -1,2 +1,2 @@\n a\n-b\n+B\n').replaceAll('\n', '\r\n'));
    expect(files.text('f')).toBe('a\nB\n');
  });

  it('adds and removes the newline at the end', async () => {
    const files = new MemoryFiles({ f: 'a\nb', g: 'a\nb\n' });
    await apply(files, diff('@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n'));
    await apply(files, diff('@@ -1,2 +1,2 @@\n a\n-b\n+b\n\\ No newline at end of file\n', 'g'));
    expect([files.text('f'), files.text('g')]).toEqual(['a\nb\n', 'a\nb']);
    await expect(apply(files, diff('@@ -1,2 +1,2 @@\n a\n-b\n+c\n', 'g'))).rejects.toMatchObject({
      code: 'patch_mismatch',
    });
  });

  it('makes, deletes, renames and changes modes in one go', async () => {
    const files = new MemoryFiles({ old: 'x\n', gone: 'y\n', tool: 'z\n' });
    const done = await apply(
      files,
      [
        'diff --git a/dir/new b/dir/new\nnew file mode 100755\nindex 0000000..1\n--- /dev/null\n+++ b/dir/new\n@@ -0,0 +1 @@\n+n',
        'diff --git a/gone b/gone\ndeleted file mode 100644\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-y',
        'diff --git a/old b/moved\nsimilarity index 100%\nrename from old\nrename to moved',
        'diff --git a/tool b/tool\nold mode 100644\nnew mode 100755',
        'diff --git a/empty b/empty\nnew file mode 100644\nindex 0000000..e69de29\n',
      ].join('\n'),
    );
    expect(done).toMatchObject({
      files: [
        { action: 'added' },
        { action: 'deleted' },
        { action: 'moved', movedFrom: 'old' },
        { action: 'mode' },
        { action: 'added' },
      ],
    });
    expect(files.snapshot()).toEqual({
      '/workspace': 'directory 755 ',
      '/workspace/dir': 'directory 755 ',
      '/workspace/dir/new': 'file 755 bgo=',
      '/workspace/empty': 'file 644 ',
      '/workspace/moved': 'file 644 eAo=',
      '/workspace/tool': 'file 755 ego=',
    });
  });

  it.each([
    ['binary', 'diff --git a/x b/x\nindex 1..2\nGIT binary patch\nliteral 0\n', /binary/],
    ['binary, in words', 'diff --git a/x b/x\nBinary files a/x and b/x differ\n', /binary/],
    [
      'a link',
      'diff --git a/x b/x\nnew file mode 120000\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+/etc\n',
      /symbolic link/,
    ],
    ['a submodule', 'diff --git a/x b/x\nnew file mode 160000\n', /submodule/],
    ['setuid', 'diff --git a/x b/x\nold mode 100644\nnew mode 104755\n', /mode 104755/],
    ['cut off', diff('@@ -1,3 +1,3 @@\n a\n-b\n'), /body differs/],
    ['no file', 'hello\n', /no file/],
    ['a hunk alone', '@@ -1 +1 @@\n-a\n+b\n', /without a/],
  ])('that is %s is refused and says so', (_, patch, message) => {
    expect(() => parsePatch(patch)).toThrow(message);
  });

  it.each(['../x', '/etc/passwd', 'a/../../x'])('never leaves the workspace: %s', async (name) => {
    const files = new MemoryFiles();
    const patch = `--- /dev/null\n+++ ${name}\n@@ -0,0 +1 @@\n+x\n`;
    await expect(apply(files, patch)).rejects.toMatchObject({ code: 'invalid_path' });
  });

  it('is not half applied: a file that cannot be written puts the others back', async () => {
    const files = new MemoryFiles({ a: 'a\n', c: 'c\n' });
    const before = files.snapshot();
    files.failWrites.add('c');
    const one = (name: string): string => diff(`@@ -1 +1 @@\n-${name}\n+X\n`, name);
    const added = '--- /dev/null\n+++ b/deep/er/b\n@@ -0,0 +1 @@\n+x\n';
    await expect(apply(files, one('a') + added + one('c'))).rejects.toMatchObject({ code: 'no_space' });
    expect(files.snapshot()).toEqual(before);
  });

  it('is only checked in a dry run', async () => {
    const files = new MemoryFiles({ f: 'a\n' });
    expect(await apply(files, diff('@@ -1 +1 @@\n-a\n+b\n'), true)).toMatchObject({
      dryRun: true,
      files: [{ added: 1 }],
    });
    expect(files.text('f')).toBe('a\n');
  });

  it('may rename one file to the place of another that is renamed too', async () => {
    const files = new MemoryFiles({ a: 'a\n', b: 'b\n' });
    const rename = (from: string, to: string): string =>
      `diff --git a/${from} b/${to}\nsimilarity index 100%\nrename from ${from}\nrename to ${to}\n`;
    await apply(files, rename('a', 'b') + rename('b', 'c'));
    expect([files.text('a'), files.text('b'), files.text('c')]).toEqual([undefined, 'a\n', 'b\n']);
    await expect(apply(files, rename('b', 'c'))).rejects.toMatchObject({ code: 'exists' });
  });

  it('may touch one file twice', async () => {
    const files = new MemoryFiles({ f: 'a\n' });
    await apply(files, diff('@@ -1 +1 @@\n-a\n+b\n') + diff('@@ -1 +1 @@\n-b\n+c\n'));
    expect(files.text('f')).toBe('c\n');
  });
});

describe('what git diff writes', () => {
  let repository = '';
  beforeAll(async () => {
    repository = await mkdtemp(join(tmpdir(), 'unified-'));
    await execa('git', ['init', '-q'], { cwd: repository });
  });
  afterAll(async () => {
    await rm(repository, { recursive: true, force: true });
  });

  async function treeOf(files: Record<string, string>): Promise<string> {
    await execa('git', ['rm', '-rfq', '--ignore-unmatch', '.'], { cwd: repository });
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(repository, name)), { recursive: true });
      await writeFile(join(repository, name), content);
    }
    await execa('git', ['-c', 'core.autocrlf=false', 'add', '-A'], { cwd: repository });
    return (await execa('git', ['write-tree'], { cwd: repository })).stdout;
  }

  const name = fc.constantFrom('a', 'b', 'dir/c', 'with space', 'tab\there', 'ü', 'quote"d', 'b b');
  const line = fc.constantFrom('one', 'two', 'three', '', ' x', '-- y', '+++ z', '--- q', 'r\r', 'ü', '\\ No newline');
  const content = fc
    .tuple(fc.array(line, { maxLength: 30 }), fc.boolean())
    .map(([lines, end]) => lines.join('\n') + (end && lines.length > 0 ? '\n' : ''));
  const tree = fc.dictionary(name, content, { maxKeys: 4 });
  const edited = fc.tuple(tree, tree, fc.boolean()).map(([before, other, all]) => ({
    before,
    // Mostly small changes to what is there, as a diff of unrelated files is one large hunk.
    after: all
      ? other
      : Object.fromEntries(Object.entries(before).map(([n, c]) => [n, c.replace(/one|three/, 'changed')])),
  }));

  it('applied to the old tree gives the new one', async () => {
    await fc.assert(
      fc.asyncProperty(edited, fc.integer({ min: 0, max: 3 }), async ({ before, after }, context) => {
        const [from, to] = [await treeOf(before), await treeOf(after)];
        const { stdout } = await execa('git', ['diff', '-M', `-U${context}`, from, to], {
          cwd: repository,
          stripFinalNewline: false,
        });
        if (stdout === '') return;
        const files = new MemoryFiles(before);
        await apply(files, stdout);
        const names = new Set([...Object.keys(before), ...Object.keys(after)]);
        const found = [...names].filter((n) => files.text(n) !== undefined).map((n) => [n, files.text(n)]);
        expect(Object.fromEntries(found)).toEqual(after);
      }),
      { numRuns: 60 },
    );
  });
});
