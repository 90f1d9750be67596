import type { Secret } from './secret.ts';

/**
 * What a service may send back when it shows us our own secret: as it is, within base64 of any alignment (so also within
 * `Basic` of a user and it), percent-encoded, in a form, in JSON, in HTML, in hexadecimal digits. Longest first.
 */
export function spellingsOf(secret: Secret): readonly Buffer[] {
  const parts = [secret.reveal(), ...secretParts(secret.reveal())];
  const all = new Set(parts.flatMap((text) => spellings(text)));
  return [...all].sort((a, b) => b.length - a.length).map((text) => Buffer.from(text, 'latin1'));
}

/** A `user:password` in base64, as `Basic {}` takes it: the parts are as secret as the whole. */
function secretParts(text: string): readonly string[] {
  if (!/^[A-Za-z0-9+/]{12,}={0,2}$/.test(text)) return [];
  const pair = Buffer.from(text, 'base64').toString('latin1');
  const [, password = ''] = /^[\x20-\x7e]*?:([\x20-\x7e]+)$/.exec(pair) ?? [];
  return password.length < 8 ? [] : [pair, password];
}

function spellings(text: string): readonly string[] {
  const hex = Buffer.from(text, 'latin1').toString('hex');
  const everyPercent = hex.replaceAll(/../g, (byte) => `%${byte}`);
  const uri = text.replaceAll(/[^A-Za-z0-9\-_.!~*'()]/g, percent);
  const strict = text.replaceAll(/[^A-Za-z0-9\-_.~]/g, percent); // RFC 3986
  const form = text.replaceAll(/[^A-Za-z0-9\-_.* ]/g, percent).replaceAll(' ', '+');
  const json = JSON.stringify(text).slice(1, -1);
  const unicode = text.replaceAll(/[^A-Za-z0-9]/g, (char) => `\\u00${hexOf(char)}`);
  const htmlUnicode = text.replaceAll(/["&'<>\\/=+]/g, (char) => `\\u00${hexOf(char)}`); // JSON for HTML: Go, Rails, Gson
  return [
    text,
    ...[everyPercent, uri, strict, form, unicode, htmlUnicode].flatMap(bothCases),
    json,
    json.replaceAll('/', '\\/'),
    text.replaceAll(/["&'<>]/g, (char) => named[char] ?? char),
    text.replaceAll(/["&'<>]/g, (char) => `&#${char.charCodeAt(0)};`),
    hex,
    hex.toUpperCase(),
    ...base64(text),
  ];
}

/** The part of it that is the same whatever stands before and after, for each of the three alignments. */
function base64(text: string): readonly string[] {
  return [0, 1, 2].flatMap((before) => {
    const bytes = Buffer.concat([Buffer.alloc(before), Buffer.from(text, 'latin1')]);
    const from = Math.ceil((before * 8) / 6);
    const whole = bytes.toString('base64').slice(from, Math.floor((bytes.length * 8) / 6));
    return [whole, whole.replaceAll('+', '-').replaceAll('/', '_')];
  });
}

const named: Readonly<Record<string, string>> = {
  '"': '&quot;',
  '&': '&amp;',
  "'": '&#39;',
  '<': '&lt;',
  '>': '&gt;',
};

function percent(char: string): string {
  return `%${hexOf(char)}`;
}

function hexOf(char: string): string {
  return char.charCodeAt(0).toString(16).padStart(2, '0');
}

/** The digits of its escapes in lower and in upper case. */
function bothCases(text: string): readonly string[] {
  return [
    text,
    text.replaceAll(/(%|\\u00)([0-9a-f]{2})/g, (_, mark: string, digits: string) => mark + digits.toUpperCase()),
  ];
}
