import { decodePath } from '../../bytes-path.ts';
import { RunnerError } from '../../errors.ts';

/**
 * The git of the host, asked about a directory that may hold hostile configuration. Promises:
 *  - no configuration of the user or the machine is read, no hook, monitor, filter or driver runs, nothing is written;
 *  - arguments are arrays, answers are bytes, and every question has a deadline.
 */
export async function askGit(
  cwd: string,
  args: readonly string[],
  options: {
    readonly input?: AsyncIterable<Uint8Array> | Uint8Array;
    readonly env?: Readonly<Record<string, string>>;
    readonly signal?: AbortSignal;
  } = {},
): Promise<GitAnswer> {
  const { execa } = await import('execa'); // loading it takes 0.1 s, which most command lines need not pay
  const result = await execa('git', [...hardening, ...args], {
    cwd,
    env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', ...environment, ...options.env },
    extendEnv: false,
    encoding: 'buffer',
    stripFinalNewline: false,
    reject: false,
    timeout: answerTimeoutMs,
    maxBuffer: answerBytesMax,
    ...(options.input === undefined ? { stdin: 'ignore' } : inputOf(options.input)),
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
  });
  const stdout = Buffer.from(result.stdout);
  const stderr = Buffer.from(result.stderr).toString('utf8').trim().slice(0, 500);
  if (result.exitCode === undefined) {
    const why = result.isCanceled ? 'cancelled' : (result.shortMessage ?? 'no exit code');
    throw new RunnerError('internal', `git ${args[0] ?? ''} in ${cwd}: ${why}; is git installed?`, { cause: result });
  }
  return { code: result.exitCode, stdout, stderr };
}

export interface GitAnswer {
  readonly code: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** The names in a NUL-separated answer (`-z`). */
export function splitNames(answer: Buffer): string[] {
  const names: string[] = [];
  for (let at = 0; at < answer.length;) {
    const found = answer.indexOf(0, at);
    const end = found < 0 ? answer.length : found;
    names.push(decodePath(answer.subarray(at, end)));
    at = end + 1;
  }
  return names;
}

const answerTimeoutMs = 120_000;
const answerBytesMax = 256 * 1024 * 1024;

const hardening: readonly string[] = [
  '--no-pager',
  '--literal-pathspecs',
  '-c',
  'core.fsmonitor=false',
  '-c',
  'core.hooksPath=/dev/null',
  '-c',
  'core.untrackedCache=false',
  '-c',
  'core.attributesFile=/dev/null',
  '-c',
  'core.quotePath=true',
  // Who owns the directory was decided when the caller named it.
  '-c',
  'safe.directory=*',
];

const environment: Readonly<Record<string, string>> = {
  LC_ALL: 'C',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_ATTR_NOSYSTEM: '1',
  GIT_OPTIONAL_LOCKS: '0',
  // A missing object is fetched by whatever program the directory's configuration names: older gits know only the second.
  GIT_NO_LAZY_FETCH: '1',
  GIT_ALLOW_PROTOCOL: 'none',
  GIT_NO_REPLACE_OBJECTS: '1',
  GIT_TERMINAL_PROMPT: '0',
};

function inputOf(input: AsyncIterable<Uint8Array> | Uint8Array): object {
  return input instanceof Uint8Array ? { input } : { stdin: input };
}
