/**
 * File names are bytes, programs want strings. Valid UTF-8 reads as itself; every other byte becomes one lone
 * surrogate U+DC80..U+DCFF (Python's PEP 383), so that the round trip is exact, also through JSON.
 */
export function decodePath(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const quick = buffer.toString('utf8');
  if (!quick.includes('\uFFFD')) return quick;
  let out = '';
  for (let at = 0; at < buffer.length;) {
    const length = sequenceLength(buffer, at);
    if (length === 0) {
      out += String.fromCharCode(0xdc00 + (buffer[at] ?? 0));
      at += 1;
    } else {
      out += buffer.toString('utf8', at, at + length);
      at += length;
    }
  }
  return out;
}

export function encodePath(path: string): Buffer {
  if (!/[\uDC80-\uDCFF]/.test(path)) return Buffer.from(path, 'utf8');
  const parts: Buffer[] = [];
  for (const char of path) {
    const unit = char.charCodeAt(0);
    const escaped = char.length === 1 && unit >= 0xdc80 && unit <= 0xdcff;
    parts.push(escaped ? Buffer.from([unit - 0xdc00]) : Buffer.from(char, 'utf8'));
  }
  return Buffer.concat(parts);
}

/** Length in bytes of the valid UTF-8 sequence at `at` (RFC 3629), or 0. */
function sequenceLength(buffer: Buffer, at: number): number {
  const first = buffer[at] ?? 0;
  if (first < 0x80) return 1;
  const length =
    first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
  if (length === 0 || at + length > buffer.length) return 0;
  return buffer.toString('utf8', at, at + length).includes('\uFFFD') && !isReplacement(buffer, at) ? 0 : length;
}

function isReplacement(buffer: Buffer, at: number): boolean {
  return buffer[at] === 0xef && buffer[at + 1] === 0xbf && buffer[at + 2] === 0xbd;
}
