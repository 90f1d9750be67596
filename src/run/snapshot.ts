import { readFile } from 'node:fs/promises';
import { ContextStory, type Worker } from '../context/context-story.ts';
import type { DataDir } from '../data-dir/data-dir.ts';
import { RunnerError, messageOf } from '../errors.ts';
import type { EntryData } from '../journal/entry.ts';
import { checkJournal } from '../journal/check.ts';
import { readEntries } from '../journal/read.ts';
import { parsePolicyRecord } from '../policy/policy-record.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import type { Base } from '../workspace/base/import.ts';
import { checkoutIn } from '../workspace/base/git-listing.ts';
import { digestOfChangeSet, digestOfTree, encodeChangeSet, parseChangeSet, parseTree } from '../workspace/manifest.ts';
import { Scope } from '../workspace/scope/scope.ts';
import type { Snapshot, SnapshotOptions } from '../workspace/snapshot.ts';

/** All that a fork needs to start where a run stood: its policy and image, its base, and what is laid over it. */
export interface RunSnapshot extends Snapshot {
  readonly run: string;
  readonly policy: LoadedPolicy;
  readonly image: RunImage;
  /** Who has worked there last; absent: whom the policy and the intent name. */
  readonly worker?: Worker | undefined;
}

export interface RunSnapshotOptions extends Pick<SnapshotOptions, 'scratch'> {
  /** It is begun when this resolves; what refuses it now does so at once. */
  readonly after?: Promise<void>;
}

/** As it was asked for, and what ran. */
export type RunImage = EntryData<'run.opened'>['image'];

/**
 * Where a closed run ended, from its directory: the change set of its diff, without scratch. Every part must be what the
 * run's journal says, and the journal whole; else `journal_broken`.
 */
export async function findRunSnapshot(dataDir: DataDir, idOrPrefix: string): Promise<RunSnapshot> {
  const dir = await dataDir.findRun(idOrPrefix);
  const check = await checkJournal(dir.journal);
  if (check.verdict === 'broken')
    throw new RunnerError(
      'journal_broken',
      `what run ${dir.id} has made cannot be taken up: glovebox check ${dir.id} names what is wrong`,
    );
  const { opened, started, collected, worker } = await readStory(dir.journal);
  if (opened === undefined || started === undefined || collected === undefined || !check.closed)
    throw new RunnerError(
      'run_not_open',
      `what run ${dir.id} has made cannot be taken up: ${check.closed ? 'its sandbox was lost, so that there is no diff' : 'it is not closed'}; glovebox log ${dir.id} tells`,
    );
  const [baseText, changesText, policyText] = await Promise.all(
    [dir.base, dir.changeSet, dir.policy].map((file) => readWhole(file, dir.id)),
  );
  const tree = parseTree(baseText ?? '');
  const changeSet = parseChangeSet(changesText ?? '');
  const policy = parsePolicyRecord(policyText ?? '', `policy of run ${dir.id}`);
  const facts = [
    ['base.json', digestOfTree(tree), started.workspace.digest],
    ['change-set.json', digestOfChangeSet(changeSet), collected.digest],
    ['policy.json', policy.digest, opened.policy.digest],
  ] as const;
  for (const [name, found, recorded] of facts) {
    if (found !== recorded)
      throw new RunnerError(
        'journal_broken',
        `what run ${dir.id} has made cannot be taken up: its ${name} is not the one its journal names`,
      );
  }
  const base: Base = {
    tree,
    digest: started.workspace.digest,
    scopeDigest: Scope.compile(policy.policy.files).digest,
    kind: started.workspace.kind ?? 'plain',
    ...checkoutIn(started.workspace),
  };
  const { image } = opened;
  return { run: dir.id, policy, image, base, changeSet, digest: collected.digest, scratch: false, worker };
}

/** What of a snapshot its run does not say. */
export function encodeTaken({ changeSet }: Pick<RunSnapshot, 'changeSet'>): string {
  return encodeChangeSet(changeSet);
}

/** Throws for a text that is not the one which the digest names. */
export function parseTaken(text: string, digest: Snapshot['digest']): Pick<RunSnapshot, 'changeSet' | 'digest'> {
  const changeSet = parseChangeSet(text);
  const found = digestOfChangeSet(changeSet);
  if (found !== digest) throw new RunnerError('data_dir_unusable', `it is ${found}, and was taken as ${digest}`);
  return { changeSet, digest };
}

async function readStory(journal: string): Promise<{
  opened?: EntryData<'run.opened'>;
  started?: EntryData<'sandbox.started'>;
  collected?: EntryData<'workspace.collected'>;
  worker?: Worker;
}> {
  const story: Awaited<ReturnType<typeof readStory>> = {};
  const context = new ContextStory();
  for await (const entry of readEntries(journal)) {
    context.push(entry);
    if (entry.type === 'run.opened') story.opened = entry.data;
    if (entry.type === 'sandbox.started') story.started = entry.data;
    if (entry.type === 'workspace.collected') story.collected = entry.data;
  }
  return { ...story, worker: context.worker };
}

function readWhole(file: string, run: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause: unknown) => {
    throw new RunnerError(
      'run_not_found',
      `what run ${run} has made cannot be taken up: ${file}: ${messageOf(cause)}`,
      { cause },
    );
  });
}
