import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { WorkspaceView } from '../contract/workspace-view.ts';
import type { Uploaded, UploadedDirs } from '../data-dir/uploaded-dirs.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { blockBytes, type TarLimits } from '../tools/archive/tar-entry.ts';
import type { DiskRoom } from './disk-room.ts';
import type { Principal } from './principal.ts';
import { unpackUpload } from './unpack-upload.ts';

export interface UploadLimits extends TarLimits {
  /** Of one team, at once, with what the file system takes for each file. */
  readonly teamBytesMax: number;
  readonly teamCountMax: number;
  /** Arriving at once, and of one team. */
  readonly atOnce: number;
  readonly teamAtOnce: number;
}

const standardLimits: UploadLimits = {
  entriesMax: 100_000,
  bytesMax: 512 * 1024 ** 2,
  teamBytesMax: 4 * 1024 ** 3,
  teamCountMax: 64,
  atOnce: 8,
  teamAtOnce: 2,
};

/** The archive, with its headers. */
export const uploadBytesMax = 640 * 1024 ** 2;

/**
 * Workspaces that clients send, to open runs from. Promises:
 *  - another team's is one that does not exist;
 *  - it is there when it was all checked and written, and goes a day after the last run was opened from it;
 *  - the same files of a team are kept once;
 *  - it never holds more in memory than a piece of what arrives, and all of it is bounded: one, those of a team, and how many arrive.
 */
export class Uploads {
  readonly #dirs: UploadedDirs;
  readonly #room: DiskRoom;
  readonly #limits: UploadLimits;
  readonly #arriving = new Map<string, number>();

  constructor(dirs: UploadedDirs, room: DiskRoom, limits: Partial<UploadLimits> = {}) {
    this.#dirs = dirs;
    this.#room = room;
    this.#limits = { ...standardLimits, ...limits };
  }

  /** A plain tar. Throws `archive_refused`, `limit_exceeded`, `queue_full`, `insufficient_storage`, and what `body` throws. */
  async receive({ team, identity }: Principal, body: AsyncIterable<Uint8Array>): Promise<WorkspaceView> {
    const leave = this.#enter(team);
    try {
      await this.#room.refuse('nothing is uploaded');
      await this.#refuseMore(team);
      const { id, partial } = await this.#dirs.begin();
      try {
        const unpacked = await this.#unpack(partial, body);
        const same = (await this.#ofTeam(team)).find(({ digest }) => digest === unpacked.digest);
        if (same !== undefined) return await this.#used(same);
        const createdAt = new Date().toISOString();
        return viewOf(await this.#dirs.keep(partial, { id, team, identity, ...unpacked, createdAt }));
      } finally {
        await rm(partial, { recursive: true, force: true });
      }
    } catch (cause) {
      if (cause instanceof RunnerError) throw cause;
      const { code } = cause as NodeJS.ErrnoException;
      const full = code === 'ENOSPC' || code === 'EDQUOT';
      const message = `the upload cannot be kept: ${messageOf(cause)}; make room in the data directory, then send it again`;
      throw new RunnerError(full ? 'insufficient_storage' : 'data_dir_unusable', message, { cause });
    } finally {
      leave();
    }
  }

  async list({ team }: Principal): Promise<readonly WorkspaceView[]> {
    return (await this.#ofTeam(team)).map(viewOf);
  }

  /** Its files, kept from now on. Throws `not_found`. */
  async use(principal: Principal, id: string): Promise<Uploaded> {
    const found = await this.#find(principal, id);
    await this.#used(found);
    return found;
  }

  /** Throws `not_found`. */
  async remove(principal: Principal, id: string): Promise<void> {
    await this.#dirs.remove((await this.#find(principal, id)).id);
  }

  async #find({ team }: Principal, id: string): Promise<Uploaded> {
    const found = await this.#dirs.find(id);
    if (found !== undefined && found.team === team && found.expiresMs > Date.now()) return found;
    throw new RunnerError(
      'not_found',
      `there is no uploaded workspace ${JSON.stringify(id.slice(0, 64))}; upload it again`,
    );
  }

  async #ofTeam(team: string): Promise<readonly Uploaded[]> {
    const nowMs = Date.now();
    return (await this.#dirs.list()).filter((one) => one.team === team && one.expiresMs > nowMs);
  }

  async #used(found: Uploaded): Promise<WorkspaceView> {
    await this.#dirs.touch(found.id);
    return viewOf((await this.#dirs.find(found.id)) ?? found);
  }

  #enter(team: string): () => void {
    const { atOnce, teamAtOnce } = this.#limits;
    const theirs = this.#arriving.get(team) ?? 0;
    const all = [...this.#arriving.values()].reduce((sum, count) => sum + count, 0);
    if (all >= atOnce || theirs >= teamAtOnce)
      throw new RunnerError('queue_full', `${theirs} uploads of team ${team} arrive already; send it again`, {
        retryAfterMs: 1_000,
      });
    this.#arriving.set(team, theirs + 1);
    return () => {
      const left = (this.#arriving.get(team) ?? 1) - 1;
      if (left === 0) this.#arriving.delete(team);
      else this.#arriving.set(team, left);
    };
  }

  /** Before it arrives: one more of the largest kind fits. */
  async #refuseMore(team: string): Promise<void> {
    const { teamBytesMax, teamCountMax, bytesMax } = this.#limits;
    const theirs = await this.#ofTeam(team);
    const bytes = theirs.reduce((sum, one) => sum + one.bytes + one.files * clusterBytes, 0);
    if (theirs.length < teamCountMax && bytes + bytesMax <= teamBytesMax) return;
    throw new RunnerError(
      'limit_exceeded',
      `team ${team} has ${theirs.length} uploaded workspaces; remove some (DELETE /v1/workspaces/ID), or wait until they expire`,
    );
  }

  async #unpack(partial: string, body: AsyncIterable<Uint8Array>): ReturnType<typeof unpackUpload> {
    const spool = await open(join(partial, 'archive'), 'wx+', 0o600);
    try {
      let length = 0;
      for await (const part of body) {
        await spool.writeFile(part);
        length += part.length;
      }
      return await unpackUpload(spool.fd, length, join(partial, 'tree'), this.#limits);
    } finally {
      await spool.close();
      await rm(join(partial, 'archive'), { force: true });
    }
  }
}

/** What a file takes beside its bytes, at the most. */
const clusterBytes = 8 * blockBytes;

function viewOf({ id, digest, files, bytes, createdAt, expiresMs }: Uploaded): WorkspaceView {
  return { id, digest, files, bytes, createdAt, expiresAt: new Date(expiresMs).toISOString() };
}
