import { encodePath } from '../bytes-path.ts';
import type { SpecEncoder } from './exec-spec.ts';
import { fileErrorCode } from './file-errors.ts';
import { broken } from './frames.ts';
import { startHand, type HandHost } from './hand.ts';
import type { Slots } from '../slots.ts';
import type { HandRecord } from './records.ts';
import type { FileEntry, WalkItem, WalkOptions } from './spec.ts';
import { tags } from './wire.ts';

const limits = {
  entriesMax: 1_000_000,
  contentBytesMax: 4 * 1024 ** 3,
  fileBytesMax: 64 * 1024 ** 2,
  depthMax: 4_096,
} as const;

/**
 * Entries as they come. Nothing is read ahead beyond the window (256 KiB) and the content of one file: a slow consumer
 * slows the walk. Leaving the loop ends it.
 */
export async function* walk(
  host: HandHost,
  slots: Slots,
  paths: readonly string[],
  options: WalkOptions,
  timeoutMs: number,
): AsyncGenerator<WalkItem> {
  if (paths.length === 0) return yield { kind: 'end', truncated: false };
  const inbox = new Inbox(bounds(options));
  const request = { verb: 'walk', path: paths[0] ?? '', stdin: false, timeoutMs } as const;
  const args = (spec: SpecEncoder): void => encodeWalk(spec, paths, options);
  const hand = await startHand(host, slots, { ...request, args }, (record) => inbox.take(record));
  let finished = false;
  void hand.done.then(
    () => inbox.close(),
    () => inbox.close(),
  );
  try {
    for (;;) {
      const item = inbox.shift();
      if (item !== undefined) yield item;
      else if (inbox.closed) break;
      else {
        hand.more();
        await inbox.arrival();
      }
    }
    finished = true;
    await hand.done;
  } finally {
    if (!finished) hand.cancel();
  }
}

/** Puts records together into items, strictly, and holds them until they are asked for. */
class Inbox {
  readonly #bounds: typeof limits | Bounds;
  #items: WalkItem[] = [];
  #at = 0;
  #entry: FileEntry | undefined;
  #content: Buffer[] = [];
  #contentBytes = 0;
  #totalBytes = 0;
  #entries = 0;
  #wake: (() => void) | undefined;
  closed = false;

  constructor(bounds: Bounds) {
    this.#bounds = bounds;
  }

  /** False while something waits to be consumed. */
  take(record: HandRecord): boolean {
    switch (record.kind) {
      case 'entry':
        this.#flush();
        if (++this.#entries > this.#bounds.entriesMax) throw broken('a walk with more entries than were asked for');
        this.#entry = record.entry;
        break;
      case 'data':
        this.#data(record.bytes);
        break;
      case 'file_end':
        if (this.#entry?.type !== 'file') throw broken('the end of no file');
        this.#put({ kind: 'entry', entry: this.#entry, content: Buffer.concat(this.#content, this.#contentBytes) });
        this.#reset();
        break;
      case 'unreadable':
        this.#flush();
        this.#put({ kind: 'unreadable', path: record.path, code: fileErrorCode(record.errno) });
        break;
      case 'end':
        this.#flush();
        this.#put({ kind: 'end', truncated: record.truncated });
        break;
      case 'failed':
        break;
      default:
        throw broken(`${record.kind} in the answer to a walk`);
    }
    return this.#at >= this.#items.length;
  }

  shift(): WalkItem | undefined {
    const item = this.#items[this.#at++];
    if (item === undefined) {
      this.#items = [];
      this.#at = 0;
    }
    return item;
  }

  arrival(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  close(): void {
    this.closed = true;
    this.#wake?.();
  }

  #data(bytes: Buffer): void {
    if (this.#entry?.type !== 'file') throw broken('content without its file');
    this.#contentBytes += bytes.length;
    this.#totalBytes += bytes.length;
    if (this.#contentBytes > this.#bounds.fileBytesMax || this.#totalBytes > this.#bounds.contentBytesMax)
      throw broken('a walk with more content than was asked for');
    this.#content.push(bytes);
  }

  /** The entry before this one came without its content. */
  #flush(): void {
    if (this.#entry === undefined) return;
    if (this.#contentBytes > 0) throw broken('content without its end');
    this.#put({ kind: 'entry', entry: this.#entry });
    this.#reset();
  }

  #reset(): void {
    this.#entry = undefined;
    this.#content = [];
    this.#contentBytes = 0;
  }

  #put(item: WalkItem): void {
    this.#items.push(item);
    this.#wake?.();
    this.#wake = undefined;
  }
}

type Bounds = { readonly [Name in keyof typeof limits]: number };

function bounds(options: WalkOptions): Bounds {
  return {
    entriesMax: options.entriesMax ?? limits.entriesMax,
    contentBytesMax: options.contentBytesMax ?? limits.contentBytesMax,
    fileBytesMax: options.fileBytesMax ?? limits.fileBytesMax,
    depthMax: options.depthMax ?? limits.depthMax,
  };
}

function encodeWalk(spec: SpecEncoder, paths: readonly string[], options: WalkOptions): void {
  for (const path of paths) spec.bytes(tags.path, encodePath(path));
  const flags =
    (options.contents === true ? 1 : 0) |
    (options.digests === true ? 2 : 0) |
    (options.shallow === true ? 4 : 0) |
    (options.includeRoot === true ? 8 : 0);
  spec.u8(tags.flags, flags);
  for (const name of options.prune ?? []) spec.text(tags.prune, name, 'a name to prune');
  const bound = bounds(options);
  spec.u32(tags.depthMax, bound.depthMax).u64(tags.entriesMax, bound.entriesMax);
  spec.u64(tags.contentBytesMax, bound.contentBytesMax).u64(tags.fileBytesMax, bound.fileBytesMax);
}
