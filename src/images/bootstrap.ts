import { access, writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { messageOf, RunnerError } from '../errors.ts';
import { debianKeyring, debianSources } from './apt-sources.ts';
import type { Recipe } from './recipe.ts';

export type Progress = (line: string) => void;

/** What a root file system is made from, in a directory of its own that the caller removes. */
export interface Workshop {
  readonly dir: string;
  /** Holds finish.sh; and, if the recipe takes files from npm, their tar. */
  readonly finishScript: string;
  readonly filesTar: string | undefined;
  readonly onProgress: Progress;
}

/** Whether this machine can bootstrap a Debian, or could after installing what is missing. */
export async function canBootstrap(): Promise<boolean> {
  if (await hasCommand('mmdebstrap')) return true;
  return process.getuid?.() === 0 && (await hasCommand('apt-get'));
}

/**
 * The root file system of `recipe` as a tar in the workshop; returns its path. Needs no container engine and no registry,
 * only a Debian mirror. The same packages give the same bytes: sorted entries, no time later than the recipe's, numeric owners.
 */
export async function bootstrapRootfs(recipe: Recipe, workshop: Workshop): Promise<string> {
  await ensureMmdebstrap(workshop.onProgress);
  const sources = join(workshop.dir, 'sources.list');
  const rootfs = join(workshop.dir, 'rootfs.tar');
  await writeFile(sources, await debianSources(recipe.suite));
  const options = [
    '--variant=minbase',
    '--format=tar',
    '--skip=output/dev',
    `--include=${recipe.packages.join(',')}`,
    ...unwanted.map((pattern) => `--dpkgopt=${pattern}`),
    ...['Acquire::Retries "3"', 'Acquire::http::Timeout "30"', ...(await aptProxies())].map(
      (line) => `--aptopt=${line}`,
    ),
    ...(workshop.filesTar === undefined ? [] : [`--customize-hook=tar-in ${workshop.filesTar} /`]),
    `--customize-hook=copy-in ${workshop.finishScript} /`,
    `--customize-hook=chroot "$1" /bin/sh /finish.sh ${recipe.suite}`,
  ];
  const args = [...options, recipe.suite, rootfs, sources];
  await run(
    'mmdebstrap',
    args,
    { timeoutMs: 900_000, onLine: (line) => tell(line, workshop.onProgress) },
    {
      SOURCE_DATE_EPOCH: String(recipe.sourceDateEpoch),
      TZ: 'UTC',
      LC_ALL: 'C.UTF-8',
    },
  );
  return rootfs;
}

/** What nobody reads in a sandbox: 60 MB of manuals and translations. Licences stay. */
const unwanted = [
  'path-exclude=/usr/share/doc/*',
  'path-include=/usr/share/doc/*/copyright',
  'path-exclude=/usr/share/man/*',
  'path-exclude=/usr/share/info/*',
  'path-exclude=/usr/share/locale/*',
  'force-unsafe-io',
];

const steps: Readonly<Record<string, string>> = {
  'running apt-get update': 'reading Debian package lists',
  'downloading packages': 'downloading packages',
  'installing essential': 'installing the essential packages',
  'installing remaining': 'installing the other packages',
  'creating tarball': 'packing the root file system',
};

function tell(line: string, onProgress: Progress): void {
  const step = Object.keys(steps).find((start) => line.startsWith(`I: ${start}`));
  const words = step === undefined ? undefined : steps[step];
  if (words !== undefined) onProgress(words);
}

/** What makes this machine's apt reach its mirrors, and nothing that would make it trust more. */
async function aptProxies(): Promise<readonly string[]> {
  // A machine without apt has no settings of apt to take over.
  const dump = await run('apt-config', ['dump'], { timeoutMs: 10_000 }).catch(() => '');
  return dump
    .split('\n')
    .filter((line) => /^Acquire::https?::Proxy(::[^ ]+)? "[^"]+";$/.test(line))
    .map((line) => line.slice(0, -1));
}

async function ensureMmdebstrap(onProgress: Progress): Promise<void> {
  const keyring = await access(debianKeyring).then(
    () => true,
    () => false,
  );
  if (keyring && (await hasCommand('mmdebstrap'))) return;
  const packages = ['mmdebstrap', 'debian-archive-keyring'];
  if (process.getuid?.() !== 0 || !(await hasCommand('apt-get'))) {
    const next = `install them (apt-get install ${packages.join(' ')}), or build with --from registry`;
    throw new RunnerError(
      'engine_failed',
      `building from Debian packages needs ${packages.join(' and ')} on this machine; ${next}`,
    );
  }
  onProgress(`installing ${packages.join(' and ')} on this machine (apt-get install)`);
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  const install = ['install', '--yes', '--no-install-recommends', ...packages];
  try {
    await run('apt-get', install, { timeoutMs: 300_000 }, env);
  } catch {
    // Package lists that are missing or out of date are the usual reason.
    await run('apt-get', ['update'], { timeoutMs: 300_000 }, env);
    await run('apt-get', install, { timeoutMs: 300_000 }, env);
  }
}

async function hasCommand(name: string): Promise<boolean> {
  const { execa } = await import('execa');
  const result = await execa(name, ['--version'], { reject: false, timeout: 10_000, stdin: 'ignore' });
  return result.exitCode === 0;
}

/** A program of this machine, by argument array, with a deadline; its last words are in the error. */
export async function run(
  command: string,
  args: readonly string[],
  options: { readonly timeoutMs: number; readonly cwd?: string; readonly onLine?: (line: string) => void },
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const { timeoutMs, cwd, onLine } = options;
  const { execa } = await import('execa');
  const child = execa(command, args, {
    env,
    timeout: timeoutMs,
    stdin: 'ignore',
    stderr: 'pipe',
    maxBuffer: 32 * 1024 * 1024,
    forceKillAfterDelay: 10_000,
    ...(cwd === undefined ? {} : { cwd }),
  });
  if (onLine !== undefined) createInterface({ input: child.stderr }).on('line', onLine);
  try {
    return (await child).stdout;
  } catch (error) {
    const words =
      typeof error === 'object' && error !== null && 'stderr' in error ? String(error.stderr) : messageOf(error);
    const timedOut = typeof error === 'object' && error !== null && 'timedOut' in error && error.timedOut === true;
    const what = `${command} ${args[0] ?? ''}`.trim();
    const why = timedOut ? `no end within ${timeoutMs} ms` : 'failed';
    const tail = words.trim().split('\n').slice(-12).join('\n');
    throw new RunnerError(timedOut ? 'engine_timeout' : 'engine_failed', `${what}: ${why}; its last lines:\n${tail}`, {
      cause: error,
    });
  }
}
