import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryFiles } from '../../test/fixtures/memory-files.ts';
import { digestOf } from '../digest.ts';
import { edit } from './edit.ts';
import { editText } from './edit-text.ts';
import { ToolContext } from './tool-context.ts';

const base = { path: 'f', replaceAll: false };
const neverStarts = (): Promise<never> => Promise.reject(new Error('no commands here'));

describe('editing text', () => {
  it('replaces the one occurrence and says on which line it was', () => {
    expect(editText('a\nb\nc', { ...base, old: 'b', new: 'B' })).toEqual({ content: 'a\nB\nc', lines: [2] });
  });

  it('refuses several occurrences unless all are meant, and lists their lines', () => {
    expect(() => editText('x\nx\ny x', { ...base, old: 'x', new: 'z' })).toThrow(/3 times \(lines 1, 2, 3\)/);
    expect(editText('x\nx', { ...base, old: 'x', new: 'z', replaceAll: true }).content).toBe('z\nz');
  });

  it('changes nothing when the count is another than expected', () => {
    expect(() => editText('x x', { ...base, old: 'x', new: 'z', expectCount: 3 })).toThrow(/2 times, not 3/);
    expect(editText('x x', { ...base, old: 'x', new: 'z', expectCount: 2 }).content).toBe('z z');
  });

  it('points to the closest line when nothing is found', () => {
    const content = 'function one() {\n  return compute(left, right);\n}\n';
    expect(() => editText(content, { ...base, old: '  return compute(left, rihgt);', new: '' })).toThrow(
      /line 2.*compute/,
    );
    expect(() => editText(content, { ...base, old: '\treturn compute(left, right);\n', new: '' })).toThrow(
      /white space/,
    );
    expect(() => editText(content, { ...base, old: 'zzzz qqqq', new: '' })).toThrow(/Nothing like it/);
  });

  it('reads LF in a text as CRLF in a file of CRLF lines, and keeps them', () => {
    const edited = editText('a\r\nb\r\nc\r\n', { ...base, old: 'a\nb', new: 'x\ny\nz' });
    expect(edited.content).toBe('x\r\ny\r\nz\r\nc\r\n');
    expect(() => editText('a\r\nb\nc\n', { ...base, old: 'a\nb', new: 'x' })).toThrow(/not found/);
  });

  it('keeps everything outside of the match, whatever the file', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '\n', '\r\n', 'é', ' ') });
    fc.assert(
      fc.property(text, text, text, (before, after, replacement) => {
        const content = `${before}<MARK>${after}`;
        const edited = editText(content, { ...base, old: '<MARK>', new: replacement });
        expect(edited.content).toBe(before + replacement + after);
      }),
    );
  });

  it('is a conflict when the file changes between reading and writing', async () => {
    class Racing extends MemoryFiles {
      override async read(path: string): ReturnType<MemoryFiles['read']> {
        const found = await super.read(path);
        this.put(path, 'somebody else wrote one');
        return found;
      }
    }
    const files = new Racing({ f: 'one two' });
    const context = new ToolContext({ files, start: neverStarts });
    const call = { tool: 'edit' as const, ...base, old: 'one', new: '1' };
    await expect(edit(context, call)).rejects.toMatchObject({ code: 'conflict' });
    expect(files.text('f')).toBe('somebody else wrote one');
  });

  it('reports the digest of what it wrote', async () => {
    const files = new MemoryFiles({ f: 'one\n' });
    const context = new ToolContext({ files, start: neverStarts });
    const done = await edit(context, { tool: 'edit', ...base, old: 'one', new: 'two' });
    expect(done).toMatchObject({ kind: 'edited', digest: digestOf('two\n') });
  });
});
