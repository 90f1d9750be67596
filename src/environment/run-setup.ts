import { createWriteStream } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { labelKeys } from '../engine/labels.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import type { BlobStore } from '../workspace/blobs.ts';
import type { Wanted } from './environment.ts';
import type { EnvironmentLock } from './lock.ts';
import { setupArgv, setupEnvironment, setupFiles, type SetupAccess } from './setup-script.ts';
import { WayOut, type WayOutParts } from './way-out.ts';

export interface SetupOptions extends Omit<WayOutParts, 'directory'> {
  readonly blobs: BlobStore;
  /** A bridge network. An operator's word, never a policy's, and not beside what a policy says. */
  readonly network?: boolean;
  /** What setup needs to get at registries from here; an operator's word too. */
  readonly access?: SetupAccess;
  readonly timeoutMs?: number;
}

/**
 * Runs the commands in a container of their own, whose root file system is then `export.tar` in this directory. Returns what
 * they were let to; undefined where the policy lets them to nothing. A setup that fails is `engine_failed` with the last lines
 * it said and what it was refused.
 */
export async function runSetup(
  wanted: Wanted,
  options: SetupOptions,
  directory: string,
): Promise<EnvironmentLock['egress']> {
  const { network = false, onProgress } = options;
  const way = await WayOut.open(wanted, { ...options, ...options.reach, directory });
  const reach = way === undefined ? (network ? ', with a network' : '') : `, with ${way.summary.profiles.join(', ')}`;
  onProgress(`setting up ${wanted.name} on ${wanted.base.reference}${reach}`);
  try {
    await inContainer(wanted, options, directory, way);
  } catch (error) {
    await way?.close('failed', messageOf(error).split('\n', 1)[0] ?? '');
    throw error;
  }
  await way?.close('finished', 'set up');
  return way?.summary;
}

async function inContainer(
  wanted: Wanted,
  options: SetupOptions,
  directory: string,
  way: WayOut | undefined,
): Promise<void> {
  const { engine, onProgress, owner, instance, policy, blobs, access, network = false } = options;
  const { memoryBytes, pidsMax, cpus } = policy.limits;
  const signal = way?.signal ?? options.signal;
  const output = new OutputTail(onProgress);
  const end = await engine.setUp(
    {
      name: `glovebox-setup-${newId()}`,
      image: wanted.base.id,
      labels: { [labelKeys.owner]: owner, [labelKeys.instance]: instance },
      argv: setupArgv,
      env: setupEnvironment(access, way),
      files: setupFiles(wanted, blobs, access, way),
      network: way?.network ?? { kind: network ? 'bridge' : 'none' },
      limits: { memoryBytes, pidsMax, cpus },
      timeoutMs: options.timeoutMs ?? setupTimeoutMs,
      onOutput: (bytes) => output.push(bytes),
      ...(signal === undefined ? {} : { signal }),
    },
    (rootfs) => keepExport(rootfs, join(directory, exported), wanted),
  );
  if (end.kind === 'done') return;
  throw failed(
    wanted,
    `ended with exit code ${end.exitCode}; ${hintOf(wanted, network, way)}its last lines:\n${output.tail()}`,
  );
}

/** In the directory that is given. */
export const exported = 'export.tar';
const denialsMax = 8;

/** What may be behind a setup that failed. */
function hintOf({ name }: Wanted, network: boolean, way: WayOut | undefined): string {
  if (network) return '';
  if (way === undefined)
    return 'it has no network: environment.egress of its policy names what it may reach, --setup-network gives it all; ';
  const { denials } = way;
  if (denials.length === 0) return 'it got all that it asked of the network; ';
  const more = denials.length > denialsMax ? [`and more: glovebox egress ${name}`] : [];
  const lines = [...denials.slice(0, denialsMax), ...more].map((line) => `  ${line}\n`);
  return `of the network it did not get:\n${lines.join('')}`;
}

const setupTimeoutMs = 1_800_000;
const rootfsBytesMax = 16 * 1024 ** 3;
/** The archive as it comes, as it is packed, and what of it is kept: the disk has room for each, and for others. */
const copies = 4;

/** A sparse file of terabytes costs setup nothing, and would fill the disk on which journals are written. */
async function keepExport(rootfs: Readable, to: string, wanted: Wanted): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(to));
  const bytesMax = Math.min(rootfsBytesMax, Math.floor((bavail * bsize) / copies));
  let bytes = 0;
  const bounded = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes <= bytesMax) done(undefined, chunk);
      else done(failed(wanted, `left more than ${bytesMax} bytes, which is all there is room for in ${dirname(to)}`));
    },
  });
  await pipeline(rootfs, bounded, createWriteStream(to));
}

/** Each line is told once; the last ones are kept, bounded. */
class OutputTail {
  readonly #onLine: (line: string) => void;
  readonly #lines: string[] = [];
  #rest = '';

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(bytes: Buffer): void {
    const lines = (this.#rest + bytes.toString('utf8')).split('\n');
    this.#rest = (lines.pop() ?? '').slice(-lineCharsMax);
    for (const line of lines) this.#keep(line.slice(0, lineCharsMax));
  }

  tail(): string {
    if (this.#rest !== '') this.#keep(this.#rest);
    this.#rest = '';
    return this.#lines.join('\n');
  }

  #keep(line: string): void {
    this.#onLine(line);
    this.#lines.push(line);
    if (this.#lines.length > linesKept) this.#lines.shift();
  }
}

const lineCharsMax = 1000;
const linesKept = 20;

export function failed({ name, base }: Wanted, why: string): RunnerError {
  return new RunnerError('engine_failed', `environment ${name} on ${base.reference}: setup ${why}`);
}
