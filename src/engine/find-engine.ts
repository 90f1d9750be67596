import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';
import { RunnerError, isRunnerError, messageOf } from '../errors.ts';
import { type Endpoint, type EndpointTls, endpointName, parseEndpoint } from './endpoint.ts';
import { ping } from './ping.ts';

export interface FindOptions {
  /** Default: this process's. Read: DOCKER_HOST, DOCKER_CONTEXT, DOCKER_CONFIG, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH, XDG_RUNTIME_DIR. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly home?: string;
  /** Default: /var/run, /run. */
  readonly runDirectory?: string;
  /** How long one place may take to answer. Default 5,000. */
  readonly probeMs?: number;
}

/** A place where an engine was looked for, and what was found. */
export interface Tried {
  readonly from: string;
  readonly endpoint: string;
  readonly found: 'answers' | 'absent' | 'refused' | 'no_permission' | 'no_answer' | 'unusable';
  readonly detail: string;
}

/**
 * Finds the engine as the docker CLI does: DOCKER_HOST, else the chosen context, else the usual, rootless and Podman
 * sockets, first that answers. What somebody chose explicitly is used or fails; another engine is never taken instead.
 * Throws `engine_unavailable` with all that was tried and the next step.
 */
export async function findEngine(options: FindOptions = {}): Promise<Endpoint> {
  const { endpoint, tried } = await lookForEngine(options);
  if (endpoint !== undefined) return endpoint;
  const list = tried.map((at) => `  ${at.endpoint} (${at.from}): ${at.detail}`).join('\n');
  throw new RunnerError(
    'engine_unavailable',
    `No container engine answers. Tried:\n${list}\n${nextStep(tried, isRoot())}`,
  );
}

/** The same without throwing, for those that report what was tried. */
export async function lookForEngine(
  options: FindOptions = {},
): Promise<{ endpoint: Endpoint | undefined; tried: readonly Tried[] }> {
  const tried: Tried[] = [];
  let places: readonly Place[];
  try {
    places = placesOf(options);
  } catch (error) {
    if (!isRunnerError(error)) throw error;
    tried.push({ from: 'configuration', endpoint: 'none', found: 'unusable', detail: error.message });
    return { endpoint: undefined, tried };
  }
  for (const { from, endpoint } of places) {
    const answer = await probe(endpoint, options.probeMs ?? 5_000);
    tried.push({ from, endpoint: endpointName(endpoint), ...answer });
    if (answer.found === 'answers') return { endpoint, tried };
  }
  return { endpoint: undefined, tried };
}

/** One sentence: exactly what to do. */
export function nextStep(tried: readonly Tried[], root: boolean): string {
  const denied = tried.find((at) => at.found === 'no_permission');
  if (denied !== undefined) {
    return (
      `You may not open ${denied.endpoint}: add yourself to its group (sudo usermod -aG docker "$USER", then log in again), ` +
      'or run a rootless engine (https://docs.docker.com/go/rootless/).'
    );
  }
  const silent = tried.find((at) => at.found === 'no_answer');
  if (silent !== undefined) return `The engine at ${silent.endpoint} is there and hangs: restart it.`;
  const chosen = tried.find((at) => at.from === 'DOCKER_HOST' || at.from.startsWith('docker context'));
  if (chosen !== undefined) {
    return `${chosen.from} chooses ${chosen.endpoint}: start the engine there, or change ${chosen.from}.`;
  }
  if (tried.some((at) => at.found === 'unusable')) return 'Correct the setting named above.';
  if (root && existsSync('/etc/debian_version')) {
    return 'Install and start one: `make engine` (that is: apt-get install docker.io).';
  }
  return 'Install one (Debian, Ubuntu: sudo apt-get install docker.io; others: https://docs.docker.com/engine/install/) or start it, or set DOCKER_HOST.';
}

interface Place {
  readonly from: string;
  readonly endpoint: Endpoint;
}

function placesOf(options: FindOptions): readonly Place[] {
  const env = options.env ?? process.env;
  const chosen = env['DOCKER_HOST'];
  if (chosen !== undefined && chosen !== '') {
    return [{ from: 'DOCKER_HOST', endpoint: parseEndpoint(chosen, tlsOf(env)) }];
  }
  const context = contextOf(env, options.home ?? homedir());
  if (context !== undefined) return [context];
  const run = options.runDirectory === undefined ? ['/var/run', '/run'] : [options.runDirectory, options.runDirectory];
  const user = env['XDG_RUNTIME_DIR'];
  const sockets = [
    ['the usual socket', `${run[0]}/docker.sock`],
    ...(user === undefined || user === '' ? [] : [['rootless Docker', `${user}/docker.sock`]]),
    ...(user === undefined || user === '' ? [] : [['rootless Podman', `${user}/podman/podman.sock`]]),
    ['Podman', `${run[1]}/podman/podman.sock`],
  ];
  return sockets.map(([from = '', path = '']) => ({ from, endpoint: { kind: 'unix', path } }));
}

function tlsOf(env: Readonly<Record<string, string | undefined>>): EndpointTls | undefined {
  const verify = env['DOCKER_TLS_VERIFY'];
  // The CLI's rule: whatever is not empty asks for verified TLS; DOCKER_TLS asks for it unverified.
  if (verify !== undefined && verify !== '') return { directory: env['DOCKER_CERT_PATH'] ?? undefined, verify: true };
  if (env['DOCKER_TLS'] !== undefined && env['DOCKER_TLS'] !== '')
    return { directory: env['DOCKER_CERT_PATH'], verify: false };
  return undefined;
}

const configFile = z.looseObject({ currentContext: z.string().optional() });
const metaFile = z.looseObject({
  Endpoints: z.looseObject({ docker: z.looseObject({ Host: z.string(), SkipTLSVerify: z.boolean().optional() }) }),
});

/** Contexts are the CLI's: the engine's API does not know them. */
function contextOf(env: Readonly<Record<string, string | undefined>>, home: string): Place | undefined {
  const directory = env['DOCKER_CONFIG'] ?? join(home, '.docker');
  const file = join(directory, 'config.json');
  const name = env['DOCKER_CONTEXT'] ?? (existsSync(file) ? readJson(file, configFile).currentContext : undefined);
  if (name === undefined || name === '' || name === 'default') return undefined;
  const folder = createHash('sha256').update(name).digest('hex');
  const described = join(directory, 'contexts', 'meta', folder, 'meta.json');
  if (!existsSync(described)) {
    const chosenBy = env['DOCKER_CONTEXT'] === undefined ? `currentContext in ${file}` : 'DOCKER_CONTEXT';
    const next = '`docker context ls` lists those that are there; or choose the engine with DOCKER_HOST.';
    throw new RunnerError(
      'engine_unavailable',
      `${chosenBy} is "${name}", and there is no such docker context. ${next}`,
    );
  }
  const meta = readJson(described, metaFile).Endpoints.docker;
  const keys = join(directory, 'contexts', 'tls', folder, 'docker');
  const tls = existsSync(keys) ? { directory: keys, verify: meta.SkipTLSVerify !== true } : undefined;
  return { from: `docker context ${name}`, endpoint: parseEndpoint(meta.Host, tls) };
}

function readJson<T>(file: string, schema: z.ZodType<T>): T {
  try {
    return schema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (error) {
    const next = 'Correct it, or choose the engine with DOCKER_HOST.';
    throw new RunnerError('engine_unavailable', `${file} cannot be read: ${messageOf(error)}. ${next}`, {
      cause: error,
    });
  }
}

async function probe(endpoint: Endpoint, probeMs: number): Promise<Pick<Tried, 'found' | 'detail'>> {
  if (endpoint.kind === 'unix' && !existsSync(endpoint.path))
    return { found: 'absent', detail: 'there is no such socket' };
  try {
    await ping(endpoint, probeMs);
    return { found: 'answers', detail: 'answers' };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (isRunnerError(error, 'engine_timeout')) return { found: 'no_answer', detail: `no answer within ${probeMs} ms` };
    if (code === 'EACCES' || code === 'EPERM') return { found: 'no_permission', detail: 'permission denied' };
    if (code === 'ENOENT') return { found: 'absent', detail: 'a file of its configuration or the socket is missing' };
    if (code === 'ECONNREFUSED') return { found: 'refused', detail: 'nothing listens there' };
    return { found: 'unusable', detail: messageOf(error) };
  }
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}
