import { constants } from 'node:fs';
import { copyFile, link, lstat, mkdir, open, readdir, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

/** Copies of files that are being written meanwhile; files that are one file under many names stay one. */
export class Copier {
  readonly #seen = new Map<string, string>();
  #files = 0;
  #bytes = 0;

  get counts(): { readonly files: number; readonly bytes: number } {
    return { files: this.#files, bytes: this.#bytes };
  }

  /** Plain files and directories; nothing is followed, and what `leaveOut` says is left out. What vanishes meanwhile is left out too. */
  async tree(from: string, to: string, leaveOut: (name: string, depth: number) => boolean, depth = 0): Promise<void> {
    await mkdir(to, { recursive: true, mode: 0o700 });
    for (const entry of await readdir(from, { withFileTypes: true }).catch(ignoreMissing)) {
      if (leaveOut(entry.name, depth)) continue;
      const [source, target] = [join(from, entry.name), join(to, entry.name)];
      if (entry.isDirectory()) await this.tree(source, target, leaveOut, depth + 1);
      else if (entry.isFile()) await this.file(source, target);
    }
  }

  /** False when it is not there. Of a file of lines, its whole ones: a last one that is being written is left out. */
  async file(from: string, to: string): Promise<boolean> {
    const found = await lstat(from).catch(() => undefined);
    if (found === undefined || !found.isFile()) return false;
    const known = found.nlink > 1 ? this.#seen.get(`${found.dev}:${found.ino}`) : undefined;
    try {
      if (known !== undefined) await link(known, to);
      else if (from.endsWith('.ndjson')) await copyLines(from, to);
      else await copyFile(from, to, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    }
    if (found.nlink > 1) this.#seen.set(`${found.dev}:${found.ino}`, to);
    this.#files += 1;
    this.#bytes += known === undefined ? found.size : 0;
    return true;
  }
}

const pieceBytes = 1024 * 1024;

async function copyLines(from: string, to: string): Promise<void> {
  const source = await open(from, 'r');
  try {
    const target = await open(to, 'wx', 0o600);
    try {
      const end = await endOfLines(source);
      const piece = Buffer.alloc(Math.min(pieceBytes, end));
      for (let at = 0; at < end;) {
        const { bytesRead } = await source.read(piece, 0, Math.min(piece.length, end - at), at);
        if (bytesRead === 0) break;
        await target.writeFile(piece.subarray(0, bytesRead));
        at += bytesRead;
      }
      await target.datasync();
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

/** Behind the last newline that is there now. */
async function endOfLines(file: FileHandle): Promise<number> {
  const { size } = await file.stat();
  const piece = Buffer.alloc(pieceBytes);
  for (let end = size; end > 0;) {
    const length = Math.min(piece.length, end);
    const { bytesRead } = await file.read(piece, 0, length, end - length);
    const newline = piece.subarray(0, bytesRead).lastIndexOf(10);
    if (newline >= 0) return end - length + newline + 1;
    end -= length;
  }
  return 0;
}

function ignoreMissing(error: NodeJS.ErrnoException): [] {
  if (error.code === 'ENOENT') return [];
  throw error;
}
