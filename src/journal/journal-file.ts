import { writeSync } from 'node:fs';
import { statfs, type FileHandle } from 'node:fs/promises';

/**
 * The file of a journal, and the two ways to write to it. What lands in the page cache takes a few microseconds, a trip through
 * the thread pool ten times as long and more on a busy machine; so short lines are written at once. Promises:
 *  - at once only where the file system is this machine's own (one over a network may never answer, and then everything in this
 *    process would wait with it), only few bytes, and not for a while after one such write was slow;
 *  - every byte is written, or the write has failed.
 */
export class JournalFile {
  readonly #file: FileHandle;
  readonly #atOnce: boolean;
  #slowUntilMs = 0;

  private constructor(file: FileHandle, atOnce: boolean) {
    this.#file = file;
    this.#atOnce = atOnce;
  }

  /** `atOnce`: never, where it is false. The handle is this object's to close. */
  static async of(file: FileHandle, path: string, atOnce: boolean): Promise<JournalFile> {
    return new JournalFile(file, atOnce && ownFileSystems.has(await typeAt(path)));
  }

  /** ASCII. Milliseconds that it took; undefined where nothing was tried and `write` is the way. */
  writeAtOnce(lines: string): number | undefined {
    const startMs = performance.now();
    if (!this.#atOnce || lines.length > atOnceMax || startMs < this.#slowUntilMs) return undefined;
    whole(writeSync(this.#file.fd, lines, null, 'latin1'), lines);
    const endMs = performance.now();
    if (endMs - startMs > slowMs) this.#slowUntilMs = endMs + restMs;
    return endMs - startMs;
  }

  /** `onDisk`: it outlives the machine's power as well. */
  async write(lines: Buffer, onDisk: boolean): Promise<void> {
    const { bytesWritten } = await this.#file.write(lines);
    whole(bytesWritten, lines);
    if (onDisk) await this.#file.datasync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

const atOnceMax = 16_384;
const slowMs = 250;
const restMs = 10_000;

/** statfs(2): ext2 to ext4, XFS, Btrfs, tmpfs, overlayfs, ZFS, F2FS. */
const ownFileSystems: ReadonlySet<number> = new Set([
  0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x794c7630, 0x2fc12fc1, 0xf2f52010,
]);

/** -1 where it cannot be said. */
async function typeAt(path: string): Promise<number> {
  if (process.platform !== 'linux') return -1; // elsewhere the numbers mean something else
  return statfs(path).then(
    ({ type }) => type,
    () => -1,
  );
}

function whole(bytesWritten: number, lines: Buffer | string): void {
  if (bytesWritten !== lines.length) throw new Error(`only ${bytesWritten} of ${lines.length} bytes (disk full?)`);
}
