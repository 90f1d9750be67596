import { archiveRefused, blockBytes } from './tar-entry.ts';

const posixMagic = 'ustar\u000000';

export interface TarHeader {
  readonly name: Buffer;
  readonly mode: number;
  readonly size: number;
  readonly type: string;
  readonly linkName: Buffer;
}

/** One header block: right checksum, POSIX or GNU magic, plain octal numbers; anything else is refused. `at` is its offset. */
export function parseHeader(block: Buffer, at: number): TarHeader {
  const stated = octal(block.subarray(148, 156), 'checksum', at);
  if (stated !== checksum(block)) throw archiveRefused(`bad checksum in the header at byte ${at}`);
  const magic = block.toString('latin1', 257, 265);
  const posix = magic === posixMagic;
  if (!posix && magic !== 'ustar  \0') throw archiveRefused(`the header at byte ${at} is neither POSIX nor GNU tar`);
  const name = untilNul(block.subarray(0, 100));
  const prefix = posix ? untilNul(block.subarray(345, 500)) : Buffer.alloc(0);
  return {
    name: prefix.length === 0 ? name : Buffer.concat([prefix, Buffer.from('/'), name]),
    mode: octal(block.subarray(100, 108), 'mode', at),
    size: octal(block.subarray(124, 136), 'size', at),
    type: block[156] === 0 ? '0' : String.fromCharCode(block[156] ?? 0),
    linkName: untilNul(block.subarray(157, 257)),
  };
}

/** A complete header block. Names longer than their fields are cut: a pax header in front carries them. */
export function formatHeader(
  header: Omit<TarHeader, 'linkName'> & { linkName?: Buffer; mtimeSeconds?: number },
): Buffer {
  const block = Buffer.alloc(blockBytes);
  header.name.copy(block, 0, 0, 100);
  putOctal(block, 100, 8, header.mode);
  putOctal(block, 108, 8, 0);
  putOctal(block, 116, 8, 0);
  putOctal(block, 124, 12, header.size);
  putOctal(block, 136, 12, Math.max(0, Math.min(header.mtimeSeconds ?? 0, 0o77777777777)));
  block.write(header.type, 156, 'latin1');
  header.linkName?.copy(block, 157, 0, 100);
  block.write(posixMagic, 257, 'latin1');
  block.write(`${checksum(block).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

/** The sum of all bytes, those of the checksum itself taken as spaces. */
function checksum(block: Buffer): number {
  let sum = 8 * 0x20;
  for (let at = 0; at < block.length; at++) if (at < 148 || at >= 156) sum += block[at] ?? 0;
  return sum;
}

function octal(field: Buffer, what: string, at: number): number {
  const found = /^ *([0-7]{1,12})[ \0]*$/.exec(field.toString('latin1'));
  const value = found?.[1] === undefined ? Number.NaN : Number.parseInt(found[1], 8);
  if (!Number.isSafeInteger(value)) throw archiveRefused(`bad ${what} in the header at byte ${at}`);
  return value;
}

function putOctal(block: Buffer, at: number, length: number, value: number): void {
  block.write(
    `${Math.floor(value)
      .toString(8)
      .padStart(length - 1, '0')}\0`,
    at,
    'latin1',
  );
}

function untilNul(field: Buffer): Buffer {
  const end = field.indexOf(0);
  return end === -1 ? field : field.subarray(0, end);
}
