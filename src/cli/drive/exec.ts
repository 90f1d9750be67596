import { once } from 'node:events';
import type { Command } from 'commander';
import type { ExecOptions, RemoteRun, ResultOf } from '../../client/client.ts';
import { RunnerError } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import { Exit, exitCodes, type CliContext } from '../context.ts';
import { exitOf } from './exit-of.ts';
import { findRemoteRun } from '../find-run.ts';
import { Interruption } from '../interruption.ts';
import { wholeNumber } from '../numbers.ts';
import { openService } from '../service.ts';
import { print, printJson, say } from '../terminal.ts';

interface Options {
  readonly callId?: string;
  readonly timeout?: number;
  readonly cwd?: string;
  readonly session?: string;
  readonly stdin?: boolean;
  readonly tty?: boolean;
  readonly detach?: boolean;
  readonly json?: boolean;
}

const stdinBytesMax = 16 * 1024 * 1024;
const replyBytes = 262_144;

export function execCommand(program: Command, _context: CliContext): void {
  program
    .command('exec')
    .description(
      "run a command in an open run, output as it comes; the exit code is the command's own (124 timed out, 125 glovebox failed or refused, 126 not executable, 127 not found, 137 killed)",
    )
    .argument('<run>', 'name, id, or the beginning of one')
    .argument('<cmd...>', 'the command and its arguments, after --')
    .option('-t, --timeout <ms>', 'end the command after this many milliseconds', wholeNumber(1))
    .option('--cwd <dir>', 'working directory (default: the workspace)')
    .option('--session <name>', 'a shell session, whose directory and variables carry over; the command is its script')
    .option('-i, --stdin', 'pass this standard input on, up to its end')
    .option('--tty', 'a terminal, this one')
    .option('-d, --detach', 'print the id of the call and leave it running')
    .option('--call-id <id>', 'of the call; the same id is the same call, which never runs twice')
    .option('--json', 'the result as JSON, instead of the output')
    .action(async (name: string, argv: string[], options: Options) => {
      const given = await execOptions(options);
      const client = await openService();
      const interruption = new Interruption('the command');
      try {
        const run = await findRemoteRun(client, name);
        const command = options.session === undefined ? argvOf(argv) : argv.join(' ');
        throw new Exit(await execute(run, command, { ...given, signal: interruption.signal }, options));
      } finally {
        interruption.end();
        await client.close();
      }
    });
}

async function execute(
  run: RemoteRun,
  command: string | [string, ...string[]],
  given: ExecOptions,
  options: Options,
): Promise<number> {
  if (options.detach === true) return detach(run, command, given, options);
  const ended = async (result: ResultOf<'exec'>): Promise<number> => exitOf(result, await whyCancelled(run, result));
  if (options.tty === true) {
    const { onTerminal } = await import('./on-terminal.ts');
    return ended(await onTerminal(run, command, given));
  }
  if (options.json === true) {
    const result = await run.exec(command, given);
    printJson({ run: run.id, result });
    return codeOf(result);
  }
  const onOutput = (bytes: Uint8Array, stream: 'stdout' | 'stderr'): Promise<void> => writeOut(process[stream], bytes);
  return ended(await run.exec(command, { ...given, streams: 'split', maxReplyBytes: replyBytes, onOutput }));
}

/** What the run was ended for under the command; empty where it was not, or this key may not know. */
async function whyCancelled(run: RemoteRun, { data }: ResultOf<'exec'>): Promise<string> {
  if (data?.outcome?.kind !== 'cancelled') return '';
  const view = await run.view().catch(() => undefined);
  if (view?.summary?.startsWith('stopped: ') === true) return view.summary;
  if (view?.state !== 'closed') return '';
  return view.summary === null ? 'closed' : `closed: ${view.summary}`;
}

async function detach(
  run: RemoteRun,
  command: string | [string, ...string[]],
  given: ExecOptions,
  options: Options,
): Promise<number> {
  const { started, command: running } = await run.start(command, given);
  if (options.json === true) printJson({ run: run.id, result: started });
  else if (started.data === null) return exitOf(started);
  else {
    print(running.callId);
    say(`glovebox: next: glovebox tail ${run.id}   glovebox output ${run.id} ${running.callId}`);
  }
  return started.error === null ? exitCodes.ok : exitCodes.runner;
}

/** What is refused before a service is asked. */
async function execOptions({
  callId,
  timeout,
  cwd,
  session,
  stdin,
  tty,
  detach: leave,
}: Options): Promise<ExecOptions> {
  if (tty === true && (stdin === true || leave === true || session !== undefined))
    throw new RunnerError('invalid_request', '--tty goes without --stdin, --detach and --session');
  if (tty === true && !process.stdin.isTTY)
    throw new RunnerError('invalid_request', '--tty wants a terminal on standard input; leave it out in scripts');
  return {
    callId,
    timeoutMs: timeout,
    ...(cwd === undefined ? {} : { cwd }),
    ...(session === undefined ? {} : { session }),
    ...(stdin === true ? { stdin: { base64: (await readStdin()).toString('base64') } } : {}),
    onWaiting: (message) =>
      say(`glovebox: ${printable(message)} This command waits for it; glovebox approvals lists what is asked.`),
  };
}

/** All of it, so that the command and its input are one call. */
async function readStdin(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > stdinBytesMax) {
      const message = `standard input is longer than ${stdinBytesMax} bytes; glovebox write puts a file there that the command can read`;
      throw new RunnerError('limit_exceeded', message);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function argvOf([program = '', ...rest]: string[]): [string, ...string[]] {
  return [program, ...rest];
}

function codeOf(result: ResultOf<'exec'>): number {
  return result.data?.exitCode ?? exitCodes.runner;
}

/** At the pace of whoever reads; what nobody reads any more is dropped. */
async function writeOut(out: NodeJS.WriteStream, bytes: Uint8Array): Promise<void> {
  if (out.destroyed || out.write(bytes) || out.destroyed) return;
  const gone = new AbortController();
  const any = { signal: gone.signal };
  await Promise.race([once(out, 'drain', any), once(out, 'close', any)]).catch(() => undefined);
  gone.abort();
}
