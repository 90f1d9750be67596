/**
 * Text from a sandbox, safe to show: a terminal, a log line or a page finds nothing in it to obey. Escaped are controls
 * (C0, DEL, C1), line and paragraph separators, bidirectional and other invisible formatting, tags, and lone surrogates.
 * Backslashes stay: what is shown is for reading, not for parsing back.
 */
export function printable(text: string, options: { newlines?: 'escape' | 'keep' } = {}): string {
  return text.replaceAll(unsafe, (char) => (char === '\n' && options.newlines === 'keep' ? char : escapeChar(char)));
}

/** The same for JSON text: only printable ASCII is left, and it parses to the same value. */
export function asciiJson(json: string): string {
  if (/^[\x20-\x7e]*$/.test(json)) return json;
  return json.replaceAll(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** The same for JSON text that people read too: what a terminal would obey is escaped as JSON has it, letters of all alphabets stay. */
export function printableJson(json: string): string {
  return json.replaceAll(unsafe, escapeUnits);
}

function escapeUnits(char: string): string {
  return Array.from({ length: char.length }, (_, at) => `\\u${char.charCodeAt(at).toString(16).padStart(4, '0')}`).join(
    '',
  );
}

// Cc, Cf (bidi, zero width, tags, soft hyphen), Zl, Zp, Cs; Hangul fillers and variation selectors look like nothing too.
const unsafe = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\u115f\u1160\u3164\uffa0\p{Variation_Selector}]/gu;

function escapeChar(char: string): string {
  switch (char) {
    case '\n':
      return '\\n';
    case '\r':
      return '\\r';
    case '\t':
      return '\\t';
    default: {
      const code = char.codePointAt(0) ?? 0;
      if (code <= 0xff) return `\\x${code.toString(16).padStart(2, '0')}`;
      return code <= 0xffff ? `\\u${code.toString(16).padStart(4, '0')}` : `\\u{${code.toString(16)}}`;
    }
  }
}
