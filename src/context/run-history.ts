import { readFile } from 'node:fs/promises';
import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import type { Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import type { Entry, EntryData } from '../journal/entry.ts';
import { readEntries } from '../journal/read.ts';
import { digestOfChangeSet, parseChangeSet, parseTree } from '../workspace/manifest.ts';
import { ContextStory, type Attached, type Worker } from './context-story.ts';
import type { KeptContents } from './kept-contents.ts';
import { baseStates, FileHistory, type Author, type FileStates, type Version } from './versions.ts';

/** A call as its journal has it, with what its agent believed then and what people said to it. */
export interface CallFacts {
  readonly intended: EntryData<'call.intended'>;
  /** RFC 3339. */
  readonly time: string;
  readonly worker: Worker;
  readonly belief: Attached | undefined;
  readonly approvals: readonly ApprovalFacts[];
}

export interface ApprovalFacts {
  readonly id: string;
  readonly category: string;
  readonly rule: string;
  readonly verdict: EntryData<'approval.decided'>['verdict'] | undefined;
  readonly by: readonly string[];
}

/** What the directory of a run tells of its files, open or closed. */
export interface RunHistory {
  readonly run: string;
  readonly files: FileHistory;
  readonly calls: ReadonlyMap<string, CallFacts>;
  readonly base: EntryData<'sandbox.started'>['workspace'] | undefined;
  /** Those that it was forked from, and theirs, as far as there are records of them; and itself. */
  readonly all: ReadonlyMap<string, RunHistory>;
}

/** Forks of forks of forks. */
const runsMax = 64;

interface Reading {
  readonly dataDir: DataDir;
  readonly contents: KeptContents;
  readonly known: Map<string, RunHistory>;
  /** Being read: two runs may each have gone back to a snapshot of the other. */
  readonly begun: Set<string>;
}

/** Reads the journal of a run, and of those whose snapshots were laid over it. Throws `not_found` where what it began with is gone. */
export function readRunHistory(dataDir: DataDir, dir: RunDir, contents: KeptContents): Promise<RunHistory> {
  return readRun({ dataDir, contents, known: new Map(), begun: new Set() }, dir);
}

async function readRun(reading: Reading, dir: RunDir): Promise<RunHistory> {
  const { contents, known, begun } = reading;
  begun.add(dir.id);
  const base = await baseOf(dir);
  await contents.addRun(dir);
  const states = new Map<string, FileStates>();
  const files = new FileHistory(
    dir.id,
    baseStates(base),
    (run, digest) => states.get(`${run} ${digest}`) ?? baseStates(base),
  );
  const calls = new CallStory();
  let workspace: EntryData<'sandbox.started'>['workspace'] | undefined;
  for await (const entry of readEntries(dir.journal)) {
    if (entry.type === 'sandbox.started') {
      workspace = entry.data.workspace;
      await contents.addBase(workspace.digest, base);
    }
    if (entry.type === 'snapshot.applied' && entry.data.run !== dir.id) {
      const { run, digest } = entry.data;
      states.set(`${run} ${digest}`, await statesOf(reading, { run, digest, dir, base }));
    }
    files.push(entry);
    calls.push(entry);
  }
  const history: RunHistory = { run: dir.id, files, calls: calls.calls, base: workspace, all: known };
  known.set(dir.id, history);
  return history;
}

interface Laid {
  readonly run: string;
  readonly digest: Digest;
  /** Of the run over whose files it was laid. */
  readonly dir: RunDir;
  readonly base: ReadonlyMap<string, Digest>;
}

/** Of the run that it was taken of; where there are no records of that, what the fork has kept of it, as written by that run. */
async function statesOf(reading: Reading, laid: Laid): Promise<FileStates> {
  const source = reading.known.get(laid.run) ?? (await sourceOf(reading, laid.run));
  return source?.files.taken(laid.digest) ?? (await beganWith(laid));
}

async function sourceOf(reading: Reading, run: string): Promise<RunHistory | undefined> {
  if (reading.begun.has(run) || reading.begun.size >= runsMax) return undefined;
  try {
    return await readRun(reading, reading.dataDir.runDir(run));
  } catch {
    return undefined; // retention has taken it, or it is not what was written
  }
}

async function beganWith({ run, digest, dir, base }: Laid): Promise<FileStates> {
  const below = baseStates(base);
  const author: Author = { kind: 'run', run };
  const unknown = (of: Digest | undefined): Version => ({ digest: of, author, before: undefined });
  const text = await readFile(dir.beganWith, 'utf8').catch(() => undefined);
  const changeSet = text === undefined ? undefined : parseChangeSet(text);
  if (changeSet === undefined || digestOfChangeSet(changeSet) !== digest) {
    // Nobody knows which files it had changed.
    const at = (path: string) => (base.has(path) ? unknown(undefined) : undefined);
    return { at, paths: () => base.keys(), find: () => undefined };
  }
  const { changes } = changeSet;
  const at = (path: string): Version | undefined => {
    const change = changes.get(path);
    if (change === undefined) return below.at(path);
    return change.kind === 'file' ? { ...unknown(change.digest), before: below.at(path) } : undefined;
  };
  const made = [...changes].flatMap(([path, { kind }]) => (kind === 'file' ? [path] : []));
  const paths = () => new Set([...[...base.keys()].filter((path) => at(path) !== undefined), ...made]);
  return { at, paths, find: (digest) => below.find(digest) };
}

async function baseOf(dir: RunDir): Promise<ReadonlyMap<string, Digest>> {
  const text = await readFile(dir.base, 'utf8').catch((cause: unknown) => {
    const message = `what run ${dir.id} began with is not there (any more), so that nobody can tell who wrote what: ${messageOf(cause)}`;
    throw new RunnerError('not_found', message, { cause });
  });
  const files = new Map<string, Digest>();
  for (const [path, node] of parseTree(text)) if (node.kind === 'file') files.set(path, node.digest);
  return files;
}

/** The calls of a run, each with what held when it was let in. */
class CallStory {
  readonly calls = new Map<string, CallFacts>();
  readonly #context = new ContextStory();
  readonly #approvals = new Map<string, { -readonly [Key in keyof ApprovalFacts]: ApprovalFacts[Key] }>();
  readonly #askedFor = new Map<string, ApprovalFacts[]>();

  push(entry: Entry): void {
    this.#context.push(entry);
    if (entry.type === 'call.intended') {
      const { callId } = entry.data;
      const { inForce: belief, worker } = this.#context;
      const approvals = this.#askedFor.get(callId) ?? [];
      this.calls.set(callId, { intended: entry.data, time: entry.at, worker, belief, approvals });
    } else if (entry.type === 'approval.requested') {
      const { id, category, rule, callId } = entry.data;
      const asked = { id, category, rule, verdict: undefined, by: [] };
      this.#approvals.set(id, asked);
      if (callId !== undefined) this.#askedFor.set(callId, [...(this.#askedFor.get(callId) ?? []), asked]);
    } else if (entry.type === 'approval.decided') {
      const asked = this.#approvals.get(entry.data.id);
      if (asked !== undefined) Object.assign(asked, { verdict: entry.data.verdict, by: entry.data.by });
    }
  }
}
