import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryFiles } from '../../../test/fixtures/memory-files.ts';
import { applyPatch } from '../apply-patch.ts';
import { ToolContext } from '../tool-context.ts';
import { ToolError, type ToolData } from '../tool-result.ts';
import { parsePatch } from './parse-patch.ts';

async function apply(files: MemoryFiles, body: string): Promise<ToolData> {
  const context = new ToolContext({ files, start: () => Promise.reject(new Error('no commands here')) });
  const patch = `*** Begin Patch\n${body}\n*** End Patch`;
  return await applyPatch(context, { tool: 'apply_patch', patch, format: 'auto', dryRun: false });
}

async function updated(content: string, hunks: string): Promise<string | undefined> {
  const files = new MemoryFiles({ f: content });
  await apply(files, `*** Update File: f\n${hunks}`);
  return files.text('f');
}

const code = 'class A:\n    def f(self):\n        return 1\n\nclass B:\n    def f(self):\n        return 1\n';

describe('the form that agents write', () => {
  it('adds, updates, moves and deletes in one patch', async () => {
    const files = new MemoryFiles({ a: 'one\ntwo\n', b: 'x\n', c: 'old\n' });
    const done = await apply(
      files,
      '*** Add File: new/n\n+hello\n+\n*** Update File: a\n@@\n one\n-two\n+2\n*** Delete File: b\n*** Update File: c\n*** Move to: d\n@@\n-old\n+new',
    );
    expect(done).toMatchObject({
      format: 'v4a',
      files: [{ action: 'added' }, { action: 'updated' }, { action: 'deleted' }, { action: 'moved', path: 'd' }],
    });
    expect([files.text('new/n'), files.text('a'), files.text('b'), files.text('c'), files.text('d')]).toEqual([
      'hello\n\n',
      'one\n2\n',
      undefined,
      undefined,
      'new\n',
    ]);
  });

  it('goes to the place after its anchors', async () => {
    const hunk = '@@ class B:\n@@     def f(self):\n-        return 1\n+        return 2';
    expect(await updated(code, hunk)).toBe(code.replace(/return 1\n$/, 'return 2\n'));
    expect(await updated(code, '-        return 1\n+        return 2')).toBe(code.replace('return 1', 'return 2'));
  });

  it('says which anchor is missing', async () => {
    await expect(updated(code, '@@ class C:\n-a\n+b')).rejects.toMatchObject({ message: /"class C:"/ });
  });

  it.each([
    ['exact', 'a\n b\nc\n', ' a\n- b\n+B\n c'],
    ['trailing_space', 'a  \nb\t\nc\n', ' a\n-b\n+B\n c'],
    ['trimmed', '  a\n    b\n  c\n', ' a\n-b\n+B\n c'],
    ['unicode', 'a – “q”\nb\u00a0x\nc\n', ' a - "q"\n-b x\n+B\n c'],
  ])('overlooks as little as needed: %s', async (strategy, content, hunk) => {
    const files = new MemoryFiles({ f: content });
    const done = await apply(files, `*** Update File: f\n@@\n${hunk}`);
    expect(done).toMatchObject({ files: [{ hunks: [{ strategy }] }] });
    const lines = content.split('\n');
    expect(files.text('f')).toBe([lines[0], 'B', lines[2], ''].join('\n'));
  });

  it('prefers an exact place further down to a lenient one before it', async () => {
    expect(await updated(' x\nx\n', '-x\n+y')).toBe(' x\ny\n');
  });

  it('puts lines without context at the end, or after the anchor', async () => {
    expect(await updated('a\nb\n', '@@\n+c')).toBe('a\nb\nc\n');
    expect(await updated('a\nb\n', '@@ a\n+c')).toBe('a\nc\nb\n');
    expect(await updated('a\nb', '@@\n+c')).toBe('a\nb\nc');
  });

  it('takes the last place for a hunk at the end of the file', async () => {
    expect(await updated('x\ny\nx\n', '@@\n-x\n+z\n*** End of File')).toBe('x\ny\nz\n');
  });

  it('keeps CRLF and a missing newline at the end', async () => {
    expect(await updated('a\r\nb\r\nc', ' a\n-b\n+x\n+y\n c')).toBe('a\r\nx\r\ny\r\nc');
  });

  it('is read out of a here-document around it', () => {
    const text = "apply_patch <<'EOF'\n*** Begin Patch\n*** Delete File: a\n*** End Patch\nEOF\n";
    expect(parsePatch(text).files).toMatchObject([{ action: 'delete', path: 'a' }]);
  });

  it.each([
    ['*** Begin Patch\n*** Delete File: a\n', /cut off/],
    ['*** Begin Patch\n*** Add File: a\nx\n*** End Patch', /line 3 .*begins with "\+"/],
    ['*** Begin Patch\n*** Update File: a\n@@\n*x\n*** End Patch', /line 4/],
    ['*** Begin Patch\n*** Update File: a\n*** End Patch', /changes nothing/],
    ['*** Begin Patch\nhello\n*** End Patch', /line 2/],
  ])('is refused with the line: %j', (text, message) => {
    expect(() => parsePatch(text)).toThrow(message);
  });

  it('gives up a search that would hold up everybody', async () => {
    const content = Array.from({ length: 300_000 }, (_, n) => `${n} \n`).join('');
    const hunks = Array.from({ length: 300 }, (_, n) => `@@\n-${n}\n+x`).join('\n');
    await expect(updated(content, hunks)).rejects.toMatchObject({ code: 'too_large' });
  });

  it('refuses to add what is there and to update what is not', async () => {
    const files = new MemoryFiles({ a: 'x\n' });
    await expect(apply(files, '*** Add File: a\n+y')).rejects.toMatchObject({ code: 'exists' });
    await expect(apply(files, '*** Update File: b\n-x\n+y')).rejects.toMatchObject({ code: 'not_found' });
    await expect(apply(files, '*** Update File: a\n*** Move to: ../b\n-x\n+y')).rejects.toMatchObject({
      code: 'invalid_path',
    });
  });
});

describe('the parsers', () => {
  it('throw nothing but their own error, whatever they are given', () => {
    const piece = fc.constantFrom(
      '*** Begin Patch', '*** End Patch', '*** Update File: a', '*** Add File: b', '*** Move to: c', '*** End of File',
      '@@', '@@ x', '@@ -1,2 +1,2 @@', '@@ -0,0 +1 @@', '--- a/x', '+++ b/x', '--- /dev/null', '+++ /dev/null', '+++ "b/\\303',
      'diff --git a/x b/x', 'diff --git "a/\\t" b/x', 'rename from x', 'rename to "y', 'new file mode 100644', 'new mode 9',
      ' a', '-a', '+b', '', '\r', '\\ No newline at end of file', 'Binary files a and b differ', '\udc80',
    ); // prettier-ignore
    fc.assert(
      fc.property(
        fc.array(fc.oneof(piece, fc.string())),
        fc.constantFrom('auto', 'unified', 'v4a'),
        (lines, format) => {
          try {
            expect(parsePatch(lines.join('\n'), format).files.length).toBeGreaterThan(0);
          } catch (error) {
            expect(error).toBeInstanceOf(ToolError);
          }
        },
      ),
      { numRuns: 3000 },
    );
  });
});
