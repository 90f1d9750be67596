import { Command, CommanderError } from 'commander';
import pc from 'picocolors';
import { isRunnerError, messageOf } from '../errors.ts';
import { printable } from '../journal/printable.ts';
import { standIn } from './apart.ts';
import { exitCodes, Exit, type CliContext } from './context.ts';
import { watchOutput } from './interruption.ts';
import { say } from './terminal.ts';
import { version } from '../version.ts';

type Register = (program: Command, context: CliContext) => void;

/**
 * Every command, in the order of the help, with the file that says what it takes and does. Only the file of the command that
 * is asked for is loaded: starting costs what that one needs, and nothing of an engine where none is.
 */
const commands: Readonly<Record<string, () => Promise<Register>>> = {
  run: async () => (await import('./run.ts')).runCommand,
  shell: async () => (await import('./shell.ts')).shellCommand,
  play: async () => (await import('./play.ts')).playCommand,
  open: async () => (await import('./open.ts')).openCommand,
  exec: async () => (await import('./exec.ts')).execCommand,
  read: async () => (await import('./files.ts')).readCommand,
  write: async () => (await import('./files.ts')).writeCommand,
  edit: async () => (await import('./files.ts')).editCommand,
  patch: async () => (await import('./files.ts')).patchCommand,
  tail: async () => (await import('./tail.ts')).tailCommand,
  approvals: async () => (await import('./approvals.ts')).approvalsCommand,
  close: async () => (await import('./close.ts')).closeCommand,
  serve: async () => (await import('./serve.ts')).serveCommand,
  mcp: async () => (await import('./mcp.ts')).mcpCommand,
  bridge: async () => (await import('./bridge.ts')).bridgeCommand,
  policy: async () => (await import('./policy.ts')).policyCommand,
  diff: async () => (await import('./diff.ts')).diffCommand,
  blame: async () => (await import('./blame.ts')).blameCommand,
  log: async () => (await import('./log.ts')).logCommand,
  drift: async () => (await import('./drift.ts')).driftCommand,
  fingerprint: async () => (await import('./fingerprint.ts')).fingerprintCommand,
  egress: async () => (await import('./egress.ts')).egressCommand,
  context: async () => (await import('./beliefs.ts')).contextCommand,
  output: async () => (await import('./output.ts')).outputCommand,
  check: async () => (await import('./check.ts')).checkCommand,
  export: async () => (await import('./export.ts')).exportCommand,
  'signing-key': async () => (await import('./export.ts')).signingKeyCommand,
  review: async () => (await import('./review.ts')).reviewCommand,
  promote: async () => (await import('./promote.ts')).promoteCommand,
  rollback: async () => (await import('./rollback.ts')).rollbackCommand,
  promotions: async () => (await import('./rollback.ts')).promotionsCommand,
  report: async () => (await import('./report.ts')).reportCommand,
  replay: async () => (await import('./replay.ts')).replayCommand,
  verify: async () => (await import('./verify.ts')).verifyCommand,
  stats: async () => (await import('./stats.ts')).statsCommand,
  runs: async () => (await import('./runs.ts')).runsCommand,
  ps: async () => (await import('./runs.ts')).psCommand,
  forward: async () => (await import('./forward.ts')).forwardCommand,
  env: async () => (await import('./env.ts')).envCommand,
  'explain-files': async () => (await import('./explain-files.ts')).explainFilesCommand,
  gc: async () => (await import('./gc.ts')).gcCommand,
  key: async () => (await import('./key.ts')).keyCommand,
  team: async () => (await import('./team.ts')).teamCommand,
  backup: async () => (await import('./backup.ts')).backupCommand,
  restore: async () => (await import('./backup.ts')).restoreCommand,
  state: async () => (await import('./state.ts')).stateCommand,
  image: async () => (await import('./image.ts')).imageCommand,
  base: async () => (await import('./base.ts')).baseCommand,
  doctor: async () => (await import('./doctor.ts')).doctorCommand,
};

/** They open runs in their own process, or see to this machine: a service that is given has no part in them. */
const ofThisMachine: ReadonlySet<string> = new Set([
  'run',
  'shell',
  'play',
  'mcp',
  'bridge',
  'serve',
  'signing-key',
  'promote',
  'rollback',
  'promotions',
  'env',
  'gc',
  'key',
  'team',
  'backup',
  'restore',
  'state',
  'image',
  'base',
  'doctor',
]);

/** What a client starts, and kills as it likes. */
const startedByClients: ReadonlySet<string> = new Set(['mcp', 'bridge']);

/** Runs one command line; returns the exit code. */
export async function runCli(argv: readonly string[], context: CliContext): Promise<number> {
  watchOutput();
  try {
    const stoodIn = startedByClients.has(argv[2] ?? '') ? await standIn() : undefined;
    if (stoodIn !== undefined) return stoodIn;
    const { GLOVEBOX_URL: url = '' } = process.env;
    if (url !== '' && ofThisMachine.has(argv[2] ?? ''))
      say(`glovebox: ${argv[2]} is of this machine and its data directory, not of the service at ${printable(url)}`);
    const program = await buildProgram(argv, context);
    await program.parseAsync([...argv]);
    return exitCodes.ok;
  } catch (error) {
    if (error instanceof Exit) return error.code;
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    return report(error);
  }
}

async function buildProgram(argv: readonly string[], context: CliContext): Promise<Command> {
  const program = new Command('glovebox')
    .description('Runs the tool calls of coding agents in sealed containers: a diff and a journal come out.')
    .version(version())
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .showHelpAfterError('(glovebox --help lists the commands)')
    .exitOverride();
  const asked = argv[2] ?? '';
  const one = Object.hasOwn(commands, asked) ? commands[asked] : undefined;
  if (one !== undefined) (await one())(program, context);
  else await addAll(program, context, argv);
  return program;
}

/** For the help, a name that is mistyped, and completion. */
async function addAll(program: Command, context: CliContext, argv: readonly string[]): Promise<void> {
  const registers = await Promise.all(Object.values(commands).map((load) => load()));
  for (const register of registers) register(program, context);
  await (await import('./completion.ts')).addCompletion(program, context, argv);
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
