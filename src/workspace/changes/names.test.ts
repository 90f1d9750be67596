import { expect, test } from 'vitest';

import { displayPath, isGitName, odditiesOf } from './names.ts';

test.each([
  ['.git', true],
  ['.GIT', true],
  ['.Git ', true],
  ['.git...', true],
  ['.git::$INDEX_ALLOCATION', true],
  ['git~1', true],
  ['GIT~1', true],
  ['.g\u200Cit', true],
  ['.gi\uFEFFt', true],
  ['.gitignore', false],
  ['.github', false],
  ['git', false],
  ['git~2', false],
  ['a.git', false],
  ['logo', false],
])("%j is taken for git's own directory: %s", (name, expected) => {
  expect(isGitName(name)).toBe(expected);
});

test.each([
  ['src/plain-name_1.ts', ''],
  ['a\nb', 'control characters'],
  ['a\u001b[31m', 'control characters'],
  ['x\u202Egnp.exe', 'text direction or invisible characters'],
  ['\uDCFF', 'not UTF-8'],
  ['😀/日本', ''],
  ['dir /x', 'ends in a dot or space'],
  ['x.', 'ends in a dot or space'],
  ['-rf', 'starts with a space or dash'],
  ['CON', 'reserved on Windows'],
  ['a/com1.txt', 'reserved on Windows'],
  ['console', ''],
  ['a:b', 'characters that Windows refuses'],
])('%j: %s', (path, expected) => {
  expect(odditiesOf(path).join()).toBe(expected);
});

test.each([
  ['plain name/é日本😀', 'plain name/é日本😀'],
  ['a\nb\u001b[2J', 'a\\x0ab\\x1b[2J'],
  ['\u202Egnp', '\\u{202e}gnp'],
  ['\uDCFF\uDC80', '\\xff\\x80'],
  ['back\\slash', 'back\\\\slash'],
  ['wide\u00A0space\u2028', 'wide\\u{a0}space\\u{2028}'],
])('%j is shown as %s', (path, expected) => {
  expect(displayPath(path)).toBe(expected);
});
