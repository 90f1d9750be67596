import { isIP } from 'node:net';

/** What a client has written for a host, in one form: a name in lower case without the last dot, or an address. */
export type Host =
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'address'; readonly address: string }
  | { readonly kind: 'bad'; readonly reason: string };

const label = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
const namePattern = new RegExp(`^${label}(?:\\.${label})*$`);

/**
 * Strict: a form that two programs could read in two ways is bad, whatever the URL standard would make of it. Numbers that
 * resolvers take for an address (`0x7f.1`, `2130706433`, `0177.0.0.1`, `127.1`: inet_aton(3)) are that address.
 */
export function readHost(text: string): Host {
  if (text.length > 255) return bad('the host is longer than a name can be');
  if (!/^[\x21-\x7E]+$/.test(text))
    return bad('the host holds what is no letter of a name; write other alphabets as xn--');
  const lower = text.toLowerCase();
  if (lower.startsWith('[')) {
    const address = /^\[([0-9a-f:.]+)\]$/.exec(lower)?.[1] ?? '';
    return isIP(address) === 6 ? { kind: 'address', address } : bad('the host is no IPv6 address');
  }
  if (lower.includes(':'))
    return isIP(lower) === 6 && !lower.includes('%')
      ? { kind: 'address', address: lower }
      : bad('the host holds a colon');
  const name = lower.endsWith('.') ? lower.slice(0, -1) : lower;
  if (/(^|\.)(\d+|0x[0-9a-f]*)$/.test(name)) {
    const address = numbersAsAddress(name);
    return address === undefined ? bad('the host ends in a number and is no address') : { kind: 'address', address };
  }
  if (name.length > 253 || !namePattern.test(name)) return bad('the host is no host name');
  return { kind: 'name', name };
}

function bad(reason: string): Host {
  return { kind: 'bad', reason };
}

/** As inet_aton(3) reads them: one to four numbers, decimal, octal or hexadecimal, the last one filling the rest. */
function numbersAsAddress(text: string): string | undefined {
  const numbers = text.split('.').map((part) => numberOf(part));
  const last = numbers.at(-1);
  if (numbers.length > 4 || last === undefined || last >= 256 ** (5 - numbers.length)) return undefined;
  let value = last;
  for (const [at, number] of numbers.slice(0, -1).entries()) {
    if (number === undefined || number > 255) return undefined;
    value += number * 256 ** (3 - at);
  }
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
}

function numberOf(text: string): number | undefined {
  if (/^0x[0-9a-f]*$/.test(text)) return text === '0x' ? 0 : Number.parseInt(text.slice(2), 16);
  if (/^0[0-7]*$/.test(text)) return Number.parseInt(text, 8);
  return /^[1-9]\d*$/.test(text) ? Number(text) : undefined;
}

export function matchesHost(pattern: string, name: string): boolean {
  if (pattern.startsWith('**.')) return name.endsWith(pattern.slice(2)) && name.length > pattern.length - 2;
  if (!pattern.startsWith('*.')) return pattern === name;
  const suffix = pattern.slice(1);
  return name.endsWith(suffix) && name.length > suffix.length && !name.slice(0, -suffix.length).includes('.');
}

/** Whether some name matches both patterns. */
export function hostsOverlap(a: string, b: string): boolean {
  if (!a.startsWith('*')) return matchesHost(b, a) || a === b;
  if (!b.startsWith('*')) return matchesHost(a, b);
  const [x, y] = [suffixOf(a), suffixOf(b)];
  if (x === y) return true;
  const [longer, shorter, open] = x.length > y.length ? [x, y, b] : [y, x, a];
  return open.startsWith('**.') && longer.endsWith(shorter);
}

/** With its first dot. */
function suffixOf(pattern: string): string {
  return pattern.slice(pattern.indexOf('.'));
}
