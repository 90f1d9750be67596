import type { GloveboxClient, RemoteRun, RunView } from '../client/client.ts';
import { RunnerError } from '../errors.ts';
import { idPattern } from '../ids.ts';

const lookedAt = 500;

/** A run by its id, its name, or the beginning of its id. Of one name, an open one goes before those that are closed. */
export async function findRemoteRun(
  client: GloveboxClient,
  name: string,
  { open = true }: { readonly open?: boolean } = {},
): Promise<RemoteRun> {
  if (idPattern.test(name)) return client.runs.get(name);
  const named = await called(client, name, 'open');
  const found = named.length > 0 || open ? named : (await called(client, name)).slice(0, 1);
  if (found.length === 0) found.push(...(await beginning(client, name, open)));
  const [run] = found;
  if (run !== undefined && found.length === 1) return client.runs.get(run.id);
  const shown = JSON.stringify(name.slice(0, 64));
  if (run === undefined) {
    const message = `no ${open ? 'open run' : 'run'} is called ${shown}; glovebox ps lists the open ones, glovebox open opens one`;
    throw new RunnerError('run_not_found', message);
  }
  const ids = found.slice(0, 5).map(({ id, state }) => `${id} (${state})`);
  throw new RunnerError('run_not_found', `${shown} fits ${found.length} runs, say which: ${ids.join(', ')}`);
}

async function called(client: GloveboxClient, name: string, state?: RunView['state']): Promise<RunView[]> {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) return [];
  return [...(await client.runs.list({ name, limit: 10, ...(state === undefined ? {} : { state }) })).runs];
}

async function beginning(client: GloveboxClient, prefix: string, open: boolean): Promise<RunView[]> {
  if (!/^[0-9a-z]{2,25}$/.test(prefix)) return [];
  const { runs } = await client.runs.list({ limit: lookedAt, ...(open ? { state: 'open' } : {}) });
  return runs.filter(({ id }) => id.startsWith(prefix));
}
