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
 * Every command, in the groups and the order of the help, with the file that says what it takes and does. Only the file of the
 * command that is asked for is loaded: starting costs what that one needs, and nothing of an engine where none is.
 */
const groups: Readonly<Record<string, Readonly<Record<string, () => Promise<Register>>>>> = {
  'Give an agent a run:': {
    run: async () => (await import('./drive/run.ts')).runCommand,
    shell: async () => (await import('./drive/shell.ts')).shellCommand,
    play: async () => (await import('./drive/play.ts')).playCommand,
    open: async () => (await import('./drive/open.ts')).openCommand,
    exec: async () => (await import('./drive/exec.ts')).execCommand,
    read: async () => (await import('./drive/files.ts')).readCommand,
    write: async () => (await import('./drive/files.ts')).writeCommand,
    edit: async () => (await import('./drive/files.ts')).editCommand,
    patch: async () => (await import('./drive/files.ts')).patchCommand,
    approvals: async () => (await import('./drive/approvals.ts')).approvalsCommand,
    close: async () => (await import('./drive/close.ts')).closeCommand,
    forward: async () => (await import('./drive/forward.ts')).forwardCommand,
    mcp: async () => (await import('./drive/mcp.ts')).mcpCommand,
    bridge: async () => (await import('./drive/bridge.ts')).bridgeCommand,
  },
  'See what it does and did:': {
    ps: async () => (await import('./look/runs.ts')).psCommand,
    runs: async () => (await import('./look/runs.ts')).runsCommand,
    tail: async () => (await import('./look/tail.ts')).tailCommand,
    log: async () => (await import('./look/log.ts')).logCommand,
    output: async () => (await import('./look/output.ts')).outputCommand,
    diff: async () => (await import('./look/diff.ts')).diffCommand,
    egress: async () => (await import('./look/egress.ts')).egressCommand,
    context: async () => (await import('./look/beliefs.ts')).contextCommand,
    blame: async () => (await import('./look/blame.ts')).blameCommand,
    fingerprint: async () => (await import('./look/fingerprint.ts')).fingerprintCommand,
    drift: async () => (await import('./look/drift.ts')).driftCommand,
    report: async () => (await import('./look/report.ts')).reportCommand,
    stats: async () => (await import('./look/stats.ts')).statsCommand,
  },
  'Judge what leaves, let it out, take it back:': {
    verify: async () => (await import('./leave/verify.ts')).verifyCommand,
    replay: async () => (await import('./leave/replay.ts')).replayCommand,
    export: async () => (await import('./leave/export.ts')).exportCommand,
    check: async () => (await import('./leave/check.ts')).checkCommand,
    'signing-key': async () => (await import('./leave/export.ts')).signingKeyCommand,
    review: async () => (await import('./leave/review.ts')).reviewCommand,
    promote: async () => (await import('./leave/promote.ts')).promoteCommand,
    rollback: async () => (await import('./leave/rollback.ts')).rollbackCommand,
    promotions: async () => (await import('./leave/rollback.ts')).promotionsCommand,
  },
  'Say what runs may touch, and what they are made of:': {
    policy: async () => (await import('./machine/policy.ts')).policyCommand,
    'explain-files': async () => (await import('./machine/explain-files.ts')).explainFilesCommand,
    image: async () => (await import('./machine/image.ts')).imageCommand,
    env: async () => (await import('./machine/env.ts')).envCommand,
    base: async () => (await import('./machine/base.ts')).baseCommand,
  },
  'See to this machine and its service:': {
    doctor: async () => (await import('./machine/doctor.ts')).doctorCommand,
    gc: async () => (await import('./machine/gc.ts')).gcCommand,
    serve: async () => (await import('./machine/serve.ts')).serveCommand,
    key: async () => (await import('./machine/key.ts')).keyCommand,
    team: async () => (await import('./machine/team.ts')).teamCommand,
    state: async () => (await import('./machine/state.ts')).stateCommand,
    backup: async () => (await import('./machine/backup.ts')).backupCommand,
    restore: async () => (await import('./machine/backup.ts')).restoreCommand,
  },
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

/** With the one command that `argv` asks for; with all of them where it asks for none. */
export async function buildProgram(argv: readonly string[], context: CliContext): Promise<Command> {
  const program = new Command('glovebox')
    .description('Runs the tool calls of coding agents in sealed containers: a diff and a journal come out.')
    .version(version())
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .showHelpAfterError('(glovebox --help lists the commands)')
    .exitOverride();
  const asked = argv[2] ?? '';
  const one = Object.values(groups).find((commands) => Object.hasOwn(commands, asked))?.[asked];
  if (one !== undefined) (await one())(program, context);
  else if (asked !== '--version' && asked !== '-V') await addAll(program, context, argv);
  return program;
}

/** For the help, a name that is mistyped, and completion. */
async function addAll(program: Command, context: CliContext, argv: readonly string[]): Promise<void> {
  for (const [heading, commands] of Object.entries(groups)) {
    program.commandsGroup(heading);
    for (const load of Object.values(commands)) (await load())(program, context);
  }
  program.commandsGroup('Help:');
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
