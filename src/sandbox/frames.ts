import { RunnerError } from '../errors.ts';
import { arrivals, fromSupervisor, headerBytes, magic, payloadMax, trailerBytes, welcomeBytes } from './wire.ts';

/** One frame that arrived. `payload` is valid for good: it is never overwritten. */
export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly call: number;
  readonly payload: Buffer;
}

/** What a frame carries, in one piece or in several that follow each other. */
export type FramePayload = Uint8Array | readonly Uint8Array[];

/** One frame to send, in one buffer. */
export function encodeFrame(epoch: number, type: number, call: number, payload: FramePayload, flags = 0): Buffer {
  const pieces = payload instanceof Uint8Array ? [payload] : payload;
  let length = 0;
  for (const piece of pieces) length += piece.length;
  if (length > payloadMax) throw new RangeError(`a frame holds at most ${payloadMax} bytes`);
  const frame = Buffer.allocUnsafe(headerBytes + length + trailerBytes);
  frame.writeUInt16LE(magic, 0);
  frame[2] = type;
  frame[3] = flags;
  frame.writeUInt32LE(call, 4);
  frame.writeUInt32LE(length, 8);
  let at = headerBytes;
  for (const piece of pieces) {
    frame.set(piece, at);
    at += piece.length;
  }
  frame.writeUInt32LE(epoch, at);
  return frame;
}

/**
 * Reads what a sandbox sends. Promises:
 *  - a header is judged before its payload is waited for; memory is at most one frame (64 KiB and 16 bytes);
 *  - how the stream is cut into chunks never changes the result;
 *  - the first thing that is wrong throws `protocol_error`, and the parser is of no further use.
 *
 * With `scan`, bytes are thrown away until a WELCOME header followed by `nonce` is seen (a stream joined in its middle).
 */
export class FrameParser {
  readonly #epoch: number;
  readonly #scan: Scan | undefined;
  #header = Buffer.alloc(0);
  #frame: Buffer | undefined;
  #filled = 0;
  #broken = false;

  constructor(options: { epoch: number; scan?: { nonce: Buffer; discardMax: number } }) {
    this.#epoch = options.epoch;
    this.#scan = options.scan === undefined ? undefined : new Scan(options.scan.nonce, options.scan.discardMax);
  }

  /** Hands every complete frame to `take`, in order. What `take` throws breaks the parser too. */
  push(chunk: Buffer, take: (frame: Frame) => void): void {
    if (this.#broken) return;
    try {
      const bytes = this.#scan === undefined ? chunk : this.#scan.push(chunk);
      if (bytes !== undefined) this.#parse(bytes, take);
    } catch (error) {
      this.#broken = true;
      this.#frame = undefined;
      throw error;
    }
  }

  #parse(chunk: Buffer, take: (frame: Frame) => void): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#frame !== undefined) at = this.#fill(chunk, at, this.#frame, take);
      else at = this.#begin(chunk, at, take);
    }
  }

  /** A frame from its first byte: read in place when the chunk holds all of it, collected otherwise. */
  #begin(chunk: Buffer, at: number, take: (frame: Frame) => void): number {
    const had = this.#header.length;
    if (had + chunk.length - at < headerBytes) {
      this.#header = Buffer.concat([this.#header, chunk.subarray(at)]);
      judgePrefix(this.#header);
      return chunk.length;
    }
    const borrowed = headerBytes - had;
    const header =
      had === 0
        ? chunk.subarray(at, at + headerBytes)
        : Buffer.concat([this.#header, chunk.subarray(at, at + borrowed)]);
    const total = headerBytes + judgeHeader(header) + trailerBytes;
    this.#header = empty;
    if (had === 0 && chunk.length - at >= total) {
      this.#finish(chunk.subarray(at, at + total), take);
      return at + total;
    }
    this.#frame = Buffer.allocUnsafeSlow(total);
    this.#frame.set(header, 0);
    this.#filled = headerBytes;
    return at + borrowed;
  }

  #fill(chunk: Buffer, at: number, frame: Buffer, take: (frame: Frame) => void): number {
    const end = Math.min(chunk.length, at + frame.length - this.#filled);
    frame.set(chunk.subarray(at, end), this.#filled);
    this.#filled += end - at;
    if (this.#filled === frame.length) {
      this.#frame = undefined;
      this.#finish(frame, take);
    }
    return end;
  }

  #finish(frame: Buffer, take: (frame: Frame) => void): void {
    const end = frame.length - trailerBytes;
    if (frame.readUInt32LE(end) !== this.#epoch) throw broken('a frame ended with another epoch');
    take({
      type: frame.readUInt8(2),
      flags: frame.readUInt8(3),
      call: frame.readUInt32LE(4),
      payload: frame.subarray(headerBytes, end),
    });
  }
}

/** What makes a stream unusable; the sandbox that sent it is given up. */
export function broken(what: string): RunnerError {
  return new RunnerError('protocol_error', `the sandbox's stream broke the protocol: ${what}; the sandbox is given up`);
}

const empty = Buffer.alloc(0);

/** The first bytes of a header already tell garbage from a frame that is on its way. */
function judgePrefix(bytes: Buffer): void {
  if (bytes.length >= 1 && bytes[0] !== (magic & 0xff)) throw broken('no frame begins like this');
  if (bytes.length >= 2 && bytes[1] !== magic >> 8) throw broken('no frame begins like this');
  if (bytes.length >= 3 && !arrivals.has(bytes.readUInt8(2))) throw broken(`frame type ${bytes[2]}`);
}

/** The length of the payload, once everything that the header says is allowed. */
function judgeHeader(header: Buffer): number {
  judgePrefix(header);
  const rule = arrivals.get(header.readUInt8(2));
  if (rule === undefined) throw broken(`frame type ${header[2]}`);
  const flags = header.readUInt8(3);
  const call = header.readUInt32LE(4);
  const length = header.readUInt32LE(8);
  if ((flags & ~rule.flags) !== 0) throw broken(`${rule.name} with flags ${flags}`);
  if ((call !== 0) !== rule.ofCall) throw broken(`${rule.name} for call ${call}`);
  if (length < rule.min || length > rule.max) throw broken(`${rule.name} of ${length} bytes`);
  return length;
}

/** Throws away what precedes the WELCOME that answers our HELLO. Keeps at most a header and a nonce, less one byte. */
class Scan {
  readonly #nonce: Buffer;
  readonly #discardMax: number;
  #kept = empty;
  #discarded = 0;
  #found = false;

  constructor(nonce: Buffer, discardMax: number) {
    this.#nonce = nonce;
    this.#discardMax = discardMax;
  }

  push(chunk: Buffer): Buffer | undefined {
    if (this.#found) return chunk;
    const bytes = this.#kept.length === 0 ? chunk : Buffer.concat([this.#kept, chunk]);
    for (let at = bytes.indexOf(this.#nonce); at >= 0; at = bytes.indexOf(this.#nonce, at + 1)) {
      if (at < headerBytes || !isWelcome(bytes.subarray(at - headerBytes, at))) continue;
      this.#found = true;
      this.#kept = empty;
      return bytes.subarray(at - headerBytes);
    }
    const keep = Math.min(bytes.length, headerBytes + this.#nonce.length - 1);
    this.#discarded += bytes.length - keep;
    if (this.#discarded > this.#discardMax) throw broken(`no answer to HELLO within ${this.#discardMax} bytes`);
    this.#kept = Buffer.from(bytes.subarray(bytes.length - keep));
    return undefined;
  }
}

function isWelcome(header: Buffer): boolean {
  const length = header.readUInt32LE(8);
  return (
    header.readUInt16LE(0) === magic &&
    header[2] === fromSupervisor.welcome &&
    header[3] === 0 &&
    header.readUInt32LE(4) === 0 &&
    length >= welcomeBytes &&
    length <= payloadMax
  );
}
