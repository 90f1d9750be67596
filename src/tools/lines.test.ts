import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sliceLines } from './lines.ts';

const slice = (text: string, from: number, to?: number, max = 1000): ReturnType<typeof sliceLines> =>
  sliceLines(Buffer.from(text), from, to, max);

describe('ranges of lines', () => {
  it('count from one and include the last', () => {
    const found = slice('a\nb\nc\nd\n', 2, 3);
    expect(found.bytes.toString()).toBe('b\nc\n');
    expect(found).toMatchObject({ offset: 2, firstLine: 2, lastLine: 3, truncated: false });
    expect(found.numbered()).toBe('2\tb\n3\tc\n');
  });

  it('end where the file ends, also without a newline there', () => {
    expect(slice('a\nb', 2, 9).bytes.toString()).toBe('b');
    expect(slice('a\nb', 2).numbered()).toBe('2\tb');
    expect(slice('a\n', 5)).toMatchObject({ lastLine: 4, truncated: false });
    expect(slice('', 1).numbered()).toBe('');
  });

  it('leave whole lines out past the limit, and cut only a line that is longer by itself', () => {
    expect(slice('aaa\nbbb\nccc\n', 1, undefined, 9)).toMatchObject({ lastLine: 2, truncated: true });
    expect(slice('a'.repeat(50), 1, undefined, 9).bytes.length).toBe(9);
  });

  it('put together give the file, however it is cut', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', '\n', '\r') }),
        fc.integer({ min: 1, max: 9 }),
        (text, cut) => {
          const whole = slice(text, 1, cut).bytes.toString() + slice(text, cut + 1).bytes.toString();
          expect(whole).toBe(text);
        },
      ),
    );
  });
});
