import type { Digest } from '../../digest.ts';
import { digestOf } from '../../digest.ts';
import { RunnerError } from '../../errors.ts';
import { FileError, type Files } from '../../sandbox/spec.ts';
import type { BlobStore } from '../blobs.ts';
import type { Change, Node } from '../change-set.ts';
import { sameNode } from '../diff.ts';
import type { Findings } from './findings.ts';
import type { Base } from '../base/import.ts';
import type { WorkspaceLimits } from '../limits.ts';
import { unknownDigest } from './scan.ts';

/**
 * The contents of changed files: read out of the sandbox, hashed here, kept in the blob store. Small ones may have come
 * along with the listing already (`take`); the rest is asked for, a few at once. All together stay within the limits.
 */
export class Contents {
  readonly #files: Files;
  readonly #base: Base;
  readonly #blobs: BlobStore;
  readonly #limits: WorkspaceLimits;
  readonly #read = new Map<string, Read>();
  #bytesLeft: number;

  constructor(files: Files, base: Base, blobs: BlobStore, limits: WorkspaceLimits) {
    this.#files = files;
    this.#base = base;
    this.#blobs = blobs;
    this.#limits = limits;
    this.#bytesLeft = limits.bytesMax;
  }

  /** What the base has at that path already is not kept once more. */
  async take(path: string, bytes: Uint8Array): Promise<Digest> {
    this.#bytesLeft = Math.max(0, this.#bytesLeft - bytes.length);
    const before = this.#base.tree.get(path);
    const digest = digestOf(bytes);
    if (before?.kind !== 'file' || before.digest !== digest) await this.#blobs.put(bytes);
    this.#read.set(path, { kind: 'read', digest, sizeBytes: bytes.length });
    return digest;
  }

  /** The changes as they are once their contents were read; what turned out to be no change is left out. */
  async prove(
    changes: ReadonlyMap<string, Change>,
    findings: Findings,
    signal: AbortSignal | undefined,
  ): Promise<ReadonlyMap<string, Change>> {
    const waiting = changes.entries();
    const worker = async (): Promise<void> => {
      for (const [path, change] of waiting) {
        signal?.throwIfAborted();
        if (change.kind === 'file' && !this.#read.has(path)) this.#read.set(path, await this.#fetch(path, change));
      }
    };
    await Promise.all(Array.from({ length: readsAtOnce }, worker));

    const proven = new Map<string, Change>();
    for (const [path, change] of changes) {
      const read = this.#read.get(path);
      if (change.kind !== 'file' || read === undefined) proven.set(path, change);
      else if (read.kind === 'failed')
        findings.add({ kind: read.why, path, effect: 'incomplete', detail: read.detail });
      else {
        if (read.digest !== change.digest && change.digest !== unknownDigest) {
          findings.add({ kind: 'digest_mismatch', path, effect: 'noted', detail: `the sandbox said ${change.digest}` });
        }
        const node: Node = { ...change, digest: read.digest, sizeBytes: read.sizeBytes };
        const before = this.#base.tree.get(path);
        if (before === undefined || !sameNode(before, node)) proven.set(path, node);
      }
    }
    return proven;
  }

  async #fetch(path: string, { sizeBytes }: Node & { kind: 'file' }): Promise<Read> {
    const bytesMax = Math.min(this.#limits.fileBytesMax, this.#bytesLeft);
    const read = sizeBytes > bytesMax ? tooLarge(bytesMax) : await fetchFile(this.#files, path, this.#blobs, bytesMax);
    if (read.kind === 'read') this.#bytesLeft -= read.sizeBytes;
    // It said to be small and was not: what was read for nothing counts.
    else if (read.why === 'limit_exceeded' && sizeBytes <= bytesMax)
      this.#bytesLeft = Math.max(0, this.#bytesLeft - bytesMax);
    return read;
  }
}

const pieceBytes = 8 * 1024 * 1024;
const readsAtOnce = 8;

type Read =
  | { readonly kind: 'read'; readonly digest: Digest; readonly sizeBytes: number }
  | { readonly kind: 'failed'; readonly why: 'unreadable' | 'limit_exceeded'; readonly detail: string };

async function fetchFile(files: Files, path: string, blobs: BlobStore, bytesMax: number): Promise<Read> {
  try {
    const first = await readPiece(files, path, 0);
    if (first.length < pieceBytes) {
      if (first.length > bytesMax) return tooLarge(bytesMax);
      return { kind: 'read', digest: await blobs.put(first), sizeBytes: first.length };
    }
    return { kind: 'read', ...(await blobs.putStream(piecesOf(files, path, first), bytesMax)) };
  } catch (error) {
    if (error instanceof FileError) return { kind: 'failed', why: 'unreadable', detail: error.code };
    if (error instanceof RunnerError && error.code === 'limit_exceeded') return tooLarge(bytesMax);
    throw error;
  }
}

function tooLarge(bytesMax: number): Read {
  return { kind: 'failed', why: 'limit_exceeded', detail: `more than ${bytesMax} bytes` };
}

async function* piecesOf(files: Files, path: string, first: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  yield first;
  for (let offset = first.length, last = first.length; last === pieceBytes; offset += last) {
    const piece = await readPiece(files, path, offset);
    last = piece.length;
    yield piece;
  }
}

async function readPiece(files: Files, path: string, offset: number): Promise<Uint8Array> {
  const { bytes } = await files.read(path, { offset, lengthBytes: pieceBytes, maxBytes: pieceBytes });
  if (bytes.length > pieceBytes)
    throw new RunnerError('protocol_error', 'collect: the sandbox sent more than was asked');
  return bytes;
}
