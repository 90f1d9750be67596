import { spawn } from 'node:child_process';
import { chmod, mkdir, open, rename, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, RunnerError } from '../errors.ts';
import { shipped } from '../shipped.ts';

/** A user's own service. */
export interface OwnService {
  readonly dataDir: string;
  readonly socketPath: string;
}

const readyMs = 30_000;
const pollMs = 25;
const logBytesMax = 8 * 1024 * 1024;
const saidBytes = 2_000;
/** It ends when no run is open and nobody has asked for anything for so long. */
const idleMs = 10 * 60_000;

/**
 * Starts the service where it does not run, and waits until it answers. Promises:
 *  - however many come at once, one is started: a lock of the kernel's says who does it, and the others wait;
 *  - it outlives the command line and its terminal, holds none of its files, and says what happens in `service.log`;
 *  - what keeps it from starting is said here, with the end of that log.
 */
export async function ensureOwnService(service: OwnService, tell: (line: string) => void): Promise<void> {
  if (await isListening(service.socketPath)) return;
  await mkdir(service.dataDir, { recursive: true, mode: 0o700 });
  const { FileLock } = await import('../store/file-lock.ts');
  const byMs = performance.now() + readyMs;
  for (;;) {
    const lock = FileLock.tryAcquire(join(service.dataDir, 'service.starting'));
    if (lock !== undefined) {
      try {
        if (await isListening(service.socketPath)) return;
        return await start(service, byMs, tell);
      } finally {
        lock.release();
      }
    }
    await sleep(pollMs);
    if (await isListening(service.socketPath)) return;
    if (performance.now() > byMs) throw late(service);
  }
}

/** Somebody accepts connections there. */
export function isListening(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    const end = (listens: boolean): void => {
      socket.destroy();
      resolve(listens);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
    socket.setTimeout(1_000, () => end(false));
  });
}

async function start(service: OwnService, byMs: number, tell: (line: string) => void): Promise<void> {
  const file = logFile(service);
  if (((await stat(file).catch(() => undefined))?.size ?? 0) > logBytesMax) await rename(file, `${file}.1`);
  const log = await open(file, 'a', 0o600);
  try {
    await chmod(file, 0o600);
    const beforeBytes = (await log.stat()).size;
    const idle = process.env['GLOVEBOX_IDLE_MS'] ?? `${idleMs}`;
    tell(`glovebox: starting the service of ${service.dataDir}`);
    const child = spawn(process.execPath, [program, 'serve', '--end-when-idle', idle], {
      detached: true,
      cwd: '/',
      stdio: ['ignore', log.fd, log.fd],
      env: { ...process.env, GLOVEBOX_DATA: service.dataDir },
    });
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(messageOf(error)));
      child.once('exit', (code, signal) => resolve(signal === null ? `exit ${code}` : signal));
    });
    child.unref();
    while (performance.now() < byMs) {
      const how = await Promise.race([ended, sleep(pollMs, undefined)]);
      if (await isListening(service.socketPath)) return;
      if (how !== undefined) throw await failed(service, how, beforeBytes);
    }
    child.kill('SIGTERM');
    throw late(service);
  } finally {
    await log.close();
  }
}

const program = shipped('bin/glovebox.js');

function logFile({ dataDir }: OwnService): string {
  return join(dataDir, 'service.log');
}

async function failed(service: OwnService, how: string, fromByte: number): Promise<RunnerError> {
  const said = await tail(logFile(service), fromByte).catch(() => '');
  const message = `the service of ${service.dataDir} did not start (${how})${said === '' ? '' : `:\n${said}`}\nglovebox serve starts it in the foreground; glovebox doctor looks at this machine`;
  return new RunnerError('service_unavailable', message);
}

function late(service: OwnService): RunnerError {
  const message = `the service of ${service.dataDir} does not answer after ${readyMs / 1000} s; ${logFile(service)} says what it does`;
  return new RunnerError('service_unavailable', message);
}

async function tail(file: string, fromByte: number): Promise<string> {
  const handle = await open(file, 'r');
  try {
    const { size } = await handle.stat();
    const start = Math.max(fromByte, size - saidBytes);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(size - start), 0, size - start, start);
    return buffer.subarray(0, bytesRead).toString('utf8').trim();
  } finally {
    await handle.close();
  }
}
