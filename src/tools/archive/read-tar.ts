import { setImmediate } from 'node:timers/promises';
import { decodePath } from '../../bytes-path.ts';
import { checkTree, cleanName } from './check-tree.ts';
import { parsePax, type PaxValues } from './pax.ts';
import { archiveRefused, blockBytes, tarLimits, type TarEntry, type TarItem, type TarLimits } from './tar-entry.ts';
import { parseHeader, type TarHeader } from './tar-header.ts';

/**
 * A strict reader in front of everything that unpacks. General tar libraries re-root or skip hostile entries in silence;
 * this one refuses the whole archive (`archive_refused`) before a single entry is used. It promises:
 *  - files, directories, symbolic links that stay inside, hard links to files before them (as copies), nothing else;
 *  - names are relative, without `..`, at most 4096 bytes and 256 levels, each name at most 255 bytes, any bytes but NUL and `\`;
 *  - no path passes through a link or a file, and none comes twice;
 *  - no setuid, setgid, sparse file, device, extended attribute or compression; bounded entries and bytes;
 *  - right checksums, a complete end, and nothing but zeros after it.
 */
export function readTar(archive: Buffer, limits: TarLimits = tarLimits): TarEntry[] {
  const steps = readSteps(sourceOf(archive), limits);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return withContents(archive, value);
  }
}

/** The same, with others having their turn in between. */
export async function readTarInTurns(archive: Buffer, limits: TarLimits = tarLimits): Promise<TarEntry[]> {
  return withContents(archive, await findInTar(sourceOf(archive), limits));
}

/** What an archive holds, and where in it the contents lie: those are not read. Others have their turn in between. */
export async function findInTar(source: TarSource, limits: TarLimits = tarLimits): Promise<TarItem[]> {
  const steps = readSteps(source, limits);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    await setImmediate();
  }
}

/** Where an archive is. */
export interface TarSource {
  readonly length: number;
  /** Small pieces alone. */
  read(start: number, end: number): Buffer;
}

function sourceOf(archive: Buffer): TarSource {
  return { length: archive.length, read: (start, end) => archive.subarray(start, end) };
}

function withContents(archive: Buffer, items: readonly TarItem[]): TarEntry[] {
  return items.map(({ start, sizeBytes, ...item }) => ({
    ...item,
    content: archive.subarray(start, start + sizeBytes),
  }));
}

function* readSteps(source: TarSource, limits: TarLimits): Generator<void, TarItem[]> {
  const entries = yield* new TarReader(source, limits).entries();
  yield* checkTree(entries);
  return entries;
}

const nameMaxBytes = 8192;
const blocksAtOnce = 256;

class TarReader {
  readonly #archive: TarSource;
  readonly #limits: TarLimits;
  readonly #files = new Map<string, TarItem>();
  readonly #entries: TarItem[] = [];
  #at = 0;
  #bytes = 0;
  #pending: { path?: Buffer; linkpath?: Buffer } = {};

  constructor(archive: TarSource, limits: TarLimits) {
    this.#archive = archive;
    this.#limits = limits;
  }

  *entries(): Generator<void, TarItem[]> {
    this.#checkForm();
    for (let blocks = 1; ; blocks++) {
      if (blocks % blocksAtOnce === 0) yield;
      const at = this.#at;
      const block = this.#take(blockBytes);
      if (isZero(block)) {
        yield* this.#end(at);
        return this.#entries;
      }
      const header = parseHeader(block, at);
      this.#one(header, at);
      if (this.#entries.length > this.#limits.entriesMax) {
        throw archiveRefused(`more than ${this.#limits.entriesMax} entries`);
      }
    }
  }

  #checkForm(): void {
    const head = this.#archive.read(0, Math.min(6, this.#archive.length)).toString('latin1');
    if (/^(\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|PK)/.test(head)) {
      throw archiveRefused('it is compressed; send a plain tar');
    }
    if (this.#archive.length % blockBytes !== 0) throw archiveRefused('its length is not a multiple of 512 bytes');
  }

  /** Where they begin. */
  #pass(bytes: number): number {
    const start = this.#at;
    if (start + bytes > this.#archive.length) throw archiveRefused(`it is cut off at byte ${this.#archive.length}`);
    this.#at = start + bytes;
    return start;
  }

  #take(bytes: number): Buffer {
    const start = this.#pass(bytes);
    return this.#archive.read(start, start + bytes);
  }

  *#end(at: number): Generator<void, void> {
    if (Object.keys(this.#pending).length > 0) throw archiveRefused('an extended header without its entry');
    if (!isZero(this.#take(blockBytes))) throw archiveRefused(`a single zero block at byte ${at}`);
    for (let from = this.#at; from < this.#archive.length; from += zeros.length) {
      const rest = this.#archive.read(from, Math.min(from + zeros.length, this.#archive.length));
      if (!isZero(rest)) throw archiveRefused(`data after its end, at byte ${this.#at}`);
      yield;
    }
  }

  #one(header: TarHeader, at: number): void {
    switch (header.type) {
      case 'x':
        this.#expect(parsePax(this.#name(header, at), at), at);
        return;
      case 'g':
        if (Object.keys(parsePax(this.#name(header, at), at)).length > 0) {
          throw archiveRefused(`a global header that renames entries, at byte ${at}`);
        }
        return;
      case 'L':
        this.#expect({ path: withoutNul(this.#name(header, at)) }, at);
        return;
      case 'K':
        this.#expect({ linkpath: withoutNul(this.#name(header, at)) }, at);
        return;
      default:
        this.#entry(header, at);
    }
  }

  #name(header: TarHeader, at: number): Buffer {
    if (header.size > nameMaxBytes) throw archiveRefused(`an extended header of ${header.size} bytes at byte ${at}`);
    return this.#take(padded(header.size)).subarray(0, header.size);
  }

  #expect(values: PaxValues, at: number): void {
    for (const key of Object.keys(values)) {
      if (Object.hasOwn(this.#pending, key)) throw archiveRefused(`two names for one entry at byte ${at}`);
    }
    Object.assign(this.#pending, values);
  }

  #entry(header: TarHeader, at: number): void {
    const rawName = this.#pending.path ?? header.name;
    const rawLink = this.#pending.linkpath ?? header.linkName;
    this.#pending = {};
    const shown = JSON.stringify(decodePath(rawName));
    if ((header.mode & 0o6000) !== 0) throw archiveRefused(`${shown} is setuid or setgid`);
    if (header.type !== '0' && header.size !== 0) throw archiveRefused(`${shown} has content but is no file`);
    const path = cleanName(rawName);
    const base = { path, mode: header.mode & 0o777, start: 0, sizeBytes: 0, target: '' };
    switch (header.type) {
      case '0':
        if (rawName.at(-1) === 0x2f) throw archiveRefused(`${shown} is a file with the name of a directory`);
        this.#add({ ...base, type: 'file', start: this.#pass(padded(header.size)), sizeBytes: header.size });
        return;
      case '5':
        if (path !== '') this.#add({ ...base, type: 'directory' });
        return;
      case '2':
        this.#add({ ...base, type: 'symlink', mode: 0o777, target: decodePath(rawLink) });
        return;
      case '1': {
        const linked = this.#files.get(cleanName(rawLink));
        if (linked === undefined)
          throw archiveRefused(`${shown} is a hard link to something that is no file before it`);
        this.#add({ ...linked, path });
        return;
      }
      default:
        throw archiveRefused(
          `${shown} has type ${JSON.stringify(header.type)} at byte ${at}; only files, directories and links are taken`,
        );
    }
  }

  #add(entry: TarItem): void {
    this.#bytes += entry.sizeBytes;
    if (this.#bytes > this.#limits.bytesMax)
      throw archiveRefused(`more than ${this.#limits.bytesMax} bytes of content`);
    this.#entries.push(entry);
    if (entry.type === 'file') this.#files.set(entry.path, entry);
  }
}

const zeros = Buffer.alloc(65_536);

/** Of no more than there are zeros. */
function isZero(bytes: Buffer): boolean {
  return bytes.compare(zeros, 0, bytes.length) === 0;
}

/** Contents fill whole blocks. */
function padded(bytes: number): number {
  return Math.ceil(bytes / blockBytes) * blockBytes;
}

/** GNU long names end with a NUL. */
function withoutNul(bytes: Buffer): Buffer {
  return bytes.at(-1) === 0 ? bytes.subarray(0, -1) : bytes;
}
