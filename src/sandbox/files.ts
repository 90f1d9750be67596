import { setImmediate } from 'node:timers/promises';
import { encodePath } from '../bytes-path.ts';
import { isRunnerError } from '../errors.ts';
import { joinBytes } from '../long-bytes.ts';
import type { SpecEncoder } from './exec-spec.ts';
import { broken } from './frames.ts';
import { startHand, type Hand, type HandHost, type HandRequest, type RecordSink } from './hand.ts';
import { encodeItem, encodeLast, encodeRecord, type HandRecord } from './records.ts';
import {
  FileError,
  type FileEntry,
  type Files,
  type UnpackItem,
  type WalkItem,
  type WalkOptions,
  type WriteOptions,
} from './spec.ts';
import { Slots } from '../slots.ts';
import { walk } from './walk.ts';
import { tags, verbsMax, walksMax } from './wire.ts';

const quickMs = 30_000;
const longMs = 600_000;
const readMax = 64 * 1024 * 1024;
const pathMax = 4_096;
const batchBytes = 65_528;
const follow = 1;
const withDigest = 2;

/** File verbs of one sandbox. Everything that comes back was said by the sandbox: bounded, and parsed strictly. */
export class HandFiles implements Files {
  readonly #host: HandHost;
  readonly #verbs = new Slots(verbsMax);
  readonly #walks = new Slots(walksMax);

  constructor(host: HandHost) {
    this.#host = host;
  }

  async stat(path: string, options: { follow?: boolean; digest?: boolean } = {}): Promise<FileEntry> {
    const flags = (options.follow === true ? follow : 0) | (options.digest === true ? withDigest : 0);
    return this.#entry({ verb: 'stat', path, timeoutMs: quickMs }, (spec) => spec.u8(tags.flags, flags));
  }

  async read(
    path: string,
    options: { offset?: number; lengthBytes?: number; maxBytes?: number } = {},
  ): Promise<{ entry: FileEntry; bytes: Buffer }> {
    const offset = options.offset ?? 0;
    const maxBytes = options.maxBytes ?? readMax;
    const wanted = Math.min(options.lengthBytes ?? Infinity, maxBytes + 1);
    let entry: FileEntry | undefined;
    const parts: Buffer[] = [];
    let total = 0;
    const sink: RecordSink = (record) => {
      if (record.kind === 'entry' && entry === undefined) entry = record.entry;
      else if (record.kind === 'data' && entry !== undefined && total + record.bytes.length <= wanted) {
        total += record.bytes.length;
        parts.push(record.bytes);
      } else if (record.kind !== 'end' && record.kind !== 'file_end')
        throw broken(`${record.kind} in the answer to a read`);
      return true;
    };
    await this.#run({ verb: 'read', path, timeoutMs: quickMs }, sink, (spec) =>
      spec.u64(tags.offset, offset).u64(tags.length, wanted),
    );
    if (entry === undefined) throw broken('a read without its file');
    if (total > maxBytes)
      throw new FileError(
        'too_large',
        path,
        `read ${JSON.stringify(path)}: it has ${entry.sizeBytes} bytes, more than ${maxBytes}; read a range`,
      );
    return { entry, bytes: await joinBytes(parts) };
  }

  async write(path: string, bytes: Uint8Array, options: WriteOptions = {}): Promise<FileEntry> {
    const flags =
      (options.create === 'only' ? 1 : options.create === 'never' ? 2 : 0) |
      (options.parents === true ? 4 : 0) |
      (options.mode === undefined ? 0 : 8);
    return this.#entry(
      { verb: 'write', path, timeoutMs: quickMs },
      (spec) => {
        spec.u32(tags.mode, options.mode ?? 0o644).u8(tags.flags, flags);
        if (options.ifMatch !== undefined) spec.bytes(tags.ifMatch, Buffer.from(options.ifMatch.slice(7), 'hex'));
      },
      (hand) => hand.write(bytes, true),
    );
  }

  walk(paths: readonly string[], options: WalkOptions = {}): AsyncIterable<WalkItem> {
    return walk(this.#host, this.#walks, paths.map(checked), options, longMs);
  }

  async mkdir(path: string, options: { mode?: number; parents?: boolean } = {}): Promise<void> {
    await this.#run({ verb: 'mkdir', path, timeoutMs: quickMs }, onlyEnd, (spec) =>
      spec.u32(tags.mode, options.mode ?? 0o755).u8(tags.flags, options.parents === true ? 1 : 0),
    );
  }

  async move(from: string, to: string, options: { replace?: boolean } = {}): Promise<void> {
    await this.#run({ verb: 'move', path: from, timeoutMs: quickMs }, onlyEnd, (spec) =>
      spec.bytes(tags.to, encodePath(checked(to))).u8(tags.flags, options.replace === true ? 1 : 0),
    );
  }

  async remove(path: string, options: { recursive?: boolean } = {}): Promise<void> {
    await this.#run({ verb: 'remove', path, timeoutMs: longMs }, onlyEnd, (spec) =>
      spec.u8(tags.flags, options.recursive === true ? 1 : 0),
    );
  }

  async unpack(
    root: string,
    items: Iterable<UnpackItem> | AsyncIterable<UnpackItem>,
    options: { owners?: boolean } = {},
  ): Promise<void> {
    await this.#run(
      { verb: 'unpack', path: root, timeoutMs: longMs },
      onlyEnd,
      (spec) => spec.u8(tags.flags, options.owners === true ? 1 : 0),
      (hand) => sendItems(hand, items),
    );
  }

  async #entry(
    request: Omit<HandRequest, 'args' | 'stdin'>,
    args: (spec: SpecEncoder) => void,
    feed?: (hand: Hand) => Promise<void>,
  ): Promise<FileEntry> {
    let entry: FileEntry | undefined;
    const sink: RecordSink = (record) => {
      if (record.kind === 'entry' && entry === undefined) entry = record.entry;
      else if (record.kind !== 'end') throw broken(`${record.kind} in the answer to a ${request.verb}`);
      return true;
    };
    await this.#run(request, sink, args, feed);
    if (entry === undefined) throw broken(`a ${request.verb} without its entry`);
    return entry;
  }

  /** `request.path` is the first argument of every verb. */
  async #run(
    request: Omit<HandRequest, 'args' | 'stdin'>,
    sink: RecordSink,
    args: (spec: SpecEncoder) => void,
    feed?: (hand: Hand) => Promise<void>,
  ): Promise<void> {
    const path = encodePath(checked(request.path));
    const all = (spec: SpecEncoder): void => args(spec.bytes(tags.path, path));
    const whole = { ...request, args: all, stdin: feed !== undefined };
    const hand = await startHand(this.#host, this.#verbs, whole, sink);
    if (feed !== undefined) await fed(hand, feed);
    await hand.done;
  }
}

/** A hand that stops reading says why when it ends; what the caller's own iterable throws ends the hand. */
async function fed(hand: Hand, feed: (hand: Hand) => Promise<void>): Promise<void> {
  try {
    await feed(hand);
  } catch (error) {
    if (isRunnerError(error, 'invalid_request')) return;
    hand.cancel();
    throw error;
  }
}

async function sendItems(hand: Hand, items: Iterable<UnpackItem> | AsyncIterable<UnpackItem>): Promise<void> {
  let batch: Buffer[] = [];
  let length = 0;
  const add = async (record: Buffer): Promise<void> => {
    if (length + record.length > batchBytes) {
      await hand.write(Buffer.concat(batch, length), false);
      await setImmediate(); // while there is room nothing else is waited for
      batch = [];
      length = 0;
    }
    batch.push(record);
    length += record.length;
  };
  for await (const item of items) {
    checked(item.path);
    const content = item.type === 'file' ? (item.content ?? new Uint8Array(0)) : undefined;
    const size = content instanceof Uint8Array ? content.length : (item.sizeBytes ?? 0);
    await add(encodeItem(item, size));
    if (content === undefined) continue;
    let sent = 0;
    for await (const bytes of content instanceof Uint8Array ? [content] : content) {
      sent += bytes.length;
      for (let at = 0; at < bytes.length; at += 32_768) await add(encodeRecord('D', bytes.subarray(at, at + 32_768)));
    }
    if (sent !== size)
      throw new FileError(
        'io',
        item.path,
        `unpack ${JSON.stringify(item.path)}: its content has ${sent} bytes instead of ${size}`,
      );
    await add(encodeRecord('F', new Uint8Array(0)));
  }
  await add(encodeLast());
  await hand.write(Buffer.concat(batch, length), true);
}

function onlyEnd(record: HandRecord): boolean {
  if (record.kind !== 'end') throw broken(`${record.kind} where only the end can come`);
  return true;
}

function checked(path: string): string {
  const bytes = Buffer.byteLength(path);
  if (path !== '' && !path.includes('\0') && bytes <= pathMax) return path;
  const what =
    path === '' ? 'a path is empty' : bytes > pathMax ? `a path has ${bytes} bytes` : 'a path has a NUL byte';
  throw new FileError('invalid_path', path, `${what}; give one of 1 to ${pathMax} bytes without NUL`);
}
