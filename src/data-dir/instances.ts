import { readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { RunnerError } from '../errors.ts';
import { idPattern, newId } from '../ids.ts';
import { thisProcess } from '../process-identity.ts';

/** One runner process. Its id is a label of every container it starts: what a dead instance left is an orphan. */
export const Instance = z
  .strictObject({
    id: z.string().regex(idPattern),
    pid: z.int().positive(),
    startTicks: z.string().regex(/^\d+$/),
    bootId: z.string().min(1).max(64),
    pidNamespace: z.string().max(32),
    startedAt: z.iso.datetime(),
  })
  .readonly();
export type Instance = z.infer<typeof Instance>;

export class Instances {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  async register(): Promise<Instance> {
    const instance: Instance = { id: newId(), ...thisProcess(), startedAt: new Date().toISOString() };
    const draft = join(this.#dir, `.${instance.id}`);
    await writeFile(draft, `${JSON.stringify(instance)}\n`, { mode: 0o600, flag: 'wx' });
    await rename(draft, this.#file(instance.id)); // seen whole or not at all
    return instance;
  }

  async list(): Promise<readonly Instance[]> {
    const names = (await readdir(this.#dir)).filter((name) => !name.startsWith('.'));
    const found = await Promise.all(names.map((name) => read(join(this.#dir, name))));
    return found.filter((instance) => instance !== undefined);
  }

  find(id: string): Promise<Instance | undefined> {
    return read(this.#file(id));
  }

  async forget(id: string): Promise<void> {
    await rm(this.#file(id), { force: true });
  }

  #file(id: string): string {
    if (!idPattern.test(id)) {
      throw new RunnerError('invalid_request', `${JSON.stringify(id.slice(0, 64))} is not the id of an instance`);
    }
    return join(this.#dir, `${id}.json`);
  }
}

async function read(file: string): Promise<Instance | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return Instance.parse(JSON.parse(text));
  } catch (cause) {
    const message = `${file} is not a record of a runner process; see that it is no longer needed, then remove it`;
    throw new RunnerError('data_dir_unusable', message, { cause });
  }
}
