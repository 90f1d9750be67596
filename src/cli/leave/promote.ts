import type { Command } from 'commander';
import pc from 'picocolors';
import { readBundle } from '../../bundle/check.ts';
import { loadConfig } from '../../config.ts';
import { findSource } from '../../credentials/sources.ts';
import type { DataDir } from '../../data-dir/data-dir.ts';
import { RunnerError } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import { candidateOf } from '../../promotion/candidate.ts';
import { Ledger } from '../../promotion/ledger.ts';
import { promote, type Candidate, type PromoteRequest, type Promoted } from '../../promotion/promote.ts';
import { push } from '../../promotion/push.ts';
import { Reviews } from '../../promotion/reviews.ts';
import { demandText } from '../../promotion/rules.ts';
import { baseAt } from '../../promotion/target/base-at.ts';
import { tightenedBy, windowStandard, type Tightened } from '../../promotion/tighten.ts';
import { Runner } from '../../runner.ts';
import { laneRecords } from '../../stats/lane-record.ts';
import type { OtherBase } from '../../verify/subject.ts';
import type { Verification } from '../../verify/verification.ts';
import { verifyOnto } from '../../verify/verify.ts';
import { userName } from '../ask-approval.ts';
import { believedKeys, believedReviews } from './believed-keys.ts';
import type { CliContext } from '../context.ts';
import { print, printJson, say } from '../terminal.ts';

interface Options {
  readonly repo: string;
  readonly branch?: string;
  readonly as?: string;
  readonly author?: string;
  readonly key?: readonly string[];
  readonly reverify?: boolean;
  readonly push?: string;
  readonly json?: boolean;
}

export function promoteCommand(program: Command, context: CliContext): void {
  program
    .command('promote')
    .description(
      'a bundle as one commit on a branch, when its verification, the rules of its policy and its reviews say so; nothing of the repository is run, and no work tree is touched',
    )
    .argument('<bundle>', 'what glovebox export has written')
    .requiredOption('--repo <directory>', 'the repository, or the top of a work tree')
    .option(
      '-b, --branch <name>',
      'default: glovebox/<beginning of the run>, made from the commit that the run began at',
    )
    .option('--as <name>', 'who promotes; default: the user of this machine')
    .option('--author <name-and-address>', 'of the commit, as "Name <name@example.org>"')
    .option('--key <file...>', 'public keys that are believed; default: that of this machine')
    .option(
      '--reverify',
      'where other files have moved on: verify the changes on what is there now, and go on if they pass',
    )
    .option('--push <address>', 'then push the branch there: https://…, never the name of a remote')
    .option('--json', 'what was done, as JSON')
    .action(async (file: string, options: Options) => {
      const dataDir = await context.openDataDir();
      const keys = await believedKeys(options.key, context);
      const candidate = candidateOf(await readBundle(file, keys));
      const reviews = await new Reviews(dataDir, await believedReviews(context, keys)).list(candidate.digest);
      const { members } = (await loadConfig()).promotion;
      const tightened = await tightenedFor(dataDir, candidate);
      if (tightened !== undefined) say(pc.yellow(tightened.because));
      const promoted = await promote(dataDir, {
        candidate,
        repository: options.repo,
        by: options.as ?? userName(),
        reviews,
        members,
        ...(options.branch === undefined ? {} : { branch: options.branch }),
        ...(options.author === undefined ? {} : { author: authorOf(options.author) }),
        ...(tightened === undefined ? {} : { tightened }),
        ...(options.reverify === true ? { reverify: (at) => reverify(context, dataDir, candidate, at) } : {}),
      });
      if (options.push !== undefined) await pushTo(dataDir, promoted.id, options.push);
      if (options.json === true) printJson({ ...promoted, pushed: options.push ?? null });
      else for (const line of [...linesOf(promoted), ...pushedLines(options)]) print(line);
    });
}

async function pushTo(dataDir: DataDir, promotion: string, remote: string): Promise<void> {
  const { promotion: configured, credentials } = await loadConfig();
  const found = configured.remotes.find(({ url }) => remote.startsWith(url));
  const credential = async (): Promise<{ user: string; secret: string } | undefined> => {
    if (found === undefined) return undefined;
    const { user = 'x-access-token', source } = found;
    const secret = await findSource(`of ${found.url}`, source, { commands: credentials.commands })();
    return { user, secret: secret.reveal() };
  };
  await push(dataDir, { promotion, remote, credential });
}

function pushedLines({ push: remote }: Options): readonly string[] {
  return remote === undefined ? [] : [`${pc.green('pushed')} to ${printable(remote)}`];
}

/** By the gates of the run's policy, in sandboxes of this machine, which has to have the run. */
async function reverify(
  context: CliContext,
  dataDir: DataDir,
  { manifest }: Candidate,
  { commit, objects }: Parameters<NonNullable<PromoteRequest['reverify']>>[0],
): Promise<Verification> {
  const { run } = manifest;
  say(pc.dim(`verifying run ${run} on ${commit}, where other files have moved on …`));
  const [engine, reach] = await Promise.all([context.connect(), context.reach()]);
  const runner = await Runner.create(engine, dataDir, reach);
  try {
    const onto: OtherBase = ({ policy }, blobs) =>
      baseAt(objects, commit, policy.policy.files, manifest.base.below, blobs);
    return await verifyOnto({ runner, dataDir }, run, onto);
  } finally {
    await runner.close();
  }
}

/** What the record of its lane asks besides. */
async function tightenedFor(dataDir: DataDir, { policy }: Candidate): Promise<Tightened | undefined> {
  const windows = (policy.promotion ?? []).flatMap(({ tightenWhen }) =>
    tightenWhen === undefined ? [] : [tightenWhen.window ?? windowStandard],
  );
  if (windows.length === 0) return undefined;
  const promotions = await new Ledger(dataDir).list();
  return tightenedBy(policy, await laneRecords(dataDir, promotions, policy.lane, Math.max(...windows)));
}

function authorOf(text: string): { readonly name: string; readonly email: string } {
  const [, name, email] = /^([^<>\p{Cc}]{1,200}?) <([^<>\s\p{Cc}]{1,200})>$/u.exec(text.trim()) ?? [];
  if (name !== undefined && email !== undefined) return { name, email };
  throw new RunnerError('invalid_request', `--author wants "Name <name@example.org>", not ${JSON.stringify(text)}`);
}

function linesOf({ id, commit, branch, repository, parent, demand, again }: Promoted): readonly string[] {
  const done = again ? 'was promoted before' : 'promoted';
  return [
    `${pc.green(done)}: commit ${pc.bold(commit.slice(0, 12))} on branch ${pc.bold(printable(branch))} of ${printable(repository)}`,
    pc.dim(`  on ${parent}; it ${demandText(demand)} (${demand.because.join('; ')})`),
    pc.dim(
      `next: git -C ${printable(repository)} show ${printable(branch)}   glovebox rollback ${id.slice(0, 8)} --reason "…"`,
    ),
  ];
}
