import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { RunnerError, messageOf } from '../errors.ts';
import { Deadline } from '../deadline.ts';
import { Secret } from './secret.ts';

export interface SourceParts {
  /** Argument lists by name, of the operator's configuration. */
  readonly commands: Readonly<Record<string, readonly string[]>>;
  readonly env?: Readonly<NodeJS.ProcessEnv>;
  /** How long a command or a file may take; default 10,000. */
  readonly timeoutMs?: number;
}

/** Asks once. Rejects with `credential_unavailable`; its message names the source and shows nothing of what it gave. */
export type Source = () => Promise<Secret>;

/**
 * `env:NAME`, `file:/absolute/path` or `command:NAME`. Throws `policy_unenforceable` for others, and for a command that the
 * operator's configuration does not have: a policy names programs, it never brings them.
 */
export function findSource(credential: string, reference: string, parts: SourceParts): Source {
  const kind = reference.slice(0, reference.indexOf(':'));
  const name = reference.slice(kind.length + 1);
  const timeoutMs = parts.timeoutMs ?? 10_000;
  const asked = `credential ${credential} from ${kind}:${name}`;
  const from = (read: () => Promise<string>): Source => {
    return async () => {
      try {
        return Secret.parse(await Deadline.run(timeoutMs, asked, read, 'credential_unavailable'));
      } catch (error) {
        if (error instanceof RunnerError) throw error;
        throw new RunnerError('credential_unavailable', `${asked}: ${messageOf(error)}`);
      }
    };
  };
  switch (kind) {
    case 'env':
      return from(() => readVariable(name, parts.env ?? process.env));
    case 'file':
      if (!isAbsolute(name)) throw unenforceable(`${asked}: the path of a file must begin with a slash`);
      return from(() => readSecretFile(name));
    case 'command': {
      const argv = Object.hasOwn(parts.commands, name) ? parts.commands[name] : undefined;
      const [program, ...args] = argv ?? [];
      if (program === undefined)
        throw unenforceable(
          `${asked}: credentials.commands of the operator's configuration has no ${name}; add it there`,
        );
      return from(() => askProgram(program, args, timeoutMs));
    }
    default:
      throw unenforceable(`${asked}: this version reads credentials from env:, file: and command:`);
  }
}

function unenforceable(message: string): RunnerError {
  return new RunnerError('policy_unenforceable', message);
}

async function readVariable(name: string, env: Readonly<NodeJS.ProcessEnv>): Promise<string> {
  const value = env[name];
  if (value === undefined)
    throw new Error("the runner's environment has no such variable; set it and start the runner again");
  return value;
}

const bytesMax = 16_384;

/** A regular file (through links), that is ours or root's and that nobody else can read or change. */
export async function readSecretFile(path: string): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY).catch(
    (error: unknown) => {
      throw new Error(`it cannot be opened: ${codeOf(error)}`);
    },
  );
  try {
    const { uid, mode, size } = await file.stat().then((found) => {
      if (!found.isFile()) throw new Error('it is not a regular file');
      return found;
    });
    const us = process.geteuid?.();
    if (uid !== us && uid !== 0) throw new Error(`it belongs to user ${uid}, and we are ${us ?? 'unknown'}`);
    if ((mode & 0o026) !== 0)
      throw new Error(`others may read or change it (mode ${octal(mode)}); do: chmod 600 ${path}`);
    if (size > bytesMax) throw new Error(`it is larger than ${bytesMax} bytes`);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytesMax + 1), 0, bytesMax + 1, 0);
    if (bytesRead > bytesMax) throw new Error(`it is larger than ${bytesMax} bytes`);
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await file.close();
  }
}

/** The program's standard output. What it says elsewhere is shown nowhere: it may hold what it was asked for. */
export async function askProgram(program: string, args: readonly string[], timeoutMs: number): Promise<string> {
  const { execa } = await import('execa'); // loading it takes 0.1 s, which most runs need not pay
  const result = await execa(program, args, {
    stdin: 'ignore',
    stderr: 'ignore',
    reject: false,
    timeout: timeoutMs,
    forceKillAfterDelay: 500,
    maxBuffer: bytesMax,
    stripFinalNewline: false,
  });
  if (result.timedOut) throw new Error(`the command did not end within ${timeoutMs} ms`);
  if (result.isMaxBuffer) throw new Error(`the command printed more than ${bytesMax} bytes`);
  if (result.exitCode === undefined && result.signal === undefined)
    throw new Error(`the command cannot be started: ${result.code ?? 'no reason given'}`);
  if (result.exitCode !== 0)
    throw new Error(`the command ended with ${result.signal ?? `exit code ${result.exitCode}`}`);
  return result.stdout;
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'no reason given';
}

function octal(mode: number): string {
  return (mode & 0o777).toString(8).padStart(3, '0');
}
