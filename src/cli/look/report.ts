import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Option, type Command } from 'commander';
import pc from 'picocolors';
import { DiffView } from '../../contract/diff-view.ts';
import { isRunnerError, messageOf, RunnerError } from '../../errors.ts';
import type { Entry } from '../../journal/entry.ts';
import { printable } from '../../journal/printable.ts';
import { readEntries } from '../../journal/read.ts';
import { junitOf } from '../../report/junit.ts';
import { levelOf, reportOf, type RunReport } from '../../report/run-report.ts';
import { sarifOf } from '../../report/sarif.ts';
import { Exit, exitCodes, type CliContext } from '../context.ts';
import { findVerification } from '../../verify/verification-files.ts';
import type { Verification } from '../../verify/verification.ts';
import { atRun, type RunPlace } from '../run-place.ts';
import { durationText, print, printJson } from '../terminal.ts';
import { version } from '../../version.ts';
import { plural } from '../../plural.ts';

interface Options {
  readonly junit?: string;
  readonly sarif?: string;
  readonly failOn: 'error' | 'warning' | 'never';
  readonly json?: boolean;
}

const shownMax = 50;

export function reportCommand(program: Command, context: CliContext): void {
  program
    .command('report')
    .description(
      'what can be held against a run: denials, refused and held-back changes, failed commands. Exit code 0: nothing that --fail-on names; 1: something; 125: it could not be found out',
    )
    .argument('<run>', 'name, id, or the beginning of one')
    .option('--junit <file>', 'also as JUnit XML')
    .option('--sarif <file>', 'also as SARIF 2.1.0')
    .addOption(
      new Option('--fail-on <level>', 'what makes the exit code 1')
        .choices(['error', 'warning', 'never'])
        .default('error'),
    )
    .option('--json', 'the report as JSON')
    .action(async (name: string, options: Options) => {
      const report = await atRun(context, name, async (place) => {
        const { entries, diff, verification } = await recordAt(place);
        return reportOf(entries, diff, verification);
      });
      if (options.junit !== undefined) await save(options.junit, junitOf(report));
      if (options.sarif !== undefined) await save(options.sarif, `${JSON.stringify(sarifOf(report, version()))}\n`);
      if (options.json === true) printJson(report);
      else for (const line of linesOf(report)) print(line);
      throw new Exit(isHeld(report, options.failOn) ? exitCodes.failed : exitCodes.ok);
    });
}

interface Recorded {
  readonly entries: AsyncIterable<Entry> | readonly Entry[];
  readonly diff: DiffView | undefined;
  /** The newest. */
  readonly verification?: Verification | undefined;
}

/** Of a run that is open, or lost, there is no diff on record. */
async function recordAt(place: RunPlace): Promise<Recorded> {
  if (place.kind === 'service') {
    const { outcome, state } = await place.run.view();
    const hasDiff = state === 'closed' && outcome !== 'lost';
    const verification = await place.run.verification().catch((error: unknown) => {
      if (isRunnerError(error, 'not_found')) return undefined;
      throw error;
    });
    const diff = hasDiff ? await place.run.diff() : undefined;
    return { entries: await place.run.entries(), diff, verification: verification?.verification };
  }
  const { dir } = place;
  const text = await readFile(join(dir.path, 'diff.json'), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  const diff = text === undefined ? undefined : DiffView.parse(JSON.parse(text));
  return { entries: readEntries(dir.journal), diff, verification: (await findVerification(dir))?.verification };
}

function isHeld({ violations }: RunReport, failOn: Options['failOn']): boolean {
  if (failOn === 'never') return false;
  return violations.some((violation) => failOn === 'warning' || levelOf(violation) === 'error');
}

function linesOf({ run, policy, outcome, calls, changes, violations, verification, ms }: RunReport): readonly string[] {
  const counts = `${plural(calls.length, 'call')}, ${plural(changes.length, 'change')}, ${plural(violations.length, 'violation')}`;
  const shown = violations.slice(0, shownMax).map((violation) => {
    const level = levelOf(violation);
    const color = level === 'error' ? pc.red : pc.yellow;
    const { failure } = violation;
    const kind =
      failure === undefined ? '' : pc.dim(` [${failure.class.replaceAll('_', ' ')}, ${failure.attribution}]`);
    return `  ${color(level.padEnd(7))} ${violation.rule}  ${printable(violation.message)}${kind}`;
  });
  const more = violations.length - shown.length;
  return [
    `${pc.bold(`run ${run}`)}  ${outcome}, policy ${printable(policy)}, ${counts}, ${durationText(ms)}`,
    ...(verification === undefined
      ? []
      : [`  verified: ${verification.verdict.replace('_', ' ')}, ${verification.gates.length} gates`]),
    ...shown,
    ...(more > 0 ? [`  … ${more} more; --json has them all`] : []),
  ];
}

async function save(file: string, text: string): Promise<void> {
  await writeFile(file, text).catch((cause: unknown) => {
    throw new RunnerError('invalid_request', `${file} cannot be written: ${messageOf(cause)}`, { cause });
  });
}
