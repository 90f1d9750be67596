import { describe, expect, test } from 'vitest';
import { CodeOwners, pathsWithoutOwner } from './owners.ts';

/** GitHub's own example, and what its text says of it ("About code owners"). */
const example = CodeOwners.parse(`# comment
*       @global-owner1 @global-owner2
*.js    @js-owner #This is an inline comment.
*.go docs@example.com
*.txt @octo-org/octocats
/build/logs/ @doctocat
docs/* docs@example.com
apps/ @octocat
/docs/ @doctocat
/scripts/ @doctocat @octocat
**/logs @octocat
/apps/ @octocat
/apps/github
`);

test.each([
  ['README', ['@global-owner1', '@global-owner2']],
  ['src/deep/x.js', ['@js-owner']],
  ['x.go', ['docs@example.com']],
  ['build/logs/today/x', ['@octocat']],
  ['build/x', ['@global-owner1', '@global-owner2']],
  ['docs/getting-started.md', ['@doctocat']],
  ['docs/build-app/troubleshooting.md', ['@doctocat']],
  ['scripts/x.txt', ['@doctocat', '@octocat']],
  ['deeply/nested/logs/x', ['@octocat']],
  ['my/apps/x', ['@octocat']],
  ['apps/x', ['@octocat']],
  ['apps/github', []],
  ['apps/github/x', []],
])('%s belongs to %j', (path, owners) => {
  expect(example.ownersOf(path)).toEqual(owners);
});

describe('a pattern', () => {
  test.each([
    ['docs/*', 'docs/a.md', true],
    ['docs/*', 'docs/deep/a.md', false],
    ['docs/**', 'docs/deep/a.md', true],
    ['/docs', 'docs/a.md', true],
    ['/docs', 'x/docs/a.md', false],
    ['docs', 'x/docs/a.md', true],
    ['docs/', 'docs', false],
    ['a/**/b', 'a/b', true],
    ['a/**/b', 'a/x/y/b', true],
    ['*', 'a/b', true],
    ['a?c', 'abc', true],
    ['a?c', 'a/c', false],
    ['*.js', 'a.js.map', false],
    ['A', 'a', false],
    ['with\\ space', 'with space', true],
    ['!x', 'y', false],
    ['[ab]', 'a', false],
    ['\\#x', '#x', false],
    [`${'a*'.repeat(200)}b`, 'a'.repeat(5000), false],
  ])('%s fits %s: %s', (pattern, path, fits) => {
    expect(CodeOwners.parse(`${pattern} @x`).ownersOf(path)).toEqual(fits ? ['@x'] : []);
  });
});

test('a file is covered by one of its owners, by a member of a team, and whatever the case of their names', () => {
  const owners = CodeOwners.parse('a @Ada @grace\nb @org/team\nc ada@example.org\n');
  const lacking = (reviewers: readonly string[]): readonly string[] =>
    pathsWithoutOwner(owners, ['a', 'b', 'c', 'd'], reviewers, { '@Org/Team': ['@linus'] }).map(({ path }) => path);
  expect(lacking([])).toEqual(['a', 'b', 'c']);
  expect(lacking(['ada'])).toEqual(['b', 'c']);
  expect(lacking(['GRACE', 'Linus', 'ada@example.org'])).toEqual([]);
});
