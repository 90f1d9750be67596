import { foldedName } from './fold.ts';

/** What is strange about a path, for a reviewer: each of these has hidden a change from someone, or broken a checkout. */
export function odditiesOf(path: string): readonly string[] {
  const found = new Set<string>();
  for (const name of path.split('/')) {
    for (const [oddity, test] of oddities) if (test.test(name)) found.add(oddity);
    if (Buffer.byteLength(name) > 255) found.add('longer than 255 bytes');
  }
  return [...found];
}

const oddities: readonly (readonly [string, RegExp])[] = [
  ['control characters', /[\u0000-\u001F\u007F-\u009F\u2028\u2029]/],
  [
    'text direction or invisible characters',
    /[\u00AD\u061C\u180E\u200B-\u200F\u202A-\u202E\u2060-\u206F\uFEFF\uFFF9-\uFFFB]/,
  ],
  ['not UTF-8', /\p{Cs}/u],
  ['ends in a dot or space', /[. ]$/],
  ['starts with a space or dash', /^[ -]/],
  ['reserved on Windows', /^(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?$/i],
  ['characters that Windows refuses', /[<>:"|?*\\]/],
];

/**
 * Whether a name is, or is taken by some file system for, git's own directory: other case, code points that HFS+ skips,
 * trailing dots and spaces or a stream name on NTFS, its short name (CVE-2014-9390, CVE-2019-1352, CVE-2019-1353).
 */
export function isGitName(name: string): boolean {
  if (!/g/i.test(name)) return false;
  const plain = name
    .replaceAll(/[\u200C-\u200F\u202A-\u202E\u206A-\u206F\uFEFF]/g, '')
    .split(':', 1)
    .join('')
    .replace(/[. ]+$/, '');
  const folded = foldedName(plain);
  return folded === '.git' || folded === 'git~1';
}

/** A path as it can be shown on a terminal or a page: whatever is not plainly visible becomes an escape. */
export function displayPath(path: string): string {
  return path.replaceAll(/[\p{C}\p{Zl}\p{Zp}\\]|(?! )\p{Zs}/gu, (char) => {
    const code = char.codePointAt(0) ?? 0;
    if (char === '\\') return '\\\\';
    if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
    return code < 0x80 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
  });
}
