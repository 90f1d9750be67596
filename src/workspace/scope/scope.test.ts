import * as fc from 'fast-check';
import picomatch from 'picomatch';
import { describe, expect, test } from 'vitest';

import { isRunnerError } from '../../errors.ts';
import { parseGlob } from './glob.ts';
import { Scope, secretGlobs, type FileScope } from './scope.ts';

const empty: FileScope = { read: [], write: [], scratch: [], deny: [] };
const scopeOf = (scope: Partial<FileScope>): Scope => Scope.compile({ ...empty, ...scope });
const matches = (pattern: string, path: string): boolean =>
  parseGlob(pattern).some((glob) => glob.matches(path.split('/')));

test.each<[Partial<FileScope>, string, boolean]>([
  [{ scratch: ['**/node_modules/**'], deny: ['**/*.pem'] }, 'a/node_modules', true],
  [{ scratch: ['**/node_modules/**'] }, 'a', false],
  [{ scratch: ['build/**'] }, 'build/x', true],
  [{ scratch: ['{build,build/*}'] }, 'build', false],
  [{ scratch: ['build/**/*'] }, 'build/x', false],
  [{ scratch: ['build/**', '!build/keep/**'] }, 'build', false],
  [{ scratch: ['build/**', '!build/keep/**'] }, 'build/deps', true],
  [{ scratch: ['build/**', '!build/keep/**'] }, 'build/keep', false],
  [{ scratch: ['build/**', '!**/keep'] }, 'build/deps', false],
])('%j: all below %j is scratch: %j', (scope, directory, expected) => {
  expect(scopeOf(scope).isScratchBelow(directory)).toBe(expected);
});

test('where the globs say that all below is scratch, whatever is below is', () => {
  const name = fc.constantFrom('a', 'b', 'build', '.x');
  const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join('/'));
  const segment = fc.oneof(name, fc.constantFrom('**', '*', 'b*', '{a,b}'));
  const glob = fc.array(segment, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
  const not = fc.array(glob, { maxLength: 2 }).map((globs) => globs.map((each) => `!${each}`));
  fc.assert(
    fc.property(glob, not, path, path, (included, excluded, directory, below) => {
      const scope = scopeOf({ scratch: [`${included}/**`, ...excluded] });
      if (scope.isScratchBelow(directory)) expect(scope.isScratch(`${directory}/${below}`)).toBe(true);
    }),
  );
});

describe('globs', () => {
  test.each([
    ['**', 'a/b/c', true],
    ['*', 'a', true],
    ['*', '.hidden', true],
    ['*', 'a/b', false],
    ['src/**', 'src', true],
    ['src/**', 'src/.x/y', true],
    ['src/**', 'srcs/y', false],
    ['**/*.ts', 'x.ts', true],
    ['**/*.ts', 'a/b/x.ts', true],
    ['**/*.ts', 'a/b/x.tsx', false],
    ['a/**/b', 'a/b', true],
    ['a/**/b', 'a/x/y/b', true],
    ['a/**/b', 'a/x/y/b/c', false],
    ['src/**/*.{ts,tsx}', 'src/a/b.tsx', true],
    ['{src,lib/{a,b}}/x', 'lib/b/x', true],
    ['{src,lib/{a,b}}/x', 'lib/c/x', false],
    ['app/(group)/[[]id[]].ts', 'app/(group)/[id].ts', true],
    ['app/\\[id\\].ts', 'app/[id].ts', true],
    ['[a-c]?[!x]', 'bzy', true],
    ['[a-c]?[!x]', 'bzx', false],
    ['README', 'readme', false],
    ['a+b|c$^', 'a+b|c$^', true],
    ['a*b*c', 'aXbYcZc', true],
    ['x\n*', 'x\ny', true],
  ])('%j on %j is %j', (pattern, path, expected) => {
    expect(matches(pattern, path)).toBe(expected);
  });

  test('they mean what picomatch means, where that is the same for every form', () => {
    const segment = fc
      .array(fc.constantFrom('a', 'b', '.', '*', '?', '[ab]', '[^a]'), { minLength: 1, maxLength: 4 })
      .map((parts) => parts.join('').replaceAll(/\*+/g, '*'))
      .filter((text) => text !== '.' && text !== '..' && !text.startsWith('.'));
    // What a last `**` says of its own directory differs between forms in picomatch; the table above has our answer.
    const pattern = fc
      .array(fc.oneof(segment, fc.constant('**')), { minLength: 1, maxLength: 4 })
      .map((segments) => segments.join('/'))
      .filter((pattern) => !pattern.endsWith('/**'));
    const name = fc
      .array(fc.constantFrom('a', 'b', 'c', '.'), { minLength: 1, maxLength: 3 })
      .map((parts) => parts.join(''))
      .filter((text) => text !== '.' && text !== '..');
    const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((s) => s.join('/'));
    // Its shortcuts for common forms differ from its own parser: there `*.*` wants something behind the dot.
    fc.assert(
      fc.property(pattern, path, (pattern, path) => {
        expect(matches(pattern, path)).toBe(picomatch.isMatch(path, pattern, { dot: true, fastpaths: false }));
      }),
      { numRuns: 3000 },
    );
  });

  test('a hostile name costs no more than pattern times name', () => {
    const started = performance.now();
    expect(matches(`**/${'*a'.repeat(60)}`, `x/${'a'.repeat(255)}b`)).toBe(false);
    expect(matches(`${'**/a/'.repeat(14)}b`, 'a/'.repeat(2000) + 'c')).toBe(false);
    expect(performance.now() - started).toBeLessThan(200);
  });

  test.each([
    '',
    '/abs',
    'a//b',
    'a/',
    '../x',
    'a/../b',
    './a',
    'a**',
    '**a/b',
    '[ab',
    'a{b',
    'a}b',
    '{a}',
    '{1..3}',
    'a\\',
    'a\0b',
    '[z-a]',
    '{a,b}'.repeat(8),
    '!',
    'a/'.repeat(40) + 'b',
    'x'.repeat(2000),
  ])('%j is refused with its list and itself in the message', (pattern) => {
    try {
      scopeOf({ write: [pattern] });
      expect.unreachable();
    } catch (error) {
      expect(isRunnerError(error, 'invalid_policy')).toBe(true);
      expect((error as Error).message).toContain(JSON.stringify(pattern));
      expect((error as Error).message).toContain("'write'");
    }
  });

  test('a list that only excludes is refused', () => {
    expect(() => scopeOf({ read: ['!a'] })).toThrow('only excludes');
  });
});

describe('scope', () => {
  const scope = scopeOf({
    read: ['**', '!docs/internal/**'],
    write: ['src/**', 'docs/**/*.md', 'package.json'],
    scratch: ['**/node_modules/**', 'src/tmp/**'],
    deny: ['**/.env', 'private'],
  });

  test.each([
    ['README', 'file', 'read'],
    ['src/a.ts', 'file', 'write'],
    ['src/.env', 'file', 'absent'],
    ['src/tmp/x', 'file', 'scratch'],
    ['src/node_modules/x/y.js', 'file', 'scratch'],
    ['docs/a.md', 'file', 'write'],
    ['docs/a.txt', 'file', 'read'],
    ['docs/internal/a.txt', 'file', 'absent'],
    ['docs/internal/a.md', 'file', 'write'],
    ['private', 'directory', 'absent'],
    ['private/deep/x.md', 'file', 'absent'],
    ['docs/new', 'directory', 'write'],
    ['docs/new', 'file', 'read'],
    ['lib', 'directory', 'scratch'],
    ['src', 'directory', 'write'],
  ] as const)('%s as a %s is %s', (path, kind, expected) => {
    expect(scope.classOf(path, kind)).toBe(expected);
  });

  test('writable implies readable, scratch does not', () => {
    const only = scopeOf({ write: ['src/**'], scratch: ['out/**'] });
    expect(only.imports('src/a')).toBe(true);
    expect(only.imports('out/a')).toBe(false);
    expect(scopeOf({ read: ['**'], scratch: ['out/**'] }).imports('out/a')).toBe(true);
    expect(scopeOf({ read: ['**'], write: ['**'], deny: ['out'] }).imports('out/a/b')).toBe(false);
  });

  test('names are made where a writable path can be, and nowhere else', () => {
    const scope = scopeOf({ write: ['src/a/**', 'packages/*/gen/*.ts', 'package.json'] });
    const has =
      (...names: string[]) =>
      (name: string): boolean =>
        names.includes(name);
    expect(scope.mayCreateIn('', has('src', 'packages'))).toBe(true); // package.json is replaced by renaming
    expect(scopeOf({ write: ['src/a/**'] }).mayCreateIn('', has('src'))).toBe(false);
    expect(scopeOf({ write: ['src/a/**'] }).mayCreateIn('', has())).toBe(true);
    expect(scope.mayCreateIn('src', has('a'))).toBe(false);
    expect(scope.mayCreateIn('src', has())).toBe(true);
    expect(scope.mayCreateIn('src/a', has())).toBe(true);
    expect(scope.mayCreateIn('src/a/deep', has())).toBe(true);
    expect(scope.mayCreateIn('src/b', has())).toBe(false);
    expect(scope.mayCreateIn('packages', has('x'))).toBe(true);
    expect(scope.mayCreateIn('packages/x', has('gen'))).toBe(false);
    expect(scope.mayCreateIn('packages/x/gen', has())).toBe(true);
  });

  test('what is denied stays absent whatever else is said', () => {
    const path = fc
      .array(fc.constantFrom('a', 'b', '.env', 'c'), { minLength: 1, maxLength: 4 })
      .map((s) => s.join('/'));
    const glob = fc.constantFrom('**', 'a/**', '**/b', '**/.env', '*', 'b/c', '!a/b', '!**/.env');
    const list = fc.array(glob, { maxLength: 3 }).filter((l) => l.length === 0 || l.some((g) => !g.startsWith('!')));
    fc.assert(
      fc.property(list, list, list, path, (read, write, scratch, path) => {
        const open = scopeOf({ read, write, scratch });
        const closed = scopeOf({ read, write, scratch, deny: ['**/.env', 'b'] });
        const denied = path.split('/').includes('.env') || path.startsWith('b/') || path === 'b';
        expect(closed.classOf(path)).toBe(denied ? 'absent' : open.classOf(path));
        if (denied) expect(closed.imports(path)).toBe(false);
      }),
    );
  });

  test.each([
    ['.env', true],
    ['app/.env.local', true],
    ['.env.example', false],
    ['deploy/server.pem', true],
    ['id_rsa', true],
    ['id_map.ts', false],
    ['home/.aws/config', true],
    ['.npmrc', true],
    ['x/credentials', true],
    ['src/credentials.ts', false],
    ['credentials.json', true],
    ['src/keys.ts', false],
  ])('the secret globs on %s: %s', (path, secret) => {
    expect(scopeOf({ read: ['**'], deny: secretGlobs }).classOf(path)).toBe(secret ? 'absent' : 'read');
  });
});
