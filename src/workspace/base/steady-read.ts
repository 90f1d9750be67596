import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

import { digestOf, type Digest } from '../../digest.ts';
import { messageOf, RunnerError } from '../../errors.ts';
import type { Node } from '../change-set.ts';
import { fileSeen, isSettled } from './seen.ts';
import { hostPath, liesAt } from './host-path.ts';

/** What was read of a file of the host that did not change meanwhile. */
export interface SteadyRead {
  readonly node: Node & { readonly kind: 'file' };
  /** Undefined while it could still change unseen. */
  readonly identity: string | undefined;
}

/**
 * Opens a file once, never through a link (of the directories above it neither), and passes its bytes on in pieces that are only good for the moment. One that
 * changes meanwhile is begun anew (`begin`); one that keeps changing, or cannot be read, is `import_refused`.
 */
export function readSteadily(
  root: string,
  path: string,
  buffer: Buffer,
  fileBytesMax: number,
  begin: (mode: 0o644 | 0o755) => (piece: Uint8Array) => void,
): SteadyRead {
  let source: number;
  try {
    // Neither a link nor a FIFO that took the file's place meanwhile is followed or waited for.
    source = openSync(hostPath(root, path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    throw refused(path, `cannot be read (${messageOf(cause)})`, cause);
  }
  try {
    if (!liesAt(source, root, path)) throw refused(path, 'is not where it was: a directory above it was replaced');
    for (let attempt = 0; attempt < attempts; attempt++) {
      const readMs = Date.now();
      const before = fstatSync(source);
      if (!before.isFile()) throw refused(path, 'is no longer a file');
      if (before.size > fileBytesMax) throw refused(path, `has more than ${fileBytesMax} bytes`);
      const mode = (before.mode & 0o100) === 0 ? 0o644 : 0o755;
      const { digest, sizeBytes } = passOn(source, before.size, buffer, begin(mode));
      const seen = fileSeen(before);
      if (sizeBytes !== before.size || fileSeen(fstatSync(source)).identity !== seen.identity) continue;
      return {
        node: { kind: 'file', mode, digest, sizeBytes },
        identity: isSettled(seen.changedMs, readMs) ? seen.identity : undefined,
      };
    }
  } finally {
    closeSync(source);
  }
  throw refused(path, 'keeps changing while it is read; stop what writes it');
}

/** For many files, one after the other. */
export function readingBuffer(): Buffer {
  return Buffer.allocUnsafe(256 * 1024);
}

const attempts = 3;

function passOn(
  source: number,
  size: number,
  buffer: Buffer,
  take: (piece: Uint8Array) => void,
): { digest: Digest; sizeBytes: number } {
  if (size < buffer.length) {
    // One byte more than expected, so that a file that has grown is seen.
    const piece = buffer.subarray(0, readWhole(source, buffer, size + 1));
    if (piece.length > 0) take(piece);
    return { digest: digestOf(piece), sizeBytes: piece.length };
  }
  const hash = createHash('sha256');
  let offset = 0;
  while (offset <= size) {
    const piece = buffer.subarray(0, readSync(source, buffer, 0, buffer.length, offset));
    if (piece.length === 0) break;
    hash.update(piece);
    take(piece);
    offset += piece.length;
  }
  return { digest: `sha256:${hash.digest('hex')}`, sizeBytes: offset };
}

function readWhole(source: number, buffer: Buffer, bytesMax: number): number {
  let length = 0;
  while (length < bytesMax) {
    const read = readSync(source, buffer, length, bytesMax - length, length);
    if (read === 0) break;
    length += read;
  }
  return length;
}

function refused(path: string, why: string, cause?: unknown): RunnerError {
  return new RunnerError('import_refused', `import: ${JSON.stringify(path)} ${why}`, { cause });
}
