import { decodePath } from '../../bytes-path.ts';
import { RunnerError } from '../../errors.ts';
import { runProgram } from '../../host-program.ts';

/**
 * The git of the host, asked about a directory that may hold hostile configuration. Promises:
 *  - no configuration of the user or the machine is read, no hook, monitor, filter or driver runs, nothing is written;
 *  - arguments are arrays, answers are bytes, and every question has a deadline.
 */
export async function askGit(
  cwd: string,
  args: readonly string[],
  options: {
    readonly input?: Uint8Array | AsyncIterable<Uint8Array>;
    readonly env?: Readonly<Record<string, string>>;
    readonly signal?: AbortSignal;
  } = {},
): Promise<GitAnswer> {
  const { code, why, stdout, stderr } = await runProgram('git', [...hardening, ...args], {
    cwd,
    env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', ...environment, ...options.env },
    input: options.input,
    timeoutMs: answerTimeoutMs,
    outputBytesMax: answerBytesMax,
    signal: options.signal,
  });
  if (code === undefined)
    throw new RunnerError('internal', `git ${args[0] ?? ''} in ${cwd}: ${why}; is git installed?`);
  return { code, stdout, stderr: stderr.toString('utf8').trim().slice(0, 500) };
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
