import type { RunDir } from '../data-dir/data-dir.ts';
import type { Digest } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import type { EntryData } from '../journal/entry.ts';
import { readEntries } from '../journal/read.ts';
import { findContext } from './context-files.ts';
import type { ContextSnapshot } from './context-snapshot.ts';
import { ContextStory, type Attached, type Part, type Worker } from './context-story.ts';

interface NamedWorker {
  readonly lane: string | null;
  readonly model: string | null;
}

/** What one worker has done in a run. */
interface ReportedPart extends NamedWorker {
  /** Who worked before: in this run, or in that it is a fork of. */
  readonly from: (NamedWorker & { readonly run: string }) | null;
  readonly calls: number;
  readonly denied: number;
  readonly firstCall: string | null;
  readonly lastCall: string | null;
  readonly snapshots: number;
}

type Said = EntryData<'context.attached'>;

/** A context snapshot without its text. */
interface ReportedSnapshot extends NamedWorker {
  readonly number: number;
  readonly digest: Digest;
  readonly version: number;
  readonly at: Said['at'];
  readonly time: string;
  /** Its beginning, printable. */
  readonly summary: string;
  readonly sources: number;
  readonly diffs: number;
  readonly tokens: NonNullable<Said['tokens']> | null;
  readonly cost: NonNullable<Said['cost']> | null;
  readonly by: string | null;
}

/** The belief behind a call, or the newest one. */
interface InForce {
  readonly number: number;
  readonly digest: Digest;
  readonly time: string;
  /** Null: it is no longer kept. */
  readonly snapshot: ContextSnapshot | null;
}

/** Who worked in a run, on what, and what they believed. */
export interface ContextReport {
  readonly run: string;
  readonly parts: readonly ReportedPart[];
  /** What it began with of another run, or went back to. */
  readonly applied: readonly { readonly run: string; readonly digest: Digest; readonly changes: number }[];
  readonly snapshots: readonly ReportedSnapshot[];
  /** The call that was asked about; null: none was, and what follows is so now. */
  readonly call: string | null;
  readonly worker: NamedWorker;
  readonly inForce: InForce | null;
}

/**
 * Of a run that is open or closed, from its journal; with `callId`, as it stood when that call was let in, or last refused. Throws
 * `call_not_found`, and what a journal that was changed throws.
 */
export async function readContexts(dir: RunDir, callId?: string): Promise<ContextReport> {
  const story = new ContextStory();
  let then: Then | undefined;
  for await (const entry of readEntries(dir.journal)) {
    story.push(entry);
    const isIt = callId !== undefined && 'callId' in entry.data && entry.data.callId === callId;
    if (!isIt || then?.letIn === true) continue;
    if (entry.type === 'call.intended' || entry.type === 'call.denied')
      then = { letIn: entry.type === 'call.intended', worker: story.worker, inForce: story.inForce };
  }
  if (callId !== undefined && then === undefined)
    throw new RunnerError('call_not_found', `run ${dir.id} has no call ${callId}; glovebox log ${dir.id} lists them`);
  const { worker, inForce } = then ?? story;
  return {
    run: dir.id,
    parts: story.parts.map(partOf),
    applied: story.applied.map(({ run, digest, changes }) => ({ run, digest, changes })),
    snapshots: story.attached.map(snapshotOf),
    call: callId ?? null,
    worker: named(worker),
    inForce: inForce === undefined ? null : await whole(dir, inForce),
  };
}

interface Then extends Pick<ContextStory, 'worker' | 'inForce'> {
  readonly letIn: boolean;
}

async function whole(dir: RunDir, { time, said: { number, digest } }: Attached): Promise<InForce> {
  return { number, digest, time, snapshot: (await findContext(dir, digest)) ?? null };
}

function partOf({ worker, from, calls, denied, firstCall, lastCall, snapshots }: Part): ReportedPart {
  const before = from === undefined ? null : { run: from.run, ...named(from) };
  const made = { calls, denied, firstCall: firstCall ?? null, lastCall: lastCall ?? null };
  return { ...named(worker), from: before, ...made, snapshots };
}

function snapshotOf({ time, said }: Attached): ReportedSnapshot {
  const { number, digest, version, at, summary, sources, diffs, tokens, cost, by } = said;
  const told = { tokens: tokens ?? null, cost: cost ?? null, by: by ?? null };
  return { number, digest, version, at, time, summary, sources, diffs, ...named(said), ...told };
}

function named({ lane, model }: Worker): NamedWorker {
  return { lane: lane ?? null, model: model ?? null };
}
