import { access, open, type FileHandle } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { RunnerError } from '../errors.ts';
import { checkJournal, type Check } from './check.ts';
import { EgressStory } from './egress-story.ts';
import { readEntries } from './read.ts';
import type { JournalState } from './state.ts';

export interface Recovery {
  /** Bytes of a half-written last line, moved to `tornFile` beside the journal. */
  readonly tornBytes: number;
  readonly tornFile?: string;
  /** Calls that had no outcome; `Journal.reopen` gives them one: `sandbox_lost`. */
  readonly closedCalls: readonly string[];
  /** Connections and requests that had no end; they have one now: `cut`. */
  readonly closedEgress: readonly number[];
}

/**
 * Checks the journal of a dead writer and puts it at its last whole line, ready for more. The caller holds the lock.
 * A broken chain is never written to: it is evidence.
 */
export async function takeUp(
  path: string,
  now: Now,
): Promise<{ run: string; file: FileHandle; state: JournalState; recovery: Recovery }> {
  await access(path).catch((cause: Error) => {
    throw new RunnerError('journal_broken', `there is no journal ${path}: its run never began; remove it`, { cause });
  });
  const check = await checkJournal(path);
  const run = refuseUnfit(path, check);
  const state = await stateOf(path, check, now);
  const torn = check.tornBytes > 0 ? { tornFile: await cutTornLine(path, check).catch(cannotCut(path)) } : {};
  const recovery = {
    tornBytes: check.tornBytes,
    ...torn,
    closedCalls: check.openCalls,
    closedEgress: check.openEgress,
  };
  return { run, file: await open(path, 'a', 0o600), state, recovery };
}

export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function refuseUnfit(path: string, check: Check): string {
  const bad = check.findings.find((finding) => finding.kind !== 'torn');
  if (bad?.kind === 'empty' || (check.run === undefined && bad === undefined)) {
    throw new RunnerError('journal_broken', `${path} holds no whole entry: its run never began; remove it`);
  }
  if (bad !== undefined || check.run === undefined) {
    const what = bad === undefined ? '' : ` line ${bad.line} is ${bad.kind}: ${bad.message};`;
    throw new RunnerError('journal_broken', `${path} is not what was written:${what} run "glovebox check" on it`);
  }
  if (check.closed) throw new RunnerError('run_not_open', `the run of ${path} is closed`);
  return check.run;
}

function cannotCut(path: string): (cause: Error) => never {
  return (cause) => {
    const message = `cannot take up the journal ${path}: ${cause.message}; make room on its disk and try again`;
    throw new RunnerError('journal_unavailable', message, { cause });
  };
}

/** The copy is on the disk before the original is cut. */
async function cutTornLine(path: string, check: Check): Promise<string> {
  const tornPath = `${path}.${check.entries + 1}.torn`;
  const journal = await open(path, 'r+');
  const side = await open(tornPath, 'w', 0o600);
  try {
    const chunk = Buffer.alloc(65_536);
    for (let at = check.wholeBytes; at < check.wholeBytes + check.tornBytes;) {
      const { bytesRead } = await journal.read(chunk, 0, chunk.length, at);
      if (bytesRead === 0) break;
      await side.write(chunk, 0, bytesRead);
      at += bytesRead;
    }
    await side.sync();
    await syncDirectory(dirname(path));
    await journal.truncate(check.wholeBytes);
    await journal.sync();
  } finally {
    await side.close();
    await journal.close();
  }
  return basename(tornPath);
}

interface Now {
  readonly nowMs: number;
  /** Of the run, where somebody has counted on. */
  readonly runMs?: number;
}

async function stateOf(path: string, check: Check, { nowMs, runMs }: Now): Promise<JournalState> {
  const used = new Set<string>();
  const egress = new EgressStory();
  let contexts = 0;
  for await (const entry of readEntries(path)) {
    if (entry.type === 'call.intended') used.add(entry.data.callId);
    if (entry.type === 'context.attached') contexts = entry.data.number;
    if (entry.type === 'egress.decided' || entry.type === 'egress.ended') egress.push(entry);
  }
  const { entries: seq, head, calls, denied } = check;
  if (head === undefined) throw new RunnerError('internal', `no head in ${path} after its check`);
  // Where nobody has counted on, the wall clock bridges the gap, and never backwards.
  const gapMs = Math.max(0, nowMs - (check.lastAt === undefined ? nowMs : Date.parse(check.lastAt)));
  return {
    seq,
    head,
    mono: Math.max(check.lastMono, runMs ?? check.lastMono + gapMs),
    calls,
    denied,
    contexts,
    closed: false,
    open: new Set(check.openCalls),
    used,
    egress,
  };
}
