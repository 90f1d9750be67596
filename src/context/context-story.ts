import type { Entry, EntryData } from '../journal/entry.ts';

/** Who works: as the policy and the intent say at first, and as context snapshots say then. Of neither anything is proven. */
export interface Worker {
  readonly lane?: string | undefined;
  readonly model?: string | undefined;
}

/** A context snapshot as its journal has it. */
export interface Attached {
  readonly seq: number;
  /** RFC 3339. */
  readonly time: string;
  readonly said: EntryData<'context.attached'>;
}

/** What one worker has done in a run, from one hand-over to the next. */
export interface Part {
  readonly worker: Worker;
  /** Who worked before; of the first part only where the run is a fork of another worker's. */
  readonly from: EntryData<'lane.handed_over'>['from'] | undefined;
  readonly calls: number;
  readonly firstCall: string | undefined;
  readonly lastCall: string | undefined;
  readonly denied: number;
  readonly snapshots: number;
}

/** What a fork begins with, or what a run went back to. */
export type Applied = EntryData<'snapshot.applied'>;

/**
 * What the journal of a run says of who worked in it and what they believed, entry by entry: `inForce` and `worker` are those of the
 * call whose intent was pushed last. Memory: a few hundred bytes for each snapshot and each part.
 */
export class ContextStory {
  readonly attached: Attached[] = [];
  /** In the order in which they were laid over the workspace. */
  readonly applied: Applied[] = [];
  /** Calls that were let in since the last snapshot, or since the run was opened. */
  callsSince = 0;
  /** Of all snapshots together, as they lie on disk. */
  bytes = 0;
  readonly #parts: Draft[] = [];

  get worker(): Worker {
    return this.#parts.at(-1)?.worker ?? {};
  }

  get inForce(): Attached | undefined {
    return this.attached.at(-1);
  }

  get parts(): readonly Part[] {
    return this.#parts;
  }

  push(entry: Entry): void {
    switch (entry.type) {
      case 'run.opened':
        this.#parts.push({ ...nothing, worker: openedBy(entry.data), from: undefined });
        return;
      case 'lane.handed_over':
        return this.#handedOver(entry.run, entry.data);
      case 'context.attached':
        return this.#attach({ seq: entry.seq, time: entry.at, said: entry.data });
      case 'snapshot.applied':
        this.applied.push(entry.data);
        return;
      case 'call.intended':
        this.callsSince += 1;
        return this.#change((part) => {
          part.calls += 1;
          part.firstCall ??= entry.data.callId;
          part.lastCall = entry.data.callId;
        });
      case 'call.denied':
        return this.#change((part) => (part.denied += 1));
      default:
    }
  }

  /** Of a fork it says whence its first part came; within a run the next part begins. */
  #handedOver(run: string, { from, to }: EntryData<'lane.handed_over'>): void {
    if (from.run !== run) return this.#change((part) => Object.assign(part, { from, worker: to }));
    this.#parts.push({ ...nothing, worker: to, from });
  }

  #attach(attached: Attached): void {
    const { said } = attached;
    this.attached.push(attached);
    this.callsSince = 0;
    this.bytes += said.bytes;
    this.#change((part) => {
      part.snapshots += 1;
      part.worker = workerAfter(part.worker, said); // who was not named before is now
    });
  }

  #change(change: (part: Draft) => unknown): void {
    const part = this.#parts.at(-1);
    if (part !== undefined) change(part);
  }
}

type Draft = { -readonly [Key in keyof Part]: Part[Key] };

const nothing = { calls: 0, firstCall: undefined, lastCall: undefined, denied: 0, snapshots: 0 };

/** Who works after this was said: what it leaves out stays. */
export function workerAfter(before: Worker, { lane, model }: Worker): Worker {
  return workerOf(lane ?? before.lane, model ?? before.model);
}

/** Whether it is somebody else, of what both name. */
export function isHandOver(before: Worker, after: Worker): boolean {
  const differs = (a: string | undefined, b: string | undefined) => a !== undefined && b !== undefined && a !== b;
  return differs(before.lane, after.lane) || differs(before.model, after.model);
}

function workerOf(lane: string | undefined, model: string | undefined): Worker {
  return { ...(lane === undefined ? {} : { lane }), ...(model === undefined ? {} : { model }) };
}

/** As the policy and the intent say. */
function openedBy({ policy, request }: EntryData<'run.opened'>): Worker {
  const [lane, model] = [policy.effective['lane'], request?.['model']];
  return workerOf(typeof lane === 'string' ? lane : undefined, typeof model === 'string' ? model : undefined);
}
