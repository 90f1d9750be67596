import { expect, test } from 'vitest';
import { lockDifferences, type ImageLock } from './lock.ts';

const lock: ImageLock = {
  version: 1,
  image: 'base',
  recipe: `sha256:${'1'.repeat(64)}`,
  architecture: 'amd64',
  source: 'debian',
  npm: [],
  content: `sha256:${'2'.repeat(64)}`,
  id: `sha256:${'3'.repeat(64)}`,
  packages: ['bash=5.2.15-2+b13', 'git=1:2.39.5-0+deb12u2', 'tar=1.34'],
};

test('a lock does not differ from itself', () => {
  expect(lockDifferences(lock, structuredClone(lock))).toEqual([]);
});

test('what moved, came and went is named package by package', () => {
  const packages = ['bash=5.2.15-2+b13', 'git=1:2.39.5-0+deb12u3', 'zstd=1.5.4'];
  expect(lockDifferences(lock, { ...lock, packages })).toEqual([
    'package git: 1:2.39.5-0+deb12u2 -> 1:2.39.5-0+deb12u3',
    'package tar: gone, was 1.34',
    'package zstd: added, 1.5.4',
  ]);
});

test('other content with the same packages is a difference', () => {
  const content = `sha256:${'9'.repeat(64)}` as const;
  expect(lockDifferences(lock, { ...lock, content })).toHaveLength(1);
});
