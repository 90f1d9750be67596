import { decodePath } from '../../bytes-path.ts';

/** File names in patch headers: C-quoted by git, or plain up to a tab. Text in is one character per byte. */
export function parseName(text: string): string | undefined {
  if (text.startsWith('"')) return parseQuoted(text)?.name;
  const tab = text.indexOf('\t');
  const name = (tab === -1 ? text : text.slice(0, tab)).replace(/\r$/, '');
  return name === '' ? undefined : pathOf(name);
}

/** The two names of `diff --git X Y`. Unquoted names with spaces can be told only where both are the same. */
export function parseGitLine(text: string): { from: string; to: string } | undefined {
  const rest = text.replace(/\r$/, '');
  if (rest.startsWith('"')) {
    const first = parseQuoted(rest);
    if (first === undefined || rest[first.end] !== ' ') return undefined;
    const second = parseName(rest.slice(first.end + 1));
    return second === undefined ? undefined : { from: first.name, to: second };
  }
  if (rest.endsWith('"')) {
    const at = rest.indexOf(' "');
    const second = at === -1 ? undefined : parseQuoted(rest.slice(at + 1));
    return second === undefined ? undefined : { from: pathOf(rest.slice(0, at)), to: second.name };
  }
  const middle = (rest.length - 1) / 2;
  const from = rest.slice(0, middle);
  const to = rest.slice(middle + 1);
  if (rest[middle] === ' ' && afterPrefix(from) === afterPrefix(to)) return { from: pathOf(from), to: pathOf(to) };
  const parts = rest.split(' ');
  const [one, two] = parts;
  return parts.length === 2 && one !== undefined && two !== undefined
    ? { from: pathOf(one), to: pathOf(two) }
    : undefined;
}

/** `a/x` and `b/x` are `x`, also with git's mnemonic prefixes; names without both prefixes are taken as they are. */
export function stripPrefixes(from: string | undefined, to: string | undefined): { from?: string; to?: string } {
  const old = from === undefined || /^[aciow]\//.test(from);
  const young = to === undefined || /^[bciow]\//.test(to);
  const strip = old && young && (from === undefined || to === undefined || from[0] !== to[0]);
  return {
    ...(from === undefined ? {} : { from: strip ? from.slice(2) : from }),
    ...(to === undefined ? {} : { to: strip ? to.slice(2) : to }),
  };
}

function afterPrefix(name: string): string {
  return /^[abciow]\//.test(name) ? name.slice(2) : name;
}

function pathOf(latin1: string): string {
  return decodePath(Buffer.from(latin1, 'latin1'));
}

const escapes: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  t: '\t',
  n: '\n',
  v: '\v',
  f: '\f',
  r: '\r',
  '"': '"',
  '\\': '\\',
};

/** `end` is one past the closing quote. */
function parseQuoted(text: string): { name: string; end: number } | undefined {
  let out = '';
  for (let at = 1; at < text.length; at++) {
    const char = text[at] ?? '';
    if (char === '"') return { name: pathOf(out), end: at + 1 };
    if (char !== '\\') {
      out += char;
      continue;
    }
    const octal = /^[0-3][0-7]{2}/.exec(text.slice(at + 1, at + 4));
    const simple = escapes[text[at + 1] ?? ''];
    if (octal !== null) {
      out += String.fromCharCode(Number.parseInt(octal[0], 8));
      at += 3;
    } else if (simple === undefined) return undefined;
    else {
      out += simple;
      at += 1;
    }
  }
  return undefined;
}
