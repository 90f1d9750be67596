import type { Command } from 'commander';
import pc from 'picocolors';
import { RunnerError } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import { replayRun } from '../../replay/replay.ts';
import type { KeptReplay } from '../../replay/replay-files.ts';
import type { Divergence, ReplayRecord } from '../../replay/replay-record.ts';
import { Runner } from '../../runner.ts';
import { Exit, exitCodes, type CliContext } from '../context.ts';
import { Interruption } from '../interruption.ts';
import { atRun } from '../run-place.ts';
import { print, printJson, say } from '../terminal.ts';
import { plural } from '../../plural.ts';

interface Options {
  readonly network?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Of `glovebox replay`: what came of it, apart from a replay that could not be made. */
const exitOf: Readonly<Record<ReplayRecord['verdict'], number>> = {
  clean: exitCodes.ok,
  diverged: exitCodes.failed,
  incomplete: 3,
};

const colors: Readonly<Record<ReplayRecord['verdict'], (text: string) => string>> = {
  clean: pc.green,
  diverged: pc.red,
  incomplete: pc.yellow,
};

const shownMax = 12;

export function replayCommand(program: Command, context: CliContext): void {
  program
    .command('replay')
    .description(
      'make the calls of a closed run again, in a fresh sandbox from the same base, and name the first that comes out otherwise. Exit code 0: all the same, the run is repeatable; 1: it diverged; 3: not all of it could be made again; 125: it could not begin',
    )
    .argument('<run>', 'name, id, or the beginning of one')
    .option('--network', 'with the network of the run; default: as its policy says (replay.network), else none')
    .option('-q, --quiet', 'no progress')
    .option('--json', 'the record as JSON')
    .action(async (name: string, options: Options) => {
      const kept = await atRun(context, name, async (place) => {
        if (place.kind === 'service')
          throw new RunnerError(
            'invalid_request',
            `run ${place.run.id} is replayed on the machine that has it; unset GLOVEBOX_URL there, then glovebox replay ${place.run.id}`,
          );
        return await replayHere(context, place.dir.id, options);
      });
      if (options.json === true) printJson({ digest: kept.digest, replay: kept.record });
      else for (const text of closingLines(kept)) print(text);
      throw new Exit(exitOf[kept.record.verdict]);
    });
}

async function replayHere(context: CliContext, run: string, { network, json, quiet }: Options): Promise<KeptReplay> {
  const interruption = new Interruption('the replay');
  try {
    const [engine, dataDir, reach] = await Promise.all([context.connect(), context.openDataDir(), context.reach()]);
    const runner = await Runner.create(engine, dataDir, reach);
    try {
      return await replayRun({ runner, dataDir }, run, {
        signal: interruption.signal,
        ...(network === undefined ? {} : { network }),
        ...(json === true || quiet === true
          ? {}
          : {
              onCall: (callId, tool, number, total) =>
                say(pc.dim(`  … ${number}/${total} ${printable(tool)} ${printable(callId)}`)),
            }),
      });
    } finally {
      await runner.close();
    }
  } finally {
    interruption.end();
  }
}

/** Everything in a record is printable already. */
function closingLines({ record, digest }: KeptReplay): readonly string[] {
  const { run, verdict, calls, divergence, leftOut, noise, notes, network, replayed } = record;
  const denied = calls.denied === 0 ? '' : `, ${calls.denied} of them denied as before`;
  return [
    `${pc.bold(`run ${run}`)}  ${colors[verdict](verdictText(record))}: ${calls.replayed} of ${calls.total} calls made again${denied}${network ? ', with its network' : ''}`,
    ...(divergence === undefined ? [] : divergenceLines(divergence)),
    ...first(leftOut, ({ callId, why }) => pc.yellow(`  ${callId === undefined ? '' : `call ${callId}: `}${why}`)),
    ...noise.met.map(({ by, declared, lines }) =>
      pc.dim(`  noise: ${plural(lines, 'line')} by ${declared === 'policy' ? `the policy's ${by}` : by}`),
    ),
    ...first(notes, (note) => pc.dim(`  note: ${note}`)),
    pc.dim(`  replay ${digest}, made in run ${replayed.run.slice(0, 12)}`),
    pc.dim(`  ${next(record)}`),
  ];
}

function verdictText({ verdict }: ReplayRecord): string {
  if (verdict === 'clean') return 'repeatable';
  return verdict === 'diverged' ? 'not repeatable, it diverged' : 'not repeatable, as far as anybody can tell';
}

function divergenceLines({ callId, tool, aspect, expected, found, diff, hints }: Divergence): readonly string[] {
  const where = callId === undefined ? 'at its end' : `at call ${callId} (${tool ?? ''})`;
  return [
    `  first divergence ${where}: ${pc.bold(aspect.replaceAll('_', ' '))}`,
    `    expected  ${expected}`,
    `    found     ${found}`,
    ...diff.map((line) => `      ${coloured(line)}`),
    ...hints.map((hint) => pc.dim(`    perhaps: ${hint}`)),
  ];
}

function coloured(line: string): string {
  if (line.startsWith('-')) return pc.red(line);
  return line.startsWith('+') ? pc.green(line) : pc.dim(line);
}

function first<T>(all: readonly T[], text: (one: T) => string): readonly string[] {
  const shown = all.slice(0, shownMax).map(text);
  return all.length > shownMax ? [...shown, pc.dim(`  … ${all.length - shownMax} more; --json has them`)] : shown;
}

function next({ verdict, run, replayed }: ReplayRecord): string {
  const short = run.slice(0, 12);
  if (verdict === 'clean') return `next: glovebox export ${short} takes this along`;
  return `next: glovebox log ${replayed.run.slice(0, 12)} has what came of it, beside glovebox log ${short}; what is only noise is for the policy to say (replay.noise)`;
}
