import * as fc from 'fast-check';

import { decodePath } from '../bytes-path.ts';
import { digestOf } from '../digest.ts';
import type { Node, Tree } from './change-set.ts';
import { sortedByBytes } from './diff.ts';

/** Names that people and attackers give: spaces, quotes, newlines, bytes that are not UTF-8, option look-alikes. */
export const names: fc.Arbitrary<string> = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('a', 'b', 'c', 'd.txt', 'e.bin') },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      ' x ',
      'a\nb',
      'x\r\ny',
      '"q"',
      "it's",
      '\\',
      'a\\b',
      '\t',
      '-rf',
      '--',
      '$(id)',
      '*',
      '[a]',
      'é',
      'e\u0301',
      '日本',
      '😀',
      '\u001b[31m',
      '\u202Etxt',
      '\uFEFF',
      '\uFFFD',
      '\uDCFF\uDCFE',
      'a\uDCC3',
      '.gitattributes',
      '.gitignore',
      'a => b',
      '{b',
      ':(top)x',
      '#x',
      '~',
      'CON',
      'x.',
      'b/'.slice(0, 1),
      '\u007f',
    ),
  },
  {
    weight: 1,
    arbitrary: fc
      .uint8Array({ minLength: 1, maxLength: 6 })
      .map((bytes) => decodePath(bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0x61 : byte))))
      .filter((name) => name !== '.' && name !== '..' && !/^\.?git/i.test(name)),
  },
);

export const contents: fc.Arbitrary<Buffer> = fc.oneof(
  fc
    .constantFrom(
      '',
      '\n',
      'a',
      'a\n',
      'a\nb\nc\n',
      'a\nB\nc\n',
      'a\r\nb\n',
      'no newline\nat end',
      '-- \n+++ b\n',
      '* text=auto eol=crlf -diff\n',
    )
    .map((text) => Buffer.from(text)),
  fc
    .array(fc.constantFrom('one', 'two', 'three', '', '+', '-', '@@ -1 +1 @@', 'diff --git a/x b/x'), { maxLength: 30 })
    .map((lines) => Buffer.from(lines.join('\n'))),
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
);

/** A tree with the contents of its files. */
export interface FilledTree {
  readonly tree: Tree;
  readonly contents: readonly Buffer[];
}

export const filledTrees: fc.Arbitrary<FilledTree> = fc
  .array(
    fc.record({
      path: fc.array(names, { minLength: 1, maxLength: 3 }),
      kind: fc.constantFrom('file', 'file', 'file', 'program', 'symlink', 'directory'),
      content: contents,
      target: fc.constantFrom('a', 'b/c', '../a', '/etc/passwd', 'x\ny', '\uDCFF', '.'),
    }),
    { maxLength: 8 },
  )
  .map((leaves) => {
    const tree = new Map<string, Node>();
    const kept: Buffer[] = [];
    for (const { path, kind, content, target } of leaves) {
      const parents = path.slice(0, -1).map((_, index) => path.slice(0, index + 1).join('/'));
      const whole = path.join('/');
      if (parents.some((parent) => (tree.get(parent)?.kind ?? 'directory') !== 'directory') || tree.has(whole))
        continue;
      for (const parent of parents) tree.set(parent, { kind: 'directory' });
      if (kind === 'directory') tree.set(whole, { kind });
      else if (kind === 'symlink') tree.set(whole, { kind, target });
      else {
        const mode = kind === 'program' ? 0o755 : 0o644;
        tree.set(whole, { kind: 'file', mode, digest: digestOf(content), sizeBytes: content.length });
        kept.push(content);
      }
    }
    return { tree: sortedByBytes(tree), contents: kept };
  });

export const trees: fc.Arbitrary<Tree> = filledTrees.map(({ tree }) => tree);
