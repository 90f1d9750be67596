import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { explainFiles, type ExplainedFile } from './explain.ts';
import { Scope, secretGlobs, type FileScope } from './scope.ts';
import { selectFiles } from '../base/select.ts';

const empty: FileScope = { read: [], write: [], scratch: [], deny: [] };
let host: string;

beforeEach(() => {
  host = mkdtempSync(path.join(tmpdir(), 'glovebox-explain-'));
});
afterEach(() => rmSync(host, { recursive: true, force: true }));

function put(files: Record<string, string>): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(host, name)), { recursive: true });
    writeFileSync(path.join(host, name), content);
  }
}

function git(...args: string[]): void {
  const env = { PATH: process.env['PATH'], HOME: host, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' };
  execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.com', ...args], { cwd: host, env });
}

const lines = (entries: readonly ExplainedFile[]): string[] =>
  entries.map(({ path, status, why }) => `${status} ${path}: ${why.kind}: ${why.text}`);

describe('why a path is in its class', () => {
  const scope = Scope.compile({
    read: ['**', '!private/**'],
    write: ['src/**', 'docs/*.md', '!src/generated/**'],
    scratch: ['src/build/**'],
    deny: ['**/*.key', 'vault'],
  });
  test.each([
    ['src/a.ts', { class: 'write', list: 'write', glob: 'src/**' }],
    ['src/build/x', { class: 'scratch', list: 'scratch', glob: 'src/build/**' }],
    ['src/generated/x', { class: 'read', list: 'read', glob: '**' }],
    ['README', { class: 'read', list: 'read', glob: '**' }],
    ['src/x.key', { class: 'absent', list: 'deny', glob: '**/*.key' }],
    ['vault/deep/x', { class: 'absent', list: 'deny', glob: 'vault', above: 'vault' }],
    ['private/x', { class: 'absent', takenAwayBy: { list: 'read', glob: '!private/**' } }],
  ])('%s', (path, expected) => {
    expect(scope.explain(path)).toEqual(expected);
    expect(scope.explain(path).class).toBe(scope.classOf(path));
  });

  test('a path that no list names has no reason to be there', () => {
    expect(Scope.compile({ ...empty, read: ['src/**'] }).explain('README')).toEqual({ class: 'absent' });
  });
});

test('every file of a directory is explained by the list and glob that decided', async () => {
  put({
    'src/a.ts': 'aa',
    'src/build/x': '',
    'README.md': '',
    'docs/x': '',
    '.env': 's',
    'secrets/b': '',
    'lib/y': '',
  });
  symlinkSync('/etc', path.join(host, 'out'));
  const scope = {
    read: ['README.md', 'docs/**', '!docs/x', 'out'],
    write: ['src/**'],
    scratch: ['src/build/**'],
    deny: [...secretGlobs, 'secrets/**'],
  };
  const { entries, kind, entriesLeftOut } = await explainFiles(host, scope);
  expect({ kind, entriesLeftOut }).toEqual({ kind: 'plain', entriesLeftOut: 0 });
  expect(lines(entries)).toEqual([
    'absent .env: secret: files.deny **/.env: such names usually hold secrets',
    'read README.md: listed: files.read README.md',
    'absent docs/x: out_of_scope: files.read !docs/x takes it away',
    'absent lib: out_of_scope: no list names it',
    'absent out: link_leaves_tree: a link that leads out of the workspace',
    'absent secrets: denied: files.deny secrets/**',
    'write src/a.ts: listed: files.write src/**',
    'absent src/build/x: out_of_scope: files.scratch src/build/**, and files.read does not name it',
  ]);
});

test('of a git work tree the ignore file and its line are named, whatever the ignored file is called', async () => {
  put({
    '.gitignore': '# made by tools\nout/\n*.log\n',
    'a.txt': '',
    'out/x': '',
    ':(top)b.log': '',
    'vendored/f': '',
  });
  git('init', '-q');
  git('init', '-q', 'vendored');
  const { entries, kind } = await explainFiles(host, { ...empty, write: ['**'] });
  expect(kind).toBe('git');
  expect(lines(entries)).toEqual([
    'write .gitignore: listed: files.write **',
    'absent :(top)b.log: ignored: ignored by git: .gitignore:3 *.log',
    'write a.txt: listed: files.write **',
    'absent out: ignored: ignored by git: .gitignore:2 out/',
    'absent vendored: nested_repository: a repository of its own inside this one',
  ]);
});

test('a directory that the repository around it ignores is a directory of its own', async () => {
  put({ '.gitignore': 'out/\n', 'out/x': '' });
  git('init', '-q');
  const selection = await selectFiles(path.join(host, 'out'), Scope.compile({ ...empty, read: ['**'] }));
  expect(selection.kind).toBe('plain');
  expect(selection.files.map((file) => file.path)).toEqual(['x']);
});
