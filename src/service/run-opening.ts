import type { ForkRun, OpenRun as OpenAsked } from '../contract/run-view.ts';
import { canonicalJson, digestOf } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import type { ForkRequest, OpenRequest, RunSnapshot } from '../runner.ts';
import { forkPolicy } from '../run/fork-policy.ts';
import type { RunRow } from '../store/runs.ts';
import type { Store } from '../store/store.ts';
import type { Access } from './access.ts';
import type { DiskRoom } from './disk-room.ts';
import type { LiveRuns } from './live-runs.ts';
import type { OpenRun } from './open-run.ts';
import { refuseHostNames, type HostTerms } from './own-policy.ts';
import type { PolicySource } from './policy-source.ts';
import type { Principal } from './principal.ts';
import { costOf, type Quotas } from './quota.ts';
import type { OpenedRun } from './run-views.ts';
import type { WorkspaceSource } from './workspace-source.ts';

/** What a service needs of a runner. */
export interface RunnerPort {
  open(request: OpenRequest): Promise<OpenedRun>;
  fork(source: RunSnapshot, request: ForkRequest): Promise<readonly OpenedRun[]>;
  /** Of one that could not be closed: what may be left of its sandbox goes. Twice is fine. */
  closeLost(id: string, reason: string): Promise<void>;
}

export interface OpenOptions {
  /** The same request with the same key opens one run. */
  readonly idempotencyKey?: string | undefined;
  /** Gives up opening. */
  readonly signal?: AbortSignal | undefined;
}

export interface RunOpeningParts {
  readonly runner: RunnerPort;
  readonly store: Store;
  readonly access: Access;
  readonly quotas: Quotas;
  readonly live: LiveRuns;
  readonly room: DiskRoom;
  readonly policies: PolicySource;
  readonly host: HostTerms;
  readonly workspaces: WorkspaceSource;
  /** Open and opening together; of one team half of it, where others have keys. */
  readonly runsMax: number;
}

const ownText = 'text:';

/** Opens runs: allowed first, then counted, then in the store, then in the sandbox; a failure takes all of it back. */
export class RunOpening {
  readonly #parts: RunOpeningParts;
  readonly #opening = new Map<string, Promise<OpenRun>>();
  /** Being made. */
  #forking = 0;
  /** Of work that takes what a run takes, and is none. */
  #held = 0;
  #over = false;

  constructor(parts: RunOpeningParts) {
    this.#parts = parts;
  }

  get size(): number {
    return this.#opening.size;
  }

  async open(principal: Principal, asked: OpenAsked, { idempotencyKey, signal }: OpenOptions): Promise<RunRow> {
    const { access, host, policies, room, runner, store, workspaces } = this.#parts;
    access.mayOpen(principal, 'text' in asked.policy ? 'text' : asked.policy);
    const { given, repository } = await workspaces.find(principal, asked);
    const { taskClass, intent, name, image } = asked;
    const task = { taskClass, intent: typeof intent === 'string' ? { summary: intent } : intent };
    const policy = await policies.load(asked.policy, repository, task);
    if ('text' in asked.policy) await refuseHostNames(principal, policy, host);
    await room.refuse('no run is opened');
    this.#refuseMore(principal.team, 1);
    const called = 'text' in asked.policy ? `${ownText}${policy.policy.name}` : asked.policy.name;
    const row = newRow(principal, policy, called, name);
    if (idempotencyKey === undefined) store.runs.insert(row);
    else {
      const { team, identity } = principal;
      const digest = digestOf(canonicalJson(asked));
      const { kind, runId } = store.requests.begin({ team, identity, key: idempotencyKey, digest }, row);
      if (kind === 'known') return this.#known(principal, runId);
    }
    const opening = this.#begin(principal, row, policy, () =>
      runner.open({
        id: row.id,
        policy,
        by: requester(principal, name),
        ...(image === undefined ? {} : { image }),
        ...given,
        ...(signal === undefined ? {} : { signal }),
      }),
    );
    return (await this.#track(row.id, opening)).row;
  }

  /** As many as asked for, or none. */
  async fork(
    principal: Principal,
    source: OpenRun,
    { count, intent, taskClass, snapshot }: ForkRun,
    signal?: AbortSignal,
  ): Promise<readonly RunRow[]> {
    const { access, host, quotas, room, runner } = this.#parts;
    const task = { taskClass, intent };
    const policy = forkPolicy(source.run, task);
    const called = source.row.policy;
    const isText = called.startsWith(ownText);
    access.mayOpen(principal, isText ? 'text' : { name: called });
    if (isText) await refuseHostNames(principal, policy, host); // of another class than the source's, maybe
    await room.refuse('no run is forked');
    this.#refuseMore(principal.team, count);
    this.#forking += count;
    const ids = Array.from({ length: count }, () => newId());
    try {
      for (const id of ids) quotas.open(principal, id, costOf(policy.policy));
      const taken = snapshot === undefined ? await source.run.snapshot() : await source.snapshots.get(snapshot);
      const before = this.#participantsOf(source); // those who came after the snapshot have no part in it
      const runs = await runner.fork(taken, {
        count,
        participants: before,
        by: requester(principal, undefined),
        ...task,
        ...(signal === undefined ? {} : { signal }),
      });
      return await this.#keepForks(before, runs, () => newRow(principal, policy, called, undefined));
    } finally {
      this.#forking -= count;
      for (const id of ids) quotas.close(id); // from `admit` on each counts under its own id
    }
  }

  /**
   * The place of one run under this policy, for work that makes sandboxes of its own: counted, and refused, as a run is. Until
   * what it returns is called; twice is fine.
   */
  async hold(principal: Principal, id: string, policy: LoadedPolicy['policy']): Promise<() => void> {
    const { quotas, room } = this.#parts;
    await room.refuse('nothing is verified');
    this.#refuseMore(principal.team, 1);
    quotas.open(principal, id, costOf(policy));
    this.#held += 1;
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#held -= 1;
      quotas.close(id);
    };
  }

  /** No more are opened; resolves when those that are being opened have come to their end. */
  async stop(): Promise<void> {
    this.#over = true;
    await Promise.allSettled(this.#opening.values());
  }

  #refuseMore(team: string, count: number): void {
    if (this.#over)
      throw new RunnerError('draining', 'the service is about to stop and opens no runs', { retryAfterMs: 5_000 });
    const { live, quotas, store, runsMax } = this.#parts;
    const refuse = (message: string): never => {
      throw new RunnerError('queue_full', `${message}; close one`, { retryAfterMs: 1_000 });
    };
    if (live.size + this.#opening.size + this.#forking + this.#held + count > runsMax)
      refuse(`${runsMax} runs are open, as many as this service takes`);
    const { openRuns } = quotas.usage({ team });
    if (openRuns + count > Math.ceil(runsMax / 2) && store.keys.hasOthers(team))
      refuse(`team ${team} has ${openRuns} of ${runsMax} runs open, and leaves half of them to other teams`);
  }

  /** What is in a fork others have made: they answer for it no more than for its source. */
  #participantsOf({ row }: OpenRun): readonly string[] {
    return [...new Set([row.identity, ...this.#parts.store.runs.callers(row.id)])];
  }

  async #keepForks(
    callers: readonly string[],
    runs: readonly OpenedRun[],
    rowFor: () => RunRow,
  ): Promise<readonly RunRow[]> {
    const { store, live } = this.#parts;
    try {
      return runs.map((run) => {
        const row = { ...rowFor(), id: run.id };
        store.runs.insert(row);
        for (const caller of callers) store.runs.addCaller(row.id, caller);
        return live.admit(run, row).row;
      });
    } catch (error) {
      await giveUp(runs);
      throw error;
    }
  }

  async #begin(
    principal: Principal,
    row: RunRow,
    policy: LoadedPolicy,
    open: () => Promise<OpenedRun>,
  ): Promise<OpenRun> {
    const { quotas, store, live } = this.#parts;
    try {
      quotas.open(principal, row.id, costOf(policy.policy));
      const run = await open();
      try {
        return live.admit(run, row);
      } catch (error) {
        await giveUp([run]);
        throw error;
      }
    } catch (error) {
      quotas.close(row.id);
      store.requests.forget(row.id);
      throw error;
    }
  }

  async #track(id: string, opening: Promise<OpenRun>): Promise<OpenRun> {
    this.#opening.set(id, opening);
    try {
      return await opening;
    } finally {
      this.#opening.delete(id);
    }
  }

  /** Known by its request: open, or being opened. */
  async #known(principal: Principal, runId: string): Promise<RunRow> {
    await this.#opening.get(runId);
    return this.#parts.access.find(principal, runId);
  }
}

/** Runs that the store cannot take: nobody could find them again. */
async function giveUp(runs: readonly OpenedRun[]): Promise<void> {
  await Promise.allSettled(runs.map((run) => run.close('failed', 'it could not be put on record')));
}

function requester({ team, identity, keyId }: Principal, name: string | undefined): NonNullable<OpenRequest['by']> {
  return { team, identity, key: keyId, ...(name === undefined ? {} : { name }) };
}

function newRow(
  { team, identity, keyId }: Principal,
  { policy }: LoadedPolicy,
  called: string,
  name: string | undefined,
): RunRow {
  return {
    id: newId(),
    team,
    identity,
    keyId,
    name: name ?? null,
    state: 'opening',
    policy: called,
    lane: policy.lane,
    class: policy.taskClass,
    openedAt: new Date().toISOString(),
    closedAt: null,
    outcome: null,
    summary: null,
  };
}
