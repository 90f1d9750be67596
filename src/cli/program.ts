import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import pc from 'picocolors';
import { isRunnerError, messageOf } from '../errors.ts';
import { printable } from '../journal/printable.ts';
import { baseCommand } from './base.ts';
import { addCompletion } from './completion.ts';
import { exitCodes, Exit, type CliContext } from './context.ts';
import { diffCommand } from './diff.ts';
import { doctorCommand } from './doctor.ts';
import { egressCommand } from './egress.ts';
import { envCommand } from './env.ts';
import { explainFilesCommand } from './explain-files.ts';
import { forwardCommand } from './forward.ts';
import { gcCommand } from './gc.ts';
import { imageCommand } from './image.ts';
import { watchOutput } from './interruption.ts';
import { checkCommand, logCommand } from './log.ts';
import { outputCommand } from './output.ts';
import { policyCommand } from './policy.ts';
import { playCommand } from './play.ts';
import { runCommand } from './run.ts';
import { runsCommand } from './runs.ts';
import { shellCommand } from './shell.ts';
import { say } from './terminal.ts';

/** Runs one command line; returns the exit code. */
export async function runCli(argv: readonly string[], context: CliContext): Promise<number> {
  const program = buildProgram(context);
  watchOutput();
  try {
    await addCompletion(program, context, argv);
    await program.parseAsync([...argv]);
    return exitCodes.ok;
  } catch (error) {
    if (error instanceof Exit) return error.code;
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    return report(error);
  }
}

function buildProgram(context: CliContext): Command {
  const program = new Command('glovebox')
    .description('Runs the tool calls of coding agents in sealed containers: a diff and a journal come out.')
    .version(version())
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .showHelpAfterError('(glovebox --help lists the commands)')
    .exitOverride();
  const commands = [
    runCommand,
    shellCommand,
    playCommand,
    policyCommand,
    diffCommand,
    logCommand,
    egressCommand,
    outputCommand,
    checkCommand,
    runsCommand,
    forwardCommand,
    envCommand,
    explainFilesCommand,
    gcCommand,
    imageCommand,
    baseCommand,
    doctorCommand,
  ];
  for (const command of commands) command(program, context);
  return program;
}

function version(): string {
  const { version: text } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return text;
}

/** The door: failures are said once, here. */
function report(error: unknown): number {
  const known = isRunnerError(error);
  say(
    `${pc.red('glovebox:')} ${printable(messageOf(error), { newlines: 'keep' })}${known ? pc.dim(` [${error.code}]`) : ''}`,
  );
  if (!known && error instanceof Error && process.env['GLOVEBOX_DEBUG'] !== undefined) say(error.stack ?? '');
  return exitCodes.runner;
}
