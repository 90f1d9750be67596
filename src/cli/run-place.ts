import type { GloveboxClient, RemoteRun } from '../client/client.ts';
import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { isRunnerError } from '../errors.ts';
import { readEnds } from '../journal/ends.ts';
import type { CliContext } from './context.ts';
import { findRemoteRun } from './find-run.ts';
import { findService, openService, servicePlace, type ServiceOptions } from './service.ts';

const lookedAt = 500;

/** Where what is on record of a run can be read: a directory of this machine, or the service that was given. */
export type RunPlace =
  | { readonly kind: 'directory'; readonly dir: RunDir }
  | { readonly kind: 'service'; readonly client: GloveboxClient; readonly run: RemoteRun };

/**
 * A run by id, the beginning of one, or its name, for as long as `work` takes. With `GLOVEBOX_URL` the service has it; else the data
 * directory, whoever opened it.
 */
export async function atRun<T>(
  context: CliContext,
  name: string,
  work: (place: RunPlace) => Promise<T>,
  options: ServiceOptions = {},
): Promise<T> {
  if (servicePlace().kind === 'given') return atService(name, await openService(options), work);
  const dataDir = await context.openDataDir();
  const dir = await dataDir.findRun(name).catch(async (error: unknown) => {
    if (!isRunnerError(error, 'run_not_found')) throw error;
    const named = await findNamed(dataDir, name);
    if (named === undefined) throw error;
    return named;
  });
  return work({ kind: 'directory', dir });
}

/** The same run at this user's service, where that runs and has it. */
export async function atOwnService<T>(id: string, work: (run: RemoteRun) => Promise<T>): Promise<T | undefined> {
  const client = await findService();
  if (client === undefined) return undefined;
  try {
    const { state } = await client.runs.get(id).view();
    return state === 'open' ? await work(client.runs.get(id)) : undefined;
  } catch (error) {
    if (isRunnerError(error, 'run_not_found')) return undefined;
    throw error;
  } finally {
    await client.close();
  }
}

async function atService<T>(name: string, client: GloveboxClient, work: (place: RunPlace) => Promise<T>): Promise<T> {
  try {
    return await work({ kind: 'service', client, run: await findRemoteRun(client, name, { open: false }) });
  } finally {
    await client.close();
  }
}

/** The newest run that was opened by this name; one that is open goes before those that are closed. */
async function findNamed(dataDir: DataDir, name: string): Promise<RunDir | undefined> {
  let closed: RunDir | undefined;
  for (const dir of (await dataDir.listRuns()).slice(0, lookedAt)) {
    const ends = await readEnds(dir.journal).catch(() => undefined); // one that is broken has no name
    if (ends?.opened.by?.name !== name) continue;
    if (ends.closed === undefined) return dir;
    closed ??= dir;
  }
  return closed;
}
