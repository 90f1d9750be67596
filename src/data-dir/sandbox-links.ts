import { symlinkSync } from 'node:fs';
import { mkdir, readdir, readlink, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { idPattern } from '../ids.ts';

/**
 * Whose a sandbox is: `sandboxes/<sandbox>` leads to the run's directory, from before anything of the sandbox is made for it until
 * all of that is gone. An engine's labels cannot say it: a sandbox may be older than its run.
 */
export class SandboxLinks {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** May be called twice. */
  async assign(sandbox: string, run: string): Promise<void> {
    try {
      symlinkSync(join('..', 'runs', run), this.#link(sandbox));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') {
        await mkdir(this.#directory, { recursive: true, mode: 0o700 });
        return this.assign(sandbox, run);
      }
      if (code !== 'EEXIST' || (await this.runOf(sandbox)) !== run) throw error;
    }
  }

  /** Undefined of one that no run has. */
  async runOf(sandbox: string): Promise<string | undefined> {
    if (!idPattern.test(sandbox)) return undefined;
    const target = await readlink(this.#link(sandbox)).catch(() => undefined);
    const run = target === undefined ? '' : basename(target);
    return idPattern.test(run) ? run : undefined;
  }

  async list(): Promise<readonly { readonly sandbox: string; readonly run: string }[]> {
    const found: { sandbox: string; run: string }[] = [];
    for (const sandbox of await readdir(this.#directory).catch(() => [])) {
      const run = await this.runOf(sandbox);
      if (run !== undefined) found.push({ sandbox, run });
    }
    return found;
  }

  /** Absent is fine. */
  async release(sandbox: string): Promise<void> {
    await rm(this.#link(sandbox), { force: true });
  }

  #link(sandbox: string): string {
    return join(this.#directory, sandbox);
  }
}
