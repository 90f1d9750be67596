import { mkdir, readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { idPattern } from '../ids.ts';
import { RunDir } from './run-dir.ts';

/** Where sandboxes are that wait for a run: `pool/<instance>/<sandbox>`, with the parts that the run's directory gets from them. */
export class WarmDirs {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async create(instance: string, sandbox: string): Promise<RunDir> {
    const dir = this.#dir(instance, sandbox);
    await mkdir(dir.path, { recursive: true, mode: 0o700 });
    return dir;
  }

  async list(): Promise<readonly WarmDir[]> {
    const found: WarmDir[] = [];
    for (const instance of await namesIn(this.#directory))
      for (const sandbox of await namesIn(join(this.#directory, instance)))
        found.push({ instance, dir: this.#dir(instance, sandbox) });
    return found;
  }

  /** What a layer still lies mounted in stays. Absent is fine. */
  async remove({ instance, dir }: WarmDir): Promise<void> {
    await rm(dir.callsDir, { recursive: true, force: true });
    for (const path of [dir.path, join(this.#directory, instance)]) await rmdir(path).catch(ignoreInUse);
  }

  #dir(instance: string, sandbox: string): RunDir {
    return new RunDir(sandbox, join(this.#directory, instance, sandbox));
  }
}

export interface WarmDir {
  readonly instance: string;
  readonly dir: RunDir;
}

async function namesIn(directory: string): Promise<readonly string[]> {
  return (await readdir(directory).catch(() => [])).filter((name) => idPattern.test(name));
}

function ignoreInUse(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
}
