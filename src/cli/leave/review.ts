import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import pc from 'picocolors';
import type { ReviewRecordView, ReviewView } from '../../contract/review-view.ts';
import { RunnerError } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import { isLess } from '../../promotion/review.ts';
import type { CliContext } from '../context.ts';
import { forTerminal } from '../look/diff.ts';
import { reviewLines } from './review-lines.ts';
import { reviewedBundle, reviewedHere, reviewedThere, type Reviewed, type Spoken } from './reviewed.ts';
import { atRun } from '../run-place.ts';
import { print, printJson } from '../terminal.ts';

interface Options {
  readonly accept?: boolean;
  readonly reject?: boolean;
  readonly reason?: string;
  readonly manifest?: string;
  readonly as?: string;
  readonly signWith?: string;
  readonly key?: readonly string[];
  readonly patch?: boolean;
  readonly json?: boolean;
}

export function reviewCommand(program: Command, context: CliContext): void {
  program
    .command('review')
    .description(
      'what a closed run proposes, for whoever decides on it: files by risk, gates, what was refused, what happened, the diff; then --accept or --reject, which is bound to exactly this',
    )
    .argument('<what>', 'a run, or a bundle')
    .option('--accept', 'it may go on')
    .option('--reject', 'it may not; --reason says why')
    .option('-r, --reason <text>', 'why')
    .option('--manifest <digest>', 'what was looked at, or the beginning of it: another one is not reviewed')
    .option('--as <name>', 'who reviews; default: the user of this machine. Who had a hand in the run cannot')
    .option('--sign-with <file>', "also sign it with the reviewer's own private key (Ed25519, PEM)")
    .option('--key <file...>', 'of a bundle: public keys that are believed; default: that of this machine')
    .option('--no-patch', 'without the diff')
    .option('--json', 'as JSON')
    .action(async (name: string, options: Options) => {
      const spoken = spokenIn(options);
      await findReviewed(context, name, options, async (reviewed) => {
        const { view } = reviewed;
        if (options.manifest !== undefined) refuseOther(view, options.manifest);
        const review = spoken === undefined ? undefined : await reviewed.give(spoken);
        if (options.json === true) printJson({ ...view, review: review ?? null });
        else if (review === undefined) await show(reviewed, options);
        else for (const line of doneLines(view, review)) print(line);
      });
    });
}

function spokenIn(options: Options): Spoken | undefined {
  const { accept = false, reject = false, reason = '', signWith } = options;
  if (accept && reject) throw new RunnerError('invalid_request', 'a review accepts or rejects: say one of them');
  if (!accept && !reject) return undefined;
  return { verdict: accept ? 'accepted' : 'rejected', reason, as: options.as, signWith };
}

async function findReviewed(
  context: CliContext,
  name: string,
  { key, as }: Options,
  work: (reviewed: Reviewed) => Promise<void>,
): Promise<void> {
  const isFile = await stat(name).then(
    (found) => found.isFile(),
    () => false,
  );
  if (isFile) return work(await reviewedBundle(context, name, key));
  await atRun(
    context,
    name,
    async (place) =>
      work(place.kind === 'service' ? await reviewedThere(place.run) : await reviewedHere(context, place.dir)),
    { as: process.env['GLOVEBOX_KEY'] === undefined ? as : undefined },
  );
}

/** Between looking and deciding somebody may have verified it again. */
function refuseOther({ run, manifest }: ReviewView, said: string): void {
  const wanted = said.startsWith('sha256:') ? said : `sha256:${said}`;
  if (wanted.length >= 'sha256:'.length + 8 && manifest.startsWith(wanted)) return;
  throw new RunnerError(
    'conflict',
    `run ${run} has the manifest ${manifest}, not ${said.slice(0, 80)}: look at it again`,
  );
}

function doneLines({ run, manifest, demand }: ReviewView, { verdict, by, known }: ReviewRecordView): readonly string[] {
  const done = verdict === 'accepted' ? pc.green('accepted') : pc.red('rejected');
  const next = `next: glovebox export ${run.slice(0, 12)}; glovebox promote BUNDLE --repo DIRECTORY`;
  return [
    `${done} by ${printable(by)}: run ${run}, manifest ${manifest}, ${known}`,
    ...(verdict === 'accepted' && isLess(known, demand.reviewers)
      ? [pc.yellow(`  it does not count for a promotion: that ${demand.text}`)]
      : []),
    ...(verdict === 'accepted' ? [pc.dim(next)] : []),
  ];
}

async function show({ view, patch }: Reviewed, { patch: withPatch }: Options): Promise<void> {
  for (const line of reviewLines(view)) print(line);
  if (withPatch !== false) print(`\n${forTerminal((await patch()).toString('utf8'))}`);
  const manifest = view.manifest.slice('sha256:'.length, 'sha256:'.length + 12);
  const command = `glovebox review ${view.run.slice(0, 12)} --manifest ${manifest}`;
  print(pc.dim(`next: ${command} --accept   or   --reject --reason "…"`));
}
