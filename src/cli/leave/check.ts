import type { KeyObject } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import type { Command } from 'commander';
import pc from 'picocolors';
import { checkBundle, type CheckedBundle } from '../../bundle/check.ts';
import { formatProblem, type Problem } from '../../bundle/problem.ts';
import { digestPattern, type Digest } from '../../digest.ts';
import { RunnerError } from '../../errors.ts';
import { checkJournal, checkJournalIn, formatCheck, type Check, type CheckOptions } from '../../journal/check.ts';
import type { LineSource } from '../../journal/lines.ts';
import { printable } from '../../journal/printable.ts';
import { believedKeys } from './believed-keys.ts';
import { Exit, exitCodes, type CliContext } from '../context.ts';
import { atRun, type RunPlace } from '../run-place.ts';
import { print, printJson } from '../terminal.ts';
import { plural } from '../../plural.ts';

interface Options {
  readonly head?: string;
  readonly key?: readonly string[];
  readonly json?: boolean;
}

export function checkCommand(program: Command, context: CliContext): void {
  program
    .command('check')
    .description('verify a journal or a bundle offline: whatever was changed in it is named')
    .argument('<what>', 'a bundle, a journal file, or the id of a run')
    .option(
      '--head <digest>',
      'of a journal: the hash that the last line must have, kept elsewhere: then a whole rewritten chain is found too',
    )
    .option('--key <file...>', 'of a bundle: public keys that are believed; default: that of this machine')
    .option('--json', 'the result as JSON')
    .action(async (name: string, options: Options) => {
      const file = await stat(name).catch(() => undefined);
      const isBundle = file?.isFile() === true && (options.key !== undefined || !(await looksLikeJournal(name)));
      const isWhole = isBundle
        ? await reportBundle(name, await believedKeys(options.key, context), options)
        : file?.isFile() === true
          ? reportCheck(await checkJournal(name, expected(options)), options)
          : await atRun(context, name, async (place) => reportCheck(await checkAt(place, options), options));
      throw new Exit(isWhole ? exitCodes.ok : exitCodes.failed);
    });
}

/** Of a service the journal is fetched as it is, and looked at here. */
async function checkAt(place: RunPlace, options: Options): Promise<Check> {
  if (place.kind === 'directory') return checkJournal(place.dir.journal, expected(options));
  return checkJournalIn(sourceOf(await place.run.journalBytes()), expected(options));
}

function sourceOf(bytes: Buffer): LineSource {
  return {
    read: async (buffer, offset, length, position) => {
      const bytesRead = bytes.copy(buffer, offset, position, position + length);
      return { bytesRead, buffer };
    },
  };
}

function expected({ head }: Options): CheckOptions {
  return head === undefined ? {} : { expectHead: headOf(head) };
}

function reportCheck(check: Check, { json }: Options): boolean {
  if (json === true) printJson(check);
  else for (const line of formatCheck(check)) print(check.verdict === 'broken' ? pc.red(line) : line);
  return check.verdict === 'closed';
}

async function reportBundle(path: string, keys: readonly KeyObject[], { json }: Options): Promise<boolean> {
  const { bundle, problems } = await checkBundle(path, keys);
  if (json === true) printJson(bundle === undefined ? { verdict: 'broken', problems } : whatItIs(bundle));
  else for (const line of bundle === undefined ? brokenLines(problems) : wholeLines(bundle)) print(line);
  return bundle !== undefined;
}

function whatItIs({ manifest, digest, signedBy }: CheckedBundle): object {
  const { run, policy, candidate, base, image, risk, verification = null, replay = null, journal, changes } = manifest;
  const about = { run, policy, candidate, base, image, risk, verification, replay, journal, changes: changes.length };
  return { verdict: 'whole', manifest: digest, signedBy, ...about, problems: [] };
}

function wholeLines({ manifest, digest, signedBy, facts }: CheckedBundle): readonly string[] {
  const { run, base, verification, replay, changes, journal, risk } = manifest;
  const flagged = changes.filter(
    ({ flags, categories }) => flags.length > 0 || categories.includes('execution_bearing'),
  );
  const from = base.commit === undefined ? base.digest : `commit ${base.commit}`;
  return [
    `${pc.green('WHOLE')}: run ${run}, signed by key ${signedBy}`,
    `  manifest ${digest}`,
    `  ${plural(changes.length, 'change')} on ${from}, risk ${risk}; ${flagged.length} to be looked at twice`,
    `  verification: ${verification === undefined ? pc.yellow('none') : verification.verdict}`,
    ...(replay === undefined ? [] : [`  replay: ${replay.verdict}`]),
    `  journal: ${journal.entries} entries, head ${journal.head}`,
    ...(facts.story.opened.intent === undefined
      ? []
      : [`  intent: ${printable(facts.story.opened.intent).slice(0, 200)}`]),
  ];
}

function brokenLines(problems: readonly Problem[]): readonly string[] {
  return [
    ...problems.map((problem) => pc.red(formatProblem(problem))),
    pc.red(`BROKEN: this is not what was exported, or not by a key that is believed; use nothing of it`),
  ];
}

/** A line of a journal begins so, and no file of a bundle's name does. */
async function looksLikeJournal(path: string): Promise<boolean> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(1), 0, 1, 0);
    return bytesRead === 0 || buffer.toString('latin1') === '{';
  } finally {
    await file.close();
  }
}

function headOf(text: string): Digest {
  if (!digestPattern.test(text))
    throw new RunnerError('invalid_request', `--head wants sha256: and 64 hex digits, not ${text.slice(0, 80)}`);
  return text as Digest;
}
