import pc from 'picocolors';
import { describe, expect, test } from 'vitest';
import { printableJson } from '../journal/printable.ts';
import { harmless } from './terminal.ts';

const evil: readonly (readonly [what: string, text: string, shown: string])[] = [
  ['a title', '\u001b]0;pwn\u0007', '\\x1b]0;pwn\\x07'],
  ['a cleared screen', '\u001b[2J', '\\x1b[2J'],
  ['hidden text', '\u001b[8m', '\\x1b[8m'],
  ['one byte that begins a sequence', '\u009b31m', '\\x9b31m'],
  ['a line that is written over', 'safe\rpwned', 'safe\\rpwned'],
  ['letters that are taken back', 'a\bb', 'a\\x08b'],
  ['text that turns around', 'x\u202egpj.exe', 'x\\u202egpj.exe'],
  ['what looks like nothing', 'a\u200bb\u{e0041}', 'a\\u200bb\\u{e0041}'],
];

describe('a line on a terminal', () => {
  test.each(evil)('does not do what is in it: %s', (_, text, shown) => {
    for (const colours of [true, false]) expect(harmless(`run ${text}\n\tend`, colours)).toBe(`run ${shown}\n\tend`);
  });

  test('has our colours where there are any, and none otherwise', () => {
    const { bold, dim, red, green, yellow, blue, cyan, magenta } = pc.createColors(true);
    const text = [bold, dim, red, green, yellow, blue, cyan, magenta]
      .map((colour) => colour(colour('über')))
      .join('\n');
    expect(harmless(text, true)).toBe(text);
    expect(harmless(red('x'), false)).toBe('\\x1b[31mx\\x1b[39m');
  });
});

describe('a line of JSON', () => {
  test.each(evil)('does not do what is in it, and says the same: %s', (_, text) => {
    const value = { [text]: [text, 'über 日本 😀'] };
    const json = printableJson(JSON.stringify(value));
    expect(JSON.parse(json)).toEqual(value);
    expect(harmless(json, false)).toBe(json);
    expect(json).toContain('über 日本 😀');
  });
});
