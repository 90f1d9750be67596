import { printable } from '../../journal/printable.ts';

/** Text of anybody's, as text or in a quoted attribute of a page: nothing in it is markup, or turns what stands around it. */
export function escapeHtml(text: string): string {
  return printable(text).replaceAll(/[&<>"'`]/g, (char) => `&#${char.charCodeAt(0)};`);
}

/** JSON within a `script` element: no end of an element, no comment, and no line separator that a parser takes for its own. */
export function scriptJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
