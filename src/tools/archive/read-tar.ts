import { setImmediate } from 'node:timers/promises';
import { decodePath } from '../../bytes-path.ts';
import { checkTree, cleanName } from './check-tree.ts';
import { parsePax, type PaxValues } from './pax.ts';
import { archiveRefused, blockBytes, tarLimits, type TarEntry, type TarLimits } from './tar-entry.ts';
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
  const steps = readSteps(archive, limits);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** The same, with others having their turn in between. */
export async function readTarInTurns(archive: Buffer, limits: TarLimits = tarLimits): Promise<TarEntry[]> {
  const steps = readSteps(archive, limits);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    await setImmediate();
  }
}

function* readSteps(archive: Buffer, limits: TarLimits): Generator<void, TarEntry[]> {
  const entries = yield* new TarReader(archive, limits).entries();
  yield* checkTree(entries);
  return entries;
}

const nameMaxBytes = 8192;
const blocksAtOnce = 256;

class TarReader {
  readonly #archive: Buffer;
  readonly #limits: TarLimits;
  readonly #files = new Map<string, TarEntry>();
  readonly #entries: TarEntry[] = [];
  #at = 0;
  #bytes = 0;
  #pending: { path?: Buffer; linkpath?: Buffer } = {};

  constructor(archive: Buffer, limits: TarLimits) {
    this.#archive = archive;
    this.#limits = limits;
  }

  *entries(): Generator<void, TarEntry[]> {
    this.#checkForm();
    for (let blocks = 1; ; blocks++) {
      if (blocks % blocksAtOnce === 0) yield;
      const at = this.#at;
      const block = this.#take(blockBytes);
      if (isZero(block)) {
        this.#end(at);
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
    const head = this.#archive.toString('latin1', 0, 6);
    if (/^(\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|PK)/.test(head)) {
      throw archiveRefused('it is compressed; send a plain tar');
    }
    if (this.#archive.length % blockBytes !== 0) throw archiveRefused('its length is not a multiple of 512 bytes');
  }

  #take(bytes: number): Buffer {
    const end = this.#at + bytes;
    if (end > this.#archive.length) throw archiveRefused(`it is cut off at byte ${this.#archive.length}`);
    const taken = this.#archive.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }

  #data(size: number): Buffer {
    const padded = Math.ceil(size / blockBytes) * blockBytes;
    return this.#take(padded).subarray(0, size);
  }

  #end(at: number): void {
    if (Object.keys(this.#pending).length > 0) throw archiveRefused('an extended header without its entry');
    if (!isZero(this.#take(blockBytes))) throw archiveRefused(`a single zero block at byte ${at}`);
    if (!isZero(this.#archive.subarray(this.#at))) throw archiveRefused(`data after its end, at byte ${this.#at}`);
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
    return this.#data(header.size);
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
    const base = { path, mode: header.mode & 0o777, content: Buffer.alloc(0), target: '' };
    switch (header.type) {
      case '0':
        if (rawName.at(-1) === 0x2f) throw archiveRefused(`${shown} is a file with the name of a directory`);
        this.#add({ ...base, type: 'file', content: this.#data(header.size) });
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

  #add(entry: TarEntry): void {
    this.#bytes += entry.content.length;
    if (this.#bytes > this.#limits.bytesMax)
      throw archiveRefused(`more than ${this.#limits.bytesMax} bytes of content`);
    this.#entries.push(entry);
    if (entry.type === 'file') this.#files.set(entry.path, entry);
  }
}

const zeros = Buffer.alloc(65_536);

function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += zeros.length) {
    const piece = bytes.subarray(at, at + zeros.length);
    if (piece.compare(zeros, 0, piece.length) !== 0) return false;
  }
  return true;
}

/** GNU long names end with a NUL. */
function withoutNul(bytes: Buffer): Buffer {
  return bytes.at(-1) === 0 ? bytes.subarray(0, -1) : bytes;
}
