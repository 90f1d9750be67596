import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { ShellState } from '../tools/shell-state.ts';

const KeptSession = z.strictObject({
  name: z.string(),
  state: z.strictObject({
    cwd: z.string(),
    umask: z.int(),
    env: z.record(z.string(), z.string()),
    unset: z.array(z.string()).readonly(),
  }),
});

/** Where the shell sessions of a run stand, one file each, for the next runner. */
export class SessionFiles {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Seen whole or not at all. */
  async save(name: string, state: ShellState): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const file = this.#file(name);
    await writeFile(`${file}.new`, JSON.stringify({ name, state }), { mode: 0o600 });
    await rename(`${file}.new`, file);
  }

  async drop(name: string): Promise<void> {
    await rm(this.#file(name), { force: true });
  }

  /** What cannot be read starts afresh. */
  async readAll(): Promise<ReadonlyMap<string, ShellState>> {
    const found = new Map<string, ShellState>();
    for (const file of await readdir(this.#directory).catch(() => [])) {
      if (!file.endsWith('.json')) continue;
      const parsed = KeptSession.safeParse(parseJson(await readFile(join(this.#directory, file), 'utf8')));
      if (parsed.success) found.set(parsed.data.name, parsed.data.state);
    }
    return found;
  }

  /** A name may be long, and hold anything. */
  #file(name: string): string {
    return join(this.#directory, `${createHash('sha256').update(name).digest('hex').slice(0, 32)}.json`);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
