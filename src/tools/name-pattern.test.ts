import { describe, expect, it } from 'vitest';
import { NamePattern } from './name-pattern.ts';

describe('name patterns', () => {
  it.each([
    ['*.ts', 'src/deep/a.ts', true],
    ['*.ts', 'src/a.tsx', false],
    ['src/*.ts', 'src/a.ts', true],
    ['src/*.ts', 'src/b/a.ts', false],
    ['src/**/*.ts', 'src/a.ts', true],
    ['src/**/*.ts', 'src/b/c/a.ts', true],
    ['**/test/**', 'a/test/b', true],
    ['src/**', 'src/a/b', true],
    ['src/**', 'srcs/a', false],
    ['./src/*', 'src/a', true],
    ['*.{ts,js}', 'a.js', true],
    ['*.{ts,js}', 'a.jsx', false],
    ['[a-c]?.md', 'b1.md', true],
    ['[!a-c]?.md', 'b1.md', false],
    ['*', '.hidden', true],
    ['a+b(c).ts', 'a+b(c).ts', true],
    ['\\*.ts', '*.ts', true],
    ['\\*.ts', 'a.ts', false],
    ['*.ts', 'a\nb.ts', true],
  ])('%s on %j: %s', (pattern, path, expected) => {
    expect(new NamePattern(pattern).matches(path)).toBe(expected);
  });

  it.each(['{a', '[a', '{{{{{{{{{{{a}}}}}}}}}}}'])('%s is refused with a reason', (pattern) => {
    expect(() => new NamePattern(pattern)).toThrow(/glob pattern/);
  });

  it('a pattern made to backtrack takes no longer than others', () => {
    const start = performance.now();
    expect(new NamePattern(`${'*a'.repeat(100)}b`).matches('a'.repeat(250))).toBe(false);
    expect(performance.now() - start).toBeLessThan(2000);
  });
});
