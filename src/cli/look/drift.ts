import type { Command } from 'commander';
import pc from 'picocolors';
import { compareFingerprints, type Comparison } from '../../drift/compare.ts';
import type { Fingerprint } from '../../drift/fingerprint.ts';
import { lockName, lockOf } from '../../drift/lock.ts';
import { writeLock } from '../../drift/lock-file.ts';
import { observe, observedFindings, type Observed } from '../../drift/observed.ts';
import { RunnerError } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import { noDriftRules } from '../../policy/policy.ts';
import { exitCodes, Exit, type CliContext } from '../context.ts';
import { fingerprintOfRun, fingerprintOfThisMachine } from './fingerprint.ts';
import { entriesAt } from './log.ts';
import { atRun } from '../run-place.ts';
import { print, printJson } from '../terminal.ts';

interface Options {
  readonly json?: boolean;
  readonly writeLock?: boolean;
  readonly output: string;
}

/** One side: a run, or this machine, in which nothing has happened. */
interface Side {
  readonly fingerprint: Fingerprint;
  readonly observed: Observed;
}

export function driftCommand(program: Command, context: CliContext): void {
  program
    .command('drift')
    .description(
      'why it works there and not here: what two runs differ in, the likeliest cause first; exit 1 where they do',
    )
    .argument('<there>', 'name, id, or the beginning of one: the run that is as it should be')
    .argument('[here]', 'the other run; . (the default) for this machine and directory')
    .option('--write-lock', `write what the first run was in as ${lockName}, and compare nothing`)
    .option('-o, --output <file>', 'where the lock goes', lockName)
    .option('--json', 'findings with both values, as JSON')
    .action(async (there: string, here = '.', { json, writeLock, output }: Options) => {
      const expected = await sideOf(context, there);
      if (writeLock === true) return writeLockOf(expected.fingerprint, there, output);
      const found = await sideOf(context, here);
      const besides = observedFindings(expected.observed, found.observed);
      const { clockSkewMs } = noDriftRules;
      const comparison = compareFingerprints(expected.fingerprint, found.fingerprint, { clockSkewMs, besides });
      if (json === true) printJson({ there, here, ...comparison });
      else for (const line of linesOf(comparison)) print(line);
      if (comparison.findings.length > 0) throw new Exit(exitCodes.failed);
    });
}

async function sideOf(context: CliContext, name: string): Promise<Side> {
  if (name === '.') return { ...(await fingerprintOfThisMachine(context)), observed: await observe([]) };
  const { fingerprint } = await fingerprintOfRun(context, name);
  const observed = await atRun(context, name, (place) => observe(entriesAt(place, false)));
  return { fingerprint, observed };
}

async function writeLockOf(fingerprint: Fingerprint, name: string, file: string): Promise<void> {
  if (fingerprint.of !== 'sandbox')
    throw new RunnerError(
      'invalid_request',
      `--write-lock takes a run, not ${JSON.stringify(name)}: a lock is of an environment that a run had`,
    );
  const lock = lockOf(fingerprint);
  await writeLock(file, lock);
  print(`${pc.bold(printable(file))}: ${Object.keys(lock.sections).join(', ')}`);
  print(pc.dim('next: commit it; runs on this repository say when their environment is another one'));
}

function linesOf({ findings, more, unseen }: Comparison): readonly string[] {
  const [first, ...others] = findings;
  const notes =
    unseen.length === 0 ? [] : [pc.dim(`not compared, since only one of them has it: ${unseen.join(', ')}`)];
  if (first === undefined) return [`${pc.green('the same')}: nothing was found that differs`, ...notes];
  const left = Object.entries(more).map(([kind, count]) => `${count} more of ${kind}`);
  return [
    `${pc.bold(first.kind)}: ${first.text}`,
    ...others.map(({ kind, text }) => `${kind}: ${text}`),
    ...(left.length === 0 ? [] : [pc.dim(`and ${left.join(', ')}`)]),
    ...notes,
  ];
}
