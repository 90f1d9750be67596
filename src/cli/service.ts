import { join, resolve } from 'node:path';
import { GloveboxClient } from '../client/client.ts';
import type { Reask } from '../client/requests.ts';
import { usualPath } from '../data-dir/usual-path.ts';
import { RunnerError } from '../errors.ts';
import { say } from './terminal.ts';

/** Where the commands that work in open runs find them. */
export type ServicePlace =
  | { readonly kind: 'given'; readonly url: string; readonly key: string | undefined }
  | { readonly kind: 'own'; readonly dataDir: string; readonly socketPath: string };

/** `GLOVEBOX_URL` and `GLOVEBOX_KEY`; without, this user's own service on the socket of the data directory. */
export function servicePlace(env: NodeJS.ProcessEnv = process.env): ServicePlace {
  const { GLOVEBOX_URL: url = '', GLOVEBOX_KEY: key = '' } = env;
  if (url !== '') return { kind: 'given', url, key: key === '' ? undefined : key };
  const dataDir = resolve(usualPath(env));
  return { kind: 'own', dataDir, socketPath: join(dataDir, 'service.sock') };
}

export interface ServiceOptions {
  /** Another identity of the owner. */
  readonly as?: string | undefined;
}

/** The service that is given; else the own one, which is started where it does not run. `close()` the client. */
export async function openService({ as }: ServiceOptions = {}): Promise<GloveboxClient> {
  const place = servicePlace();
  if (place.kind === 'given') return GloveboxClient.connect({ url: place.url, key: place.key, as, onReask });
  await start(place);
  const revive = (): Promise<void> => start(place);
  return GloveboxClient.connect({ socketPath: place.socketPath, as, onReask, revive });
}

/** The same where one runs or is given; undefined where it would have to be started. */
export async function findService(): Promise<GloveboxClient | undefined> {
  const place = servicePlace();
  if (place.kind === 'given') return openService();
  const { isListening } = await import('./own-service.ts');
  return (await isListening(place.socketPath)) ? openService() : undefined;
}

/** For a service on another machine a path of this one means nothing. */
export function workspacePath(path: string): string {
  const place = servicePlace();
  if (place.kind === 'own' || place.url.startsWith('unix:')) return resolve(path);
  if (path.startsWith('/')) return path;
  const message = `${JSON.stringify(path)} is relative, and the workspace is a directory of the service's machine; write it from the root on`;
  throw new RunnerError('invalid_request', message);
}

async function start(place: Extract<ServicePlace, { kind: 'own' }>): Promise<void> {
  const { ensureOwnService } = await import('./own-service.ts');
  await ensureOwnService(place, say);
}

function onReask({ asked, attempt, attemptsMax, reason }: Reask): void {
  say(`glovebox: the connection was lost (${reason}); asking again, ${attempt} of ${attemptsMax}: ${asked}`);
}
