import { readFile } from 'node:fs/promises';
import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { canonicalJson, digestOf, type Digest } from '../digest.ts';
import { RunnerError, messageOf } from '../errors.ts';
import type { Entry, EntryData } from '../journal/entry.ts';
import { readEntries } from '../journal/read.ts';
import { findAnswers } from '../run/answers.ts';
import { findKeptArguments } from '../run/kept-arguments.ts';
import { parseTaken } from '../run/snapshot.ts';
import { findRunSnapshot, type RunSnapshot } from '../runner.ts';
import { findOutputs } from '../sandbox/find-output.ts';
import type { OutputLog } from '../sandbox/output-log.ts';
import { ToolCall } from '../tools/tool-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import type { Change } from '../workspace/change-set.ts';
import { digestOfChangeSet } from '../workspace/manifest.ts';
import type { NoiseContext } from './noise.ts';
import { planOf, type Plan } from './plan.ts';

/** A closed run as its directory has it: what it began with, was asked, answered and printed. */
export interface Recorded {
  readonly dir: RunDir;
  /** Where it ended, every part compared with its journal. */
  readonly ended: RunSnapshot;
  /** What lay over its base when it began. */
  readonly beganWith: Pick<RunSnapshot, 'changeSet' | 'digest'>;
  readonly entries: readonly Entry[];
  readonly plan: Plan;
  /** Hash of the last entry. */
  readonly head: Digest;
  readonly context: NoiseContext;
  /** What was asked, whole; undefined where it was not kept so. */
  call(argsDigest: Digest | undefined, shown?: unknown): Promise<ToolCall | undefined>;
  /** Undefined where it is not kept; `failed`: a failure of ours. */
  answer(callId: string): Promise<ToolResult | 'failed' | undefined>;
  output(callId: string): OutputLog | undefined;
}

/**
 * Throws what `findRunSnapshot` throws, `invalid_request` of a run that was made of another one, and `run_not_found` where what
 * it began with is no longer there.
 */
export async function findRecorded(dataDir: DataDir, idOrPrefix: string): Promise<Recorded> {
  const ended = await findRunSnapshot(dataDir, idOrPrefix);
  const dir = dataDir.runDir(ended.run);
  const entries: Entry[] = [];
  for await (const entry of readEntries(dir.journal)) entries.push(entry);
  refuseMade(entries);
  const [wholeOf, answerOf] = await Promise.all([findKeptArguments(dir.arguments), findAnswers(dir)]);
  const outputs = findOutputs(dir.callsDir);
  const last = entries.at(-1);
  if (last === undefined) throw new RunnerError('journal_broken', `the journal of run ${dir.id} is empty`);
  return {
    dir,
    ended,
    beganWith: await beganWith(dir, entries),
    entries,
    plan: planOf(entries),
    head: last.hash,
    context: contextOf(entries),
    call: async (argsDigest, shown) => {
      if (argsDigest === undefined) return undefined;
      const json = canonicalJson(shown ?? null);
      return callOf(digestOf(json) === argsDigest ? json : await wholeOf(argsDigest));
    },
    answer: (callId) => answerOf(callId).catch(() => 'failed' as const),
    output: (callId) => outputs.get(callId)?.(),
  };
}

/** When a run was open, and what only it is called. */
function contextOf(entries: readonly Entry[]): NoiseContext {
  const ats = entries.map(({ at }) => Date.parse(at));
  const names = new Set<string>();
  for (const entry of entries) {
    names.add(entry.run);
    if (entry.type !== 'sandbox.started') continue;
    const { sandbox, container } = entry.data;
    for (const name of [sandbox, container, container.slice(0, 12)]) names.add(name);
  }
  // The longer ones first: one may begin with another.
  return { openMs: [Math.min(...edges(ats)), Math.max(...edges(ats))], names: [...names].sort(byLength) };
}

function edges(ats: readonly number[]): readonly [number, number] {
  return [ats[0] ?? 0, ats.at(-1) ?? 0];
}

function byLength(a: string, b: string): number {
  return b.length - a.length;
}

/** What this version cannot read was not kept for it. */
function callOf(json: string | undefined): ToolCall | undefined {
  if (json === undefined) return undefined;
  const parsed = ToolCall.safeParse(JSON.parse(json));
  return parsed.success ? parsed.data : undefined;
}

async function beganWith(dir: RunDir, entries: readonly Entry[]): Promise<Recorded['beganWith']> {
  const laid = appliedFirst(entries);
  if (laid === undefined) {
    const changeSet = { changes: new Map<string, Change>() };
    return { changeSet, digest: digestOfChangeSet(changeSet) };
  }
  try {
    return parseTaken(await readFile(dir.beganWith, 'utf8'), laid.digest);
  } catch (cause) {
    const message = `run ${dir.id} cannot be replayed: it began with changes of run ${laid.run}, and ${dir.beganWith} does not have them (${messageOf(cause).slice(0, 200)}); replay a run that was not forked, or one that was forked since`;
    throw new RunnerError('run_not_found', message, { cause });
  }
}

/** What was laid over the base before anything was asked. */
function appliedFirst(entries: readonly Entry[]): EntryData<'snapshot.applied'> | undefined {
  for (const entry of entries) {
    if (entry.type === 'call.intended' || entry.type === 'call.denied') return undefined;
    if (entry.type === 'snapshot.applied' && entry.data.run !== entry.run) return entry.data;
  }
  return undefined;
}

function refuseMade(entries: readonly Entry[]): void {
  const [opened] = entries;
  if (opened?.type !== 'run.opened') return;
  const { verifies, replays } = opened.data;
  const of = verifies?.run ?? replays?.run;
  if (of === undefined) return;
  const what = verifies === undefined ? 'replay' : 'verify';
  throw new RunnerError('invalid_request', `run ${opened.run} was made to ${what} run ${of}; replay run ${of} instead`);
}
