import { readFile, stat } from 'node:fs/promises';
import type { Command } from 'commander';
import pc from 'picocolors';
import { readBundle } from '../bundle/check.ts';
import { describeRun } from '../bundle/export.ts';
import type { Facts } from '../bundle/facts.ts';
import type { Manifest } from '../bundle/manifest.ts';
import type { DataDir } from '../data-dir/data-dir.ts';
import type { Digest } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import { Ledger } from '../promotion/ledger.ts';
import { Reviews } from '../promotion/reviews.ts';
import type { Review } from '../promotion/review.ts';
import { setbacksOn } from '../promotion/rolled-back.ts';
import { userName } from './ask-approval.ts';
import { believedKeys, ownKeys } from './believed-keys.ts';
import type { CliContext } from './context.ts';
import { forTerminal } from './diff.ts';
import { ownKey } from './export.ts';
import { reviewLines } from './review-lines.ts';
import { atRun } from './run-place.ts';
import { print, printJson } from './terminal.ts';

interface Options {
  readonly accept?: boolean;
  readonly reject?: boolean;
  readonly reason?: string;
  readonly as?: string;
  readonly key?: readonly string[];
  readonly patch?: boolean;
  readonly json?: boolean;
}

/** What is looked at: a bundle, or a closed run as it would be exported now. */
interface Reviewed {
  readonly manifest: Manifest;
  readonly digest: Digest;
  readonly facts: Facts;
  readonly patch: () => Promise<Buffer>;
}

export function reviewCommand(program: Command, context: CliContext): void {
  program
    .command('review')
    .description(
      'what a closed run proposes, for whoever decides on it: files by risk, gates, what was refused, the diff; then --accept or --reject, which is bound to exactly this',
    )
    .argument('<what>', 'a run, or a bundle')
    .option('--accept', 'it may go on')
    .option('--reject', 'it may not; --reason says why')
    .option('-r, --reason <text>', 'why')
    .option('--as <name>', 'who reviews; default: the user of this machine. Who had a hand in the run cannot')
    .option('--key <file...>', 'of a bundle: public keys that are believed; default: that of this machine')
    .option('--no-patch', 'without the diff')
    .option('--json', 'as JSON')
    .action(async (name: string, options: Options) => {
      if (options.accept === true && options.reject === true)
        throw new RunnerError('invalid_request', 'a review accepts or rejects: say one of them');
      const dataDir = await context.openDataDir();
      const reviewed = await find(context, dataDir, name, options.key);
      const review = await decide(dataDir, reviewed, options);
      const reviews = await new Reviews(dataDir).list(reviewed.digest, await ownKeys(context));
      if (options.json === true) printJson(documentOf(reviewed, reviews, review));
      else await show(dataDir, reviewed, reviews, review, options);
    });
}

async function find(
  context: CliContext,
  dataDir: DataDir,
  name: string,
  keys: readonly string[] | undefined,
): Promise<Reviewed> {
  const isFile = await stat(name).then(
    (found) => found.isFile(),
    () => false,
  );
  if (isFile) {
    const { manifest, digest, facts, patch } = await readBundle(name, await believedKeys(keys, context));
    return { manifest, digest, facts, patch };
  }
  return atRun(context, name, async (place) => {
    if (place.kind === 'service')
      throw new RunnerError('invalid_request', `run ${name} is at a service; review it on the machine that has it`);
    const { manifest, digest, facts } = await describeRun(dataDir, place.dir.id);
    return { manifest, digest, facts, patch: () => readFile(place.dir.patch) };
  });
}

async function decide(dataDir: DataDir, reviewed: Reviewed, options: Options): Promise<Review | undefined> {
  if (options.accept !== true && options.reject !== true) return undefined;
  const { manifest, digest: bundle, facts } = reviewed;
  const { as: by = userName(), reason = '' } = options;
  const verdict = options.accept === true ? 'accepted' : 'rejected';
  const key = await ownKey(dataDir.path);
  const review = { bundle, run: manifest.run, verdict, by, reason } as const;
  return await new Reviews(dataDir).add(review, [...facts.story.involved], key.private);
}

function documentOf({ manifest, digest, facts }: Reviewed, reviews: readonly Review[], review?: Review): object {
  const { diff, verification } = facts;
  return { manifest: digest, about: manifest, diff, verification: verification ?? null, reviews, review };
}

async function show(
  dataDir: DataDir,
  reviewed: Reviewed,
  reviews: readonly Review[],
  review: Review | undefined,
  { patch: withPatch }: Options,
): Promise<void> {
  const { manifest, facts, patch } = reviewed;
  if (review !== undefined) {
    const done = review.verdict === 'accepted' ? pc.green('accepted') : pc.red('rejected');
    print(`${done} by ${review.by}: run ${manifest.run}, manifest ${reviewed.digest}`);
    if (review.verdict === 'accepted')
      print(pc.dim(`next: glovebox export ${manifest.run.slice(0, 12)}; glovebox promote BUNDLE --repo DIRECTORY`));
    return;
  }
  const changed = manifest.changes.map(({ path }) => path);
  const setbacks = setbacksOn(await new Ledger(dataDir).list(), changed, manifest.base.below);
  for (const line of reviewLines(manifest, reviewed.digest, facts, { reviews, setbacks })) print(line);
  if (withPatch !== false) print(`\n${forTerminal((await patch()).toString('utf8'))}`);
  print(pc.dim(`next: glovebox review ${manifest.run.slice(0, 12)} --accept   or   --reject --reason "…"`));
}
