import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { wantedDirectories } from './upper.ts';

let home: string;
let upper: string;

beforeEach(() => {
  home = mkdtempSync(path.join(tmpdir(), 'glovebox-upper-'));
  upper = path.join(home, 'upper');
  mkdirSync(path.join(upper, 'a/b/c'), { recursive: true });
  writeFileSync(path.join(upper, 'a/b/mine'), '');
  mkdirSync(path.join(home, 'host/b/c'), { recursive: true });
  writeFileSync(path.join(home, 'host/b/secret'), '');
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

test('only what is wanted is entered; links, pipes and files are not, whatever they are called', () => {
  symlinkSync(path.join(home, 'host'), path.join(upper, 'link'));
  execFileSync('mkfifo', [path.join(upper, 'pipe')]);
  writeFileSync(path.join(upper, 'file'), '');
  const found = wantedDirectories(upper, (name) => name !== 'a/b/c');
  expect([...found.keys()]).toEqual(['', 'a', 'a/b']);
  expect([...(found.get('a/b') ?? [])].sort()).toEqual(['a/b/c', 'a/b/mine']);
});

test('a directory that becomes a link while it is looked at leads nowhere', () => {
  const open = readdirSync('/proc/self/fd').length;
  const found = wantedDirectories(upper, (name) => {
    if (name === 'a/b') {
      renameSync(path.join(upper, 'a'), path.join(upper, 'moved'));
      symlinkSync(path.join(home, 'host'), path.join(upper, 'a'));
    }
    return true;
  });
  expect([...found.values()].flatMap((names) => [...names])).not.toContain('a/b/secret');
  expect(found.has('a/b/c')).toBe(true); // the one that was there
  expect(readdirSync('/proc/self/fd').length).toBe(open);
});

test('a tree that is not there is no empty one', () => {
  expect(() => wantedDirectories(path.join(home, 'gone'), () => true)).toThrow('ENOENT');
});
