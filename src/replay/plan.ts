import type { Digest } from '../digest.ts';
import type { Entry, EntryData } from '../journal/entry.ts';
import type { LeftOut } from './replay-record.ts';

/** One thing that a run did or was asked, in the order of its journal. `atMs`: on the run's own clock. */
export type Step =
  | { readonly kind: 'call'; readonly callId: string; readonly atMs: number; readonly asked: AskedCall }
  | {
      readonly kind: 'denied';
      readonly callId: string;
      readonly atMs: number;
      readonly denied: EntryData<'call.denied'>;
    }
  | { readonly kind: 'ended'; readonly callId: string; readonly atMs: number; readonly end: EntryData<'call.ended'> }
  | { readonly kind: 'snapshot'; readonly atMs: number; readonly digest: Digest; readonly scratch: boolean }
  | { readonly kind: 'restore'; readonly atMs: number; readonly digest: Digest }
  | { readonly kind: 'context'; readonly atMs: number; readonly digest: Digest; readonly by?: string | undefined }
  | { readonly kind: 'narrow'; readonly atMs: number; readonly without: readonly string[] }
  | { readonly kind: 'revoke'; readonly atMs: number; readonly credential: string };

export type AskedCall = Pick<EntryData<'call.intended'>, 'tool' | 'arguments' | 'argsDigest'>;

/** What of a journal is to be done again. */
export interface Plan {
  readonly steps: readonly Step[];
  /** What cannot be, as the journal alone tells. */
  readonly leftOut: readonly LeftOut[];
  /** Calls and denials. */
  readonly total: number;
  /** Commands that a call sent a signal. */
  readonly signalled: ReadonlySet<string>;
  /** That ran while another one did. */
  readonly beside: ReadonlySet<string>;
  /** That something outside was reached for, and was let through. */
  readonly reached: ReadonlyMap<string, string>;
  /** Nothing came after this that could be done again. */
  readonly stopsEarly: boolean;
}

/** What the journal of a closed run has to be done again; pure. Entries that come of it by themselves are left to do so. */
export function planOf(entries: readonly Entry[]): Plan {
  const restored = restoredIn(entries);
  const steps: Step[] = [];
  const leftOut: LeftOut[] = [];
  const [open, beside, gone] = [new Set<string>(), new Set<string>(), new Set<string>()];
  const signalled = new Set<string>();
  const reached = new Map<string, string>();
  let [total, stopsEarly, hasCalls] = [0, false, false];
  const leave = (why: string, callId?: string): void =>
    void leftOut.push({ why, ...(callId === undefined ? {} : { callId }) });

  for (const entry of stoppable(entries, () => stopsEarly)) {
    const atMs = entry.mono;
    switch (entry.type) {
      case 'call.intended': {
        const { callId, tool, arguments: shown, argsDigest } = entry.data;
        total += 1;
        hasCalls = true;
        for (const other of open) beside.add(other).add(callId);
        open.add(callId);
        if (tool === 'exec_signal' && typeof shown['callId'] === 'string') signalled.add(shown['callId']);
        const why = whyNot(entry.data, gone);
        if (why === undefined) {
          steps.push({ kind: 'call', callId, atMs, asked: { tool, arguments: shown, argsDigest } });
          break;
        }
        gone.add(callId);
        leave(why, callId);
        break;
      }
      case 'call.ended': {
        const { callId, outcome } = entry.data;
        open.delete(callId);
        if (gone.has(callId)) break;
        if (outcome.kind === 'unknown' || outcome.kind === 'sandbox_lost')
          leave('nobody knows how it ended: the runner died meanwhile', callId);
        else steps.push({ kind: 'ended', callId, atMs, end: entry.data });
        break;
      }
      case 'call.denied': {
        const { callId, rule } = entry.data;
        total += 1;
        hasCalls = true;
        if (isOfTheMoment(rule))
          leave(
            `it was denied for the time that it came at, or what had been used by then (${rule}): not asked again`,
            callId,
          );
        else steps.push({ kind: 'denied', callId, atMs, denied: entry.data });
        break;
      }
      case 'snapshot.taken':
        if (restored.has(entry.data.digest))
          steps.push({ kind: 'snapshot', atMs, digest: entry.data.digest, scratch: entry.data.scratch });
        break;
      case 'snapshot.applied':
        if (entry.data.run === entry.run) steps.push({ kind: 'restore', atMs, digest: entry.data.digest });
        else if (hasCalls) {
          stopsEarly = true;
          leave(`the run was put back to a snapshot of run ${entry.data.run}: nothing after it was made again`);
        }
        break;
      case 'egress.decided':
        if (entry.data.decision !== 'denied' && entry.data.callId !== undefined)
          reached.set(entry.data.callId, entry.data.host);
        break;
      case 'egress.narrowed':
        steps.push({ kind: 'narrow', atMs, without: entry.data.without });
        break;
      case 'context.attached':
        steps.push({ kind: 'context', atMs, digest: entry.data.digest, by: entry.data.by });
        break;
      case 'credential.revoked':
        steps.push({ kind: 'revoke', atMs, credential: entry.data.credential });
        break;
      case 'participant.joined':
        if (entry.data.how === 'connected')
          leave('somebody was connected to a port inside: what came by it is not on record');
        break;
      default:
        break;
    }
  }
  return { steps, leftOut, total, signalled, beside, reached, stopsEarly };
}

function* stoppable(entries: readonly Entry[], stopped: () => boolean): Generator<Entry> {
  for (const entry of entries) {
    if (stopped()) return;
    yield entry;
  }
}

/** Snapshots of its own that a run went back to. */
function restoredIn(entries: readonly Entry[]): ReadonlySet<Digest> {
  return new Set(
    entries.flatMap((entry) =>
      entry.type === 'snapshot.applied' && entry.data.run === entry.run ? [entry.data.digest] : [],
    ),
  );
}

/** A terminal shows what the moment makes of it, and was typed at by hand. */
function whyNot({ tool, arguments: shown }: AskedCall, gone: ReadonlySet<string>): string | undefined {
  if (tool === 'exec' && shown['tty'] !== undefined) return 'a terminal session: not replayed';
  const target = shown['callId'];
  if (typeof target === 'string' && gone.has(target)) return `it is about call ${target}, which is not replayed`;
  return undefined;
}

/** A replay is faster or slower than the run was. */
function isOfTheMoment(rule: string): boolean {
  return (
    rule.startsWith('gate.') ||
    [
      'limits.wall_clock',
      'budget.max_actions_per_minute',
      'budget.max_parallel_actions',
      'budget.cpu_seconds',
    ].includes(rule)
  );
}
