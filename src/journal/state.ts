import type { Digest } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import { firstPrev } from './chain.ts';
import { EgressStory } from './egress-story.ts';
import type { Draft, Entry } from './entry.ts';

/** Where the chain stands. */
export interface JournalState {
  readonly seq: number;
  readonly head: Digest;
  readonly mono: number;
  readonly calls: number;
  readonly denied: number;
  /** Context snapshots. */
  readonly contexts: number;
  readonly closed: boolean;
  /** Intents without an outcome, and all calls that ever had one. */
  readonly open: Set<string>;
  readonly used: Set<string>;
  readonly egress: EgressStory;
}

export function freshState(): JournalState {
  const none = { calls: 0, denied: 0, contexts: 0, closed: false, open: new Set<string>(), used: new Set<string>() };
  const egress = new EgressStory();
  return { seq: 0, head: firstPrev, mono: 0, ...none, egress };
}

export function nextState(state: JournalState, entry: Entry): JournalState {
  const { type } = entry;
  if (type === 'call.intended') {
    state.open.add(entry.data.callId);
    state.used.add(entry.data.callId);
  }
  if (type === 'call.ended') state.open.delete(entry.data.callId);
  if (type === 'egress.decided' || type === 'egress.ended') state.egress.push(entry);
  const { open, used, egress } = state;
  return {
    open,
    used,
    egress,
    seq: entry.seq,
    head: entry.hash,
    mono: entry.mono,
    calls: state.calls + (type === 'call.intended' ? 1 : 0),
    denied: state.denied + (type === 'call.denied' ? 1 : 0),
    contexts: state.contexts + (type === 'context.attached' ? 1 : 0),
    closed: type === 'run.closed',
  };
}

/** The writer's side of what `story-check.ts` checks. */
export function refuseNonsense(draft: Draft, state: JournalState): void {
  if ((state.seq === 0) !== (draft.type === 'run.opened')) throw nonsense(draft, 'run.opened comes first, and once');
  if (state.closed) throw new RunnerError('run_not_open', 'the run is closed: nothing more can be recorded');
  switch (draft.type) {
    case 'call.intended':
      if (state.used.has(draft.data.callId)) {
        throw new RunnerError(
          'call_exists',
          `call ${draft.data.callId} was made before in this run; give it another id`,
        );
      }
      return;
    case 'call.ended':
      if (!state.open.has(draft.data.callId)) throw nonsense(draft, `call ${draft.data.callId} has no open intent`);
      return;
    case 'call.denied':
      if (state.open.has(draft.data.callId)) throw nonsense(draft, `call ${draft.data.callId} is under way`);
      return;
    case 'egress.decided':
    case 'egress.ended': {
      const odd = state.egress.findOdd(draft);
      if (odd !== undefined) throw nonsense(draft, odd);
      return;
    }
    case 'context.attached':
      if (draft.data.number !== state.contexts + 1) throw nonsense(draft, `${state.contexts} came before it`);
      return;
    case 'run.closed': {
      const { open } = state.egress;
      if (open.length > 0) throw nonsense(draft, `egress has no end: ${open.slice(0, 10).join(', ')}`);
      if (state.open.size > 0)
        throw nonsense(draft, `calls have no outcome: ${[...state.open].slice(0, 10).join(', ')}`);
      if (draft.data.calls !== state.calls || draft.data.denied !== state.denied) {
        throw nonsense(
          draft,
          `it states ${draft.data.calls} calls, ${draft.data.denied} denied; there are ${state.calls}, ${state.denied}`,
        );
      }
      return;
    }
    default:
  }
}

function nonsense({ type }: Draft, what: string): RunnerError {
  return new RunnerError('internal', `the journal refuses ${type}: ${what}`);
}
