import { RunnerError } from '../errors.ts';
import type { Policy } from '../policy/policy.ts';
import type { Quota } from '../store/key-row.ts';
import type { Principal } from './principal.ts';
import { TokenBucket } from '../token-bucket.ts';

/** What a run takes of the quotas of its key and its team for as long as it is open. */
export interface RunCost {
  readonly cpuMillis: number;
  readonly diskBytes: number;
}

export function costOf({ limits }: Pick<Policy, 'limits'>): RunCost {
  return { cpuMillis: Math.ceil(limits.cpus * 1000), diskBytes: limits.workspaceBytes };
}

/** Whom a quota is counted for. */
export type Holder = Pick<Principal, 'keyId' | 'team'>;

export interface Usage {
  readonly openRuns: number;
  readonly cpuMillis: number;
  readonly diskBytes: number;
}

export interface QuotaOptions {
  /** What a team may have with all of its keys; undefined: nobody bounds it. */
  readonly teamQuota: (team: string) => Quota | undefined;
  /** Milliseconds that never go back; default `performance.now`. */
  readonly monotonicMs?: () => number;
}

/**
 * How much a key and its team may have at once, and in a minute. Promises:
 *  - what is refused takes nothing, of the key or of the team;
 *  - a run is counted until it is closed, once, also when it was opened before a restart (`adopt`);
 *  - of calls, no more than `burstOf` at once and `callsPerMinute` a minute after that; a refused one fits after `retryAfterMs`.
 */
export class Quotas {
  readonly #teamQuota: QuotaOptions['teamQuota'];
  readonly #monotonicMs: () => number;
  readonly #runs = new Map<string, Holder & RunCost>();
  readonly #usage = new Map<string, Usage>();
  readonly #buckets = new Map<string, TokenBucket>();

  constructor({ teamQuota, monotonicMs = () => performance.now() }: QuotaOptions) {
    this.#teamQuota = teamQuota;
    this.#monotonicMs = monotonicMs;
  }

  /**
   * Takes what the run needs, until `close`. Throws `rate_limited` while others hold it, `limit_exceeded` when it is more than
   * there ever is.
   */
  open(principal: Holder & Pick<Principal, 'quota'>, runId: string, cost: RunCost): void {
    for (const [who, quota, usage] of this.#bounds(principal)) refuseRun(who, quota, usage, cost);
    this.adopt(principal, runId, cost);
  }

  /** Of a run that is open already: whatever the quotas say now, it is counted. Twice is fine. */
  adopt({ keyId, team }: Holder, runId: string, cost: RunCost): void {
    if (this.#runs.has(runId)) return;
    const { cpuMillis, diskBytes } = cost;
    this.#runs.set(runId, { keyId, team, cpuMillis, diskBytes });
    this.#add({ keyId, team }, { openRuns: 1, cpuMillis, diskBytes });
  }

  /** Twice is fine. */
  close(runId: string): void {
    const run = this.#runs.get(runId);
    if (run === undefined) return;
    this.#runs.delete(runId);
    this.#add(run, { openRuns: -1, cpuMillis: -run.cpuMillis, diskBytes: -run.diskBytes });
  }

  /** Takes one call. Throws `rate_limited`, `limit_exceeded` for who may make none. */
  call(principal: Holder & Pick<Principal, 'quota'>): void {
    const now = this.#monotonicMs();
    const buckets = this.#bounds(principal).map(([who, { callsPerMinute }]) => {
      if (callsPerMinute === 0)
        throw new RunnerError('limit_exceeded', `${who} may make no calls: its quota is 0 a minute`);
      return { who, callsPerMinute, bucket: this.#bucket(who, callsPerMinute, now) };
    });
    for (const { who, callsPerMinute, bucket } of buckets) {
      const waitMs = bucket.waitMs(now);
      if (waitMs > 0)
        throw new RunnerError(
          'rate_limited',
          `${who} may make ${callsPerMinute} calls a minute; try again in ${waitMs} ms`,
          {
            retryAfterMs: waitMs,
          },
        );
    }
    for (const { bucket } of buckets) bucket.take(now);
  }

  usage(of: { readonly team: string } | { readonly keyId: string }): Usage {
    return this.#usage.get('team' in of ? teamName(of.team) : keyName(of.keyId)) ?? nothing;
  }

  #bounds({ keyId, team, quota }: Holder & Pick<Principal, 'quota'>): readonly (readonly [string, Quota, Usage])[] {
    const all = this.#teamQuota(team);
    const key = [keyName(keyId), quota, this.usage({ keyId })] as const;
    return all === undefined ? [key] : [key, [teamName(team), all, this.usage({ team })]];
  }

  #add({ keyId, team }: Holder, more: Usage): void {
    for (const who of [keyName(keyId), teamName(team)]) {
      const usage = this.#usage.get(who) ?? nothing;
      const openRuns = usage.openRuns + more.openRuns;
      if (openRuns === 0) this.#usage.delete(who);
      else
        this.#usage.set(who, {
          openRuns,
          cpuMillis: usage.cpuMillis + more.cpuMillis,
          diskBytes: usage.diskBytes + more.diskBytes,
        });
    }
  }

  /** A bucket that is full again is as good as none. */
  #bucket(who: string, perMinute: number, now: number): TokenBucket {
    const known = this.#buckets.get(who);
    if (known?.perMinute === perMinute) return known;
    if (this.#buckets.size >= bucketsMax)
      for (const [name, bucket] of this.#buckets) if (bucket.isFull(now)) this.#buckets.delete(name);
    const made = new TokenBucket(perMinute, burstOf(perMinute), now);
    this.#buckets.set(who, made);
    return made;
  }
}

/** Ten seconds' worth, and at least ten, where so many are allowed in a minute. */
export function burstOf(callsPerMinute: number): number {
  return Math.min(callsPerMinute, Math.max(10, Math.ceil(callsPerMinute / 6)));
}

const nothing: Usage = { openRuns: 0, cpuMillis: 0, diskBytes: 0 };
const bucketsMax = 4096;
/** Nobody knows when a run will be closed: a time after which it is worth another look. */
const lookAgainMs = 2_000;

function keyName(keyId: string): string {
  return `key ${keyId}`;
}

function teamName(team: string): string {
  return `team ${team}`;
}

function refuseRun(who: string, quota: Quota, usage: Usage, cost: RunCost): void {
  const bounds = [
    { what: 'open runs', max: quota.openRuns, used: usage.openRuns, more: 1 },
    { what: 'thousandths of a core', max: quota.cpuMillis, used: usage.cpuMillis, more: cost.cpuMillis },
    { what: 'bytes of workspaces', max: quota.diskBytes, used: usage.diskBytes, more: cost.diskBytes },
  ];
  for (const { what, max, more } of bounds) {
    if (more > max)
      throw new RunnerError('limit_exceeded', `${who} may have ${max} ${what}; this run alone would take ${more}`);
  }
  for (const { what, max, used, more } of bounds) {
    if (used + more > max)
      throw new RunnerError(
        'rate_limited',
        `${who} has ${used} of ${max} ${what}, and this run would take ${more}; close one, or try again later`,
        { retryAfterMs: lookAgainMs },
      );
  }
}
