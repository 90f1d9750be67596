import type { DataDir } from '../data-dir/data-dir.ts';
import type { Digest } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import type { Entry } from '../journal/entry.ts';
import { readEntries } from '../journal/read.ts';
import { recompile, type LoadedPolicy } from '../policy/policy.ts';
import type { Run, Runner } from '../runner.ts';
import { parseChangeSet } from '../workspace/manifest.ts';
import { readFile } from 'node:fs/promises';
import { callComparer } from './call-comparer.ts';
import { compareChangeSets } from './change-sets.ts';
import { failureOf, hintsOf, notesOf } from './explained.ts';
import { Noise } from './noise.ts';
import { Player, type Diverged } from './player.ts';
import { findRecorded, type Recorded } from './recorded.ts';
import { recordedApprover } from './recorded-approver.ts';
import { writeReplay, type KeptReplay } from './replay-files.ts';
import { leftOutMax, shownLine, shownNotes, type LeftOut, type ReplayRecord } from './replay-record.ts';

export interface ReplayOptions {
  /** With the network of the run; else as its policy says (`replay.network`), which is without where it says nothing. */
  readonly network?: boolean;
  /** A call is made again: the how manieth, of how many. */
  readonly onCall?: (callId: string, tool: string, number: number, total: number) => void;
  /** Gives up: nothing is written, and its reason is thrown. */
  readonly signal?: AbortSignal;
}

/**
 * Makes the calls of a closed run again, in a fresh sandbox from the same base and image, under the same policy, and keeps what
 * came out otherwise. Nobody is asked: what people have approved is on record. What cannot be made again is told, and such a run
 * is not repeatable. Throws what keeps it from beginning or from coming to its end; then nothing is known of the run.
 */
export async function replayRun(
  parts: { readonly runner: Runner; readonly dataDir: DataDir },
  idOrPrefix: string,
  options: ReplayOptions = {},
): Promise<KeptReplay> {
  const recorded = await findRecorded(parts.dataDir, idOrPrefix);
  const { policy } = recorded.ended.policy;
  const network = options.network ?? policy.replay?.network ?? false;
  const noise = new Noise(policy.replay?.noise ?? []);
  const again = await makeAgain(parts.runner, recorded, { ...options, network, noise });
  options.signal?.throwIfAborted();
  return await writeReplay(recorded.dir, recordOf(recorded, again, { network, noise }));
}

interface Again {
  readonly run: Run;
  readonly entries: readonly Entry[];
  readonly head: Digest;
  readonly player: Player;
  readonly diverged: Diverged | undefined;
}

type Terms = Omit<ReplayOptions, 'network'> & { readonly network: boolean; readonly noise: Noise };

async function makeAgain(runner: Runner, recorded: Recorded, terms: Terms): Promise<Again> {
  const { signal, network, noise, onCall } = terms;
  const { plan } = recorded;
  const run = await open(runner, recorded, terms);
  const stop = (): void => void run.close('cancelled').catch(() => undefined);
  signal?.addEventListener('abort', stop, { once: true });
  const player: Player = new Player(run, {
    recorded,
    signal,
    hasNetwork: network,
    isPaced: run.policy.policy.budget.maxActionsPerMinute > 0,
    onCall: onCall && ((callId, tool, number) => onCall(callId, tool, number, plan.total)),
    compare: callComparer(recorded, run, { noise, onWeak: (callId, why) => player.noteLeft(why, callId) }),
  });
  let diverged: Diverged | undefined;
  try {
    diverged = await player.play();
    await run.close('finished', diverged === undefined ? 'replayed' : 'replayed as far as it is the same');
  } catch (error) {
    await run.close('cancelled').catch(() => undefined);
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
  const entries: Entry[] = [];
  for await (const entry of readEntries(run.dir.journal)) entries.push(entry);
  const head = entries.at(-1)?.hash;
  if (head === undefined) throw new RunnerError('journal_broken', `the journal of run ${run.id} is empty`);
  diverged ??= plan.stopsEarly ? undefined : await changesOf(recorded, run);
  return { run, entries, head, player, diverged };
}

async function open(runner: Runner, { ended, beganWith, entries }: Recorded, { network, signal }: Terms): Promise<Run> {
  const { worker: _, ...from } = ended; // its policy says for whom it was opened
  const source = { ...from, ...beganWith, policy: network ? ended.policy : withoutNetwork(ended.policy) };
  const [run] = await runner.fork(source, {
    replays: { run: ended.run },
    approver: recordedApprover(entries),
    ...(signal === undefined ? {} : { signal }),
  });
  if (run === undefined) throw new RunnerError('internal', `no sandbox was made to replay run ${ended.run}`);
  return run;
}

/** The same policy, where it lets nothing out anyway. */
function withoutNetwork(policy: LoadedPolicy): LoadedPolicy {
  const { rules, upstreams } = policy.policy.egress;
  if (rules.length === 0 && upstreams.length === 0) return policy;
  return recompile(policy, { ...policy.task, intent: { ...policy.task.intent, egress: [] } });
}

async function changesOf({ ended, dir }: Recorded, run: Run): Promise<Diverged | undefined> {
  if (run.candidate === undefined)
    throw new RunnerError(
      'sandbox_lost',
      `the sandbox of run ${run.id} was lost, so nobody knows what it changed; replay run ${dir.id} again`,
    );
  const now = parseChangeSet(await readFile(run.dir.changeSet, 'utf8'));
  const found = compareChangeSets(ended, now);
  return found === undefined ? undefined : { difference: found };
}

function recordOf(
  recorded: Recorded,
  { run, entries, head, player, diverged }: Again,
  { network, noise }: Pick<Terms, 'network' | 'noise'>,
): ReplayRecord {
  const { ended, plan } = recorded;
  const leftOut = [...plan.leftOut, ...player.leftOut];
  const verdict = diverged !== undefined ? 'diverged' : leftOut.length > 0 ? 'incomplete' : 'clean';
  const said = { recorded, now: entries, leftOut, network };
  return {
    v: 1,
    id: newId(),
    run: ended.run,
    at: new Date().toISOString(),
    journal: recorded.head,
    policy: ended.policy.digest,
    candidate: ended.digest,
    base: ended.base.digest,
    image: ended.image,
    replayed: { run: run.id, policy: run.policy.digest, journal: head },
    network,
    calls: { total: plan.total, ...player.counts },
    verdict,
    repeatable: verdict === 'clean',
    ...(diverged === undefined ? {} : { divergence: divergenceOf(diverged, hintsOf(diverged, said)) }),
    ...(verdict === 'clean' ? {} : { failure: failureOf(diverged, leftOut, said) }),
    leftOut: boundedLeftOut(leftOut),
    noise: {
      patterns: noise.patterns.map(shownLine),
      met: noise.met.map((met) => ({ ...met, by: shownLine(met.by) })),
    },
    notes: shownNotes(notesOf(said)),
  };
}

function divergenceOf({ callId, tool, difference }: Diverged, hints: readonly string[]): ReplayRecord['divergence'] {
  const { aspect, expected, found, diff } = difference;
  return {
    ...(callId === undefined ? {} : { callId }),
    ...(tool === undefined ? {} : { tool }),
    aspect,
    expected: shownLine(expected),
    found: shownLine(found),
    diff: diff.map(shownLine),
    hints: hints.map(shownLine),
  };
}

function boundedLeftOut(all: readonly LeftOut[]): readonly LeftOut[] {
  const shown = all.map(({ why, ...rest }) => ({ ...rest, why: shownLine(why) }));
  if (shown.length <= leftOutMax) return shown;
  return [...shown.slice(0, leftOutMax - 1), { why: `and ${shown.length - leftOutMax + 1} more` }];
}
