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

/**
 * A run that something is done to while it is open. One of this user's service is reached through that, which knows who does it,
 * and so who answers for the run no more; by its door alone nobody would.
 */
export async function inOpenRun<T>(
  context: CliContext,
  name: string,
  work: (place: RunPlace) => Promise<T>,
): Promise<T> {
  return atRun(context, name, async (place) => {
    const own = place.kind === 'directory' ? await findOwnService(place.dir.id) : undefined;
    if (own === undefined) return work(place);
    try {
      return await work(own);
    } finally {
      await own.client.close();
    }
  });
}

/** The same run at this user's service, where that runs and has it. */
export async function atOwnService<T>(id: string, work: (run: RemoteRun) => Promise<T>): Promise<T | undefined> {
  const own = await findOwnService(id);
  if (own === undefined) return undefined;
  try {
    return await work(own.run);
  } finally {
    await own.client.close();
  }
}

async function findOwnService(id: string): Promise<Extract<RunPlace, { kind: 'service' }> | undefined> {
  const client = await findService();
  if (client === undefined) return undefined;
  try {
    const run = client.runs.get(id);
    if ((await run.view()).state === 'open') return { kind: 'service', client, run };
  } catch (error) {
    await client.close();
    if (isRunnerError(error, 'run_not_found')) return undefined;
    throw error;
  }
  await client.close();
  return undefined;
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
