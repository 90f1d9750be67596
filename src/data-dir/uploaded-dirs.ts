import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { idPattern, newId } from '../ids.ts';

/** Of a workspace that a client has sent, what is on record beside its files. */
const UploadRecord = z.strictObject({
  id: z.string().regex(idPattern),
  team: z.string(),
  identity: z.string(),
  digest: z.string(),
  files: z.int(),
  bytes: z.int(),
  createdAt: z.iso.datetime(),
});
export type UploadRecord = z.infer<typeof UploadRecord>;

/** One that is there. */
export interface Uploaded extends UploadRecord {
  readonly tree: string;
  /** When it goes, unless a run is opened from it before. */
  readonly expiresMs: number;
}

const recordFile = 'upload.json';
/** After the last run that was opened from it, by the wall clock. */
const keptMs = 86_400_000;
/** An upload that takes longer was given up. */
const partialMs = 3_600_000;

/**
 * Where what clients have sent waits for runs: `workspaces/<id>/tree`. It is there whole, under its id, or not at all; what is half
 * sent or half removed is garbage, and swept.
 */
export class UploadedDirs {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** A directory for one that arrives, and its id. */
  async begin(): Promise<{ readonly id: string; readonly partial: string }> {
    await mkdir(this.#path, { recursive: true, mode: 0o700 });
    // No repository that the data directory may lie in has these files.
    await writeFile(join(this.#path, '.gitignore'), '*\n');
    const id = newId();
    const partial = join(this.#path, `.partial-${id}`);
    await mkdir(join(partial, 'tree'), { recursive: true, mode: 0o755 });
    return { id, partial };
  }

  async keep(partial: string, record: UploadRecord): Promise<Uploaded> {
    await writeFile(join(partial, recordFile), JSON.stringify(record), { mode: 0o600 });
    await rename(partial, join(this.#path, record.id));
    return { ...record, tree: join(this.#path, record.id, 'tree'), expiresMs: Date.now() + keptMs };
  }

  async find(id: string): Promise<Uploaded | undefined> {
    if (!idPattern.test(id)) return undefined;
    const directory = join(this.#path, id);
    try {
      const [text, { mtimeMs }] = await Promise.all([
        readFile(join(directory, recordFile), 'utf8'),
        stat(join(directory, recordFile)),
      ]);
      const record = UploadRecord.parse(JSON.parse(text));
      return { ...record, tree: join(directory, 'tree'), expiresMs: mtimeMs + keptMs };
    } catch {
      return undefined;
    }
  }

  /** Oldest first. */
  async list(): Promise<readonly Uploaded[]> {
    const names = await readdir(this.#path).catch(() => []);
    const found = await Promise.all(names.filter((name) => idPattern.test(name)).map((id) => this.find(id)));
    return found.filter((one) => one !== undefined).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** It is used now, and kept from now on. */
  async touch(id: string): Promise<void> {
    const now = new Date();
    await utimes(join(this.#path, id, recordFile), now, now);
  }

  /** Absent is fine. */
  async remove(id: string): Promise<void> {
    if (!idPattern.test(id)) return;
    const grave = join(this.#path, `.removing-${newId()}`);
    await rename(join(this.#path, id), grave).catch(() => undefined);
    await rm(grave, { recursive: true, force: true });
  }

  /** Those whose time is over; returns their ids. */
  async expire(nowMs: number, { dryRun = false }: { readonly dryRun?: boolean } = {}): Promise<readonly string[]> {
    const expired = (await this.list()).filter(({ expiresMs }) => expiresMs <= nowMs).map(({ id }) => id);
    if (dryRun) return expired;
    for (const id of expired) await this.remove(id);
    for (const name of await readdir(this.#path).catch(() => [])) {
      if (!/^\.(partial|removing)-/.test(name)) continue;
      const path = join(this.#path, name);
      const touchedMs = (await stat(path).catch(() => undefined))?.mtimeMs ?? nowMs;
      if (nowMs - touchedMs > partialMs) await rm(path, { recursive: true, force: true });
    }
    return expired;
  }
}
