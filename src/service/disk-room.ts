import { statfs } from 'node:fs/promises';
import { RunnerError } from '../errors.ts';

/** What there is on the disk of the data directory. */
export interface DiskState {
  readonly bytes: number;
  readonly freeBytes: number;
  readonly files: number;
  readonly freeFiles: number;
}

const keptMs = 500;
const retryAfterMs = 30_000;
const usual = { freeBytes: 1024 ** 3, freeFiles: 20_000, share: 0.05 };

/** Of where this process may write. */
export async function diskOf(path: string): Promise<DiskState> {
  const { bsize, blocks, bavail, files, ffree } = await statfs(path);
  return { bytes: blocks * bsize, freeBytes: bavail * bsize, files, freeFiles: ffree };
}

/**
 * A part of the disk that no new run may take, so that those that are open can still record, be collected and close. By default
 * one GiB and 20,000 inodes, of a small disk a twentieth.
 */
export class DiskRoom {
  readonly #look: () => Promise<DiskState>;
  readonly #keepFreeBytes: number | undefined;
  readonly #monotonicMs: () => number;
  #last: { readonly state: Promise<DiskState>; readonly atMs: number } | undefined;
  #seen: DiskState | undefined;

  /** `keepFreeBytes`: instead of the default; 0 keeps nothing. */
  constructor(
    look: () => Promise<DiskState>,
    keepFreeBytes?: number,
    monotonicMs: () => number = () => performance.now(),
  ) {
    this.#look = look;
    this.#keepFreeBytes = keepFreeBytes;
    this.#monotonicMs = monotonicMs;
  }

  /** When it was last looked at; undefined before, and where it could not be. */
  get seen(): DiskState | undefined {
    return this.#seen;
  }

  /** Whether that was too little. */
  get isLow(): boolean {
    return this.#seen !== undefined && this.#lack(this.#seen) !== undefined;
  }

  /** Looks, at most twice a second. A disk that cannot be looked at is found out by whoever writes to it. */
  async look(): Promise<DiskState | undefined> {
    const nowMs = this.#monotonicMs();
    if (this.#last === undefined || nowMs - this.#last.atMs >= keptMs)
      this.#last = { state: this.#look(), atMs: nowMs };
    try {
      this.#seen = await this.#last.state;
    } catch {
      this.#seen = undefined;
    }
    return this.#seen;
  }

  /** Throws `insufficient_storage`. `bytes`: of what is to come. */
  async refuse(what: string, bytes = 0): Promise<void> {
    const state = await this.look();
    const lack = state && this.#lack({ ...state, freeBytes: state.freeBytes - bytes });
    if (lack === undefined) return;
    const message =
      `${what}: the disk of the data directory has ${lack}, which is kept for the runs that are open; ` +
      'close some, run glovebox gc, or make room there';
    throw new RunnerError('insufficient_storage', message, { retryAfterMs });
  }

  #lack({ bytes, freeBytes, files, freeFiles }: DiskState): string | undefined {
    const keepBytes = this.#keepFreeBytes ?? Math.min(usual.freeBytes, bytes * usual.share);
    if (freeBytes < keepBytes) return `${mebibytes(freeBytes)} of ${mebibytes(keepBytes)} free`;
    if (this.#keepFreeBytes === 0 || files === 0) return undefined; // some file systems count none
    const keepFiles = Math.floor(Math.min(usual.freeFiles, files * usual.share));
    return freeFiles < keepFiles ? `${freeFiles} of ${keepFiles} inodes free` : undefined;
  }
}

function mebibytes(bytes: number): string {
  return `${Math.max(0, Math.floor(bytes / 1024 ** 2))} MiB`;
}
