import { mkdirSync } from 'node:fs';
import { chmod, link, mkdir, readFile, readdir, rename, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { RunnerError } from '../errors.ts';
import { idPattern, newId } from '../ids.ts';
import { Instances, type Instance } from './instances.ts';
import { isProcessAlive } from '../process-identity.ts';
import { RunDir } from './run-dir.ts';
import { usualPath } from './usual-path.ts';
import { SandboxLinks } from './sandbox-links.ts';
import { UploadedDirs } from './uploaded-dirs.ts';
import { WarmDirs } from './warm-dirs.ts';

export type { RunDir } from './run-dir.ts';

/**
 * Where this machine keeps its runs. Promises:
 *  - only its owner can read or write it: made 0700, and refused when it is somebody else's or others may write to it;
 *  - `owner` is made once and never changes, so that what a run leaves on an engine is told apart from others' things;
 *  - a run is found by its id or a prefix that only it has.
 *
 *     owner                        id of this directory
 *     runs/<id>/journal.ndjson     and policy.json, calls/<callId>.*, change-set.json, changes.patch, base.json
 *     instances/<id>.json          runner processes: pid, start time, boot
 *     sandboxes/<id>               whose a sandbox is: a link to the run
 *     pool/<instance>/<id>/        sandboxes that wait for a run
 *     workspaces/<id>/             sent by clients, for runs to open from: upload.json and tree/
 *     blobs/                       contents of changed files, by digest
 *     bases/                       imported trees, by digest
 *     environments/                <name>.json what one is made of, <name>.<id>.ndjson the record of a setup that was let out
 */
export class DataDir {
  readonly path: string;
  readonly owner: string;
  readonly blobsDir: string;
  readonly basesDir: string;
  readonly sandboxes: SandboxLinks;
  readonly warm: WarmDirs;
  readonly uploads: UploadedDirs;
  readonly #runsDir: string;
  readonly #instances: Instances;

  private constructor(path: string, owner: string) {
    this.path = path;
    this.owner = owner;
    this.blobsDir = join(path, 'blobs');
    this.basesDir = join(path, 'bases');
    this.sandboxes = new SandboxLinks(join(path, 'sandboxes'));
    this.warm = new WarmDirs(join(path, 'pool'));
    this.uploads = new UploadedDirs(join(path, 'workspaces'));
    this.#runsDir = join(path, 'runs');
    this.#instances = new Instances(join(path, 'instances'));
  }

  /** Made where it is missing. */
  static async open(path?: string, env: NodeJS.ProcessEnv = process.env): Promise<DataDir> {
    const dir = resolve(path ?? usualPath(env));
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 });
      await refuseUnsafe(dir);
      for (const name of ['runs', 'instances', 'blobs']) await mkdir(join(dir, name), { recursive: true, mode: 0o700 });
      return new DataDir(dir, await ensureOwner(dir));
    } catch (error) {
      if (error instanceof RunnerError) throw error;
      throw new RunnerError(
        'data_dir_unusable',
        `cannot use the data directory ${dir}: ${(error as Error).message}; point GLOVEBOX_DATA at a directory of yours`,
        { cause: error },
      );
    }
  }

  /** Paths of a run, whether or not it exists. */
  runDir(id: string): RunDir {
    if (!idPattern.test(id)) throw new RunnerError('run_not_found', `"${id.slice(0, 64)}" is not the id of a run`);
    return new RunDir(id, join(this.#runsDir, id));
  }

  async createRun(id: string): Promise<RunDir> {
    const run = this.runDir(id);
    mkdirSync(run.path, { mode: 0o700 });
    return run;
  }

  /** Newest first. */
  async listRuns(): Promise<readonly RunDir[]> {
    const names = (await readdir(this.#runsDir)).filter((name) => idPattern.test(name));
    return names.sort((a, b) => (a < b ? 1 : -1)).map((id) => this.runDir(id));
  }

  async findRun(idOrPrefix: string): Promise<RunDir> {
    const wanted = idOrPrefix.toLowerCase();
    const runs = await this.listRuns();
    const found = wanted === '' ? [] : runs.filter((run) => run.id.startsWith(wanted));
    const [run] = found;
    if (run !== undefined && found.length === 1) return run;
    const name = JSON.stringify(idOrPrefix.slice(0, 64));
    if (run !== undefined) {
      throw new RunnerError('run_not_found', `${name} fits ${found.length} runs, say more of it: ${someIds(found)}`);
    }
    const close = closest(runs, wanted);
    const hint = close.length === 0 ? 'there are no runs here yet' : `the closest are ${someIds(close)}`;
    throw new RunnerError('run_not_found', `no run ${name} in ${this.path}; ${hint}`);
  }

  /** Absent is fine. Gone at once, even when the removal is cut short. */
  async removeRun(id: string): Promise<void> {
    const grave = this.graveFor(id);
    await rename(this.runDir(id).path, grave).catch(ignoreMissing);
    await rm(grave, { recursive: true, force: true });
  }

  /** A name beside the runs for what is being removed; whatever has such a name is garbage. */
  graveFor(name: string): string {
    return join(this.#runsDir, `.removing-${name}`);
  }

  /** What a removal that was cut short has left. Safe at any time. */
  async sweepGraves(): Promise<void> {
    for (const name of await readdir(this.#runsDir)) {
      if (name.startsWith('.removing-')) await rm(join(this.#runsDir, name), { recursive: true, force: true });
    }
  }

  /** Removes what processes that died in the middle of writing have left. Only while nobody else uses the directory. */
  async sweepPartial(): Promise<void> {
    const places: readonly (readonly [string, (name: string) => boolean])[] = [
      [this.#runsDir, (name) => name.startsWith('.removing-')],
      [join(this.path, 'instances'), (name) => name.startsWith('.')],
      [join(this.blobsDir, 'partial'), () => true],
      [this.basesDir, (name) => name.startsWith('.')],
      [this.path, (name) => name.startsWith('.partial-')],
      [join(this.path, 'environments', 'results'), (name) => name.startsWith('.partial-')],
    ];
    for (const [directory, isPartial] of places) {
      const names = (await readdir(directory).catch(ignoreMissing)) ?? [];
      for (const name of names) if (isPartial(name)) await rm(join(directory, name), { recursive: true, force: true });
    }
  }

  registerInstance(): Promise<Instance> {
    return this.#instances.register();
  }

  listInstances(): Promise<readonly Instance[]> {
    return this.#instances.list();
  }

  /** Right also after the pid was given to someone else and after a reboot. An id nobody registered is dead. */
  async isAlive(instance: Instance | string): Promise<boolean> {
    const found = typeof instance === 'string' ? await this.#instances.find(instance) : instance;
    return found !== undefined && isProcessAlive(found);
  }

  forgetInstance(id: string): Promise<void> {
    return this.#instances.forget(id);
  }
}

async function refuseUnsafe(dir: string): Promise<void> {
  const { uid, mode } = await stat(dir);
  const us = process.geteuid?.();
  if (us !== undefined && uid !== us) {
    throw new RunnerError('data_dir_unusable', `${dir} belongs to user ${uid}, and we are ${us}; set GLOVEBOX_DATA`);
  }
  if ((mode & 0o022) !== 0) {
    throw new RunnerError('data_dir_unusable', `others may write to ${dir}; do: chmod 700 ${dir}`);
  }
  if ((mode & 0o077) !== 0) await chmod(dir, 0o700);
}

/** Two processes may come here at once for the first time: a link is made by exactly one of them, and whole. */
async function ensureOwner(dir: string): Promise<string> {
  const file = join(dir, 'owner');
  const known = await readOwner(file);
  if (known !== undefined) return known;
  const draft = `${file}.${newId()}`;
  await writeFile(draft, `${newId()}\n`, { mode: 0o600, flag: 'wx' });
  await link(draft, file).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  await unlink(draft);
  return (await readOwner(file)) ?? ensureOwner(dir);
}

async function readOwner(file: string): Promise<string | undefined> {
  const text = await readFile(file, 'latin1').catch(ignoreMissing);
  if (text === undefined) return undefined;
  const id = text.trim();
  if (idPattern.test(id)) return id;
  throw new RunnerError(
    'data_dir_unusable',
    `${file} does not hold an id; restore it from a backup, or use another data directory`,
  );
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

function closest(runs: readonly RunDir[], wanted: string): readonly RunDir[] {
  const shared = (id: string): number => {
    let length = 0;
    while (length < wanted.length && id[length] === wanted[length]) length++;
    return length;
  };
  return [...runs].sort((a, b) => shared(b.id) - shared(a.id)).slice(0, 3);
}

function someIds(runs: readonly RunDir[]): string {
  const shown = runs.slice(0, 5).map((run) => run.id);
  return runs.length > shown.length ? `${shown.join(', ')}, ...` : shown.join(', ');
}
