import { expect, test } from 'vitest';

import { linkLeavesTree } from './links.ts';

const links: Record<string, string> = {
  here: '.',
  'a/deep': '../b/c/d',
  out: '../x',
  loop: 'loop',
  abs: '/etc',
  'a/up': '..',
};

test.each([
  ['link', 'file', false],
  ['link', '/etc/shadow', true],
  ['link', '../x', true],
  ['a/link', '../x', false],
  ['a/link', '../../x', true],
  ['a/b/link', '../.././x//y/..', false],
  ['link', 'missing/../..', true],
  ['link', 'here/../x', true], // `here` is the root: one up is outside, though the text looks harmless
  ['link', 'a/deep/../../../..', true],
  ['link', 'a/deep/../..', false],
  ['link', 'out/y', true],
  ['link', 'abs/passwd', true],
  ['link', 'a/up/../x', true],
  ['link', 'loop/x', false],
  ['link', '..\uDCFF/x', false],
  ['link', '.git/hooks/pre-commit', true],
  ['a/link', '../.GIT', true],
  ['a/link', 'b/.git/config', true],
  ['link', '.gitignore', false],
] as const)('%s -> %s leaves the tree: %s', (link, target, leaves) => {
  expect(linkLeavesTree(link, target, (path) => links[path])).toBe(leaves);
});
