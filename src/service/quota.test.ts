import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isRunnerError, type RunnerError } from '../errors.ts';
import type { Quota } from '../store/key-row.ts';
import { burstOf, costOf, Quotas, type Holder } from './quota.ts';

const quota: Quota = { openRuns: 3, callsPerMinute: 60, cpuMillis: 4000, diskBytes: 1000 };
const cost = { cpuMillis: 1000, diskBytes: 100 };
const ada = { keyId: 'k1', team: 'a', quota };

function quotas(team?: Quota, clock = { ms: 0 }): Quotas {
  return new Quotas({ teamQuota: () => team, monotonicMs: () => clock.ms });
}

function refusal(work: () => void): RunnerError | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    if (!isRunnerError(error)) throw error;
    return error;
  }
}

describe('what a run takes', () => {
  test('is its limit of processors and the bound of its workspace', () => {
    expect(costOf({ limits: { cpus: 1.5, workspaceBytes: 7 } } as Parameters<typeof costOf>[0])).toEqual({
      cpuMillis: 1500,
      diskBytes: 7,
    });
  });

  test.each<[string, Partial<Quota>, RegExp]>([
    ['open runs', { openRuns: 1 }, /has 1 of 1 open runs/],
    ['processors', { cpuMillis: 1500 }, /1000 of 1500 thousandths of a core/],
    ['disk', { diskBytes: 150 }, /100 of 150 bytes of workspaces/],
  ])('is refused where a key has used up its %s, until one is closed', (_, patch, message) => {
    const all = quotas();
    const who = { ...ada, quota: { ...quota, ...patch } };
    all.open(who, 'r1', cost);
    const refused = refusal(() => all.open(who, 'r2', cost));
    expect(refused).toMatchObject({ code: 'rate_limited', message });
    expect(refused?.retryAfterMs).toBeGreaterThan(0);
    all.close('r1');
    all.close('r1');
    all.open(who, 'r2', cost);
    expect(all.usage({ keyId: 'k1' })).toEqual({ openRuns: 1, ...cost });
  });

  test('that is more than there ever is, is refused for good: there is nothing to wait for', () => {
    const refused = refusal(() => quotas().open(ada, 'r1', { ...cost, cpuMillis: 4001 }));
    expect(refused).toMatchObject({ code: 'limit_exceeded', retryAfterMs: undefined });
  });

  test('is counted for the team too, with all of its keys', () => {
    const all = quotas({ ...quota, openRuns: 2 });
    all.open(ada, 'r1', cost);
    all.open({ ...ada, keyId: 'k2' }, 'r2', cost);
    expect(refusal(() => all.open({ ...ada, keyId: 'k3' }, 'r3', cost))?.message).toMatch(/team a has 2 of 2/);
    all.open({ ...ada, keyId: 'k3', team: 'b' }, 'r3', cost);
  });

  test('before a restart is counted after it, whatever the quota says now', () => {
    const all = quotas();
    for (const id of ['r1', 'r2', 'r3', 'r4', 'r4']) all.adopt(ada, id, cost);
    expect(all.usage({ team: 'a' })).toEqual({ openRuns: 4, cpuMillis: 4000, diskBytes: 400 });
    expect(refusal(() => all.open(ada, 'r5', cost))?.code).toBe('rate_limited');
  });

  test('never exceeds a quota, and comes back to nothing, in any order of opening and closing', () => {
    const step = fc.record({
      open: fc.boolean(),
      run: fc.nat(11),
      key: fc.nat(2),
      cpu: fc.nat(3000),
      disk: fc.nat(600),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const team = { ...quota, openRuns: 5, cpuMillis: 6000 };
        const all = quotas(team);
        const open = new Set<string>();
        for (const { open: opens, run, key, cpu, disk } of steps) {
          const id = `r${run}`;
          if (!opens) {
            all.close(id);
            open.delete(id);
          } else if (!open.has(id)) {
            const refused = refusal(() =>
              all.open({ ...ada, keyId: `k${key}` }, id, { cpuMillis: cpu, diskBytes: disk }),
            );
            if (refused === undefined) open.add(id);
          }
          for (const [of, bound] of [
            [{ team: 'a' }, team] as const,
            ...[0, 1, 2].map((n) => [{ keyId: `k${n}` }, quota] as const),
          ]) {
            const used = all.usage(of);
            expect(
              used.openRuns <= bound.openRuns && used.cpuMillis <= bound.cpuMillis && used.diskBytes <= bound.diskBytes,
            ).toBe(true);
          }
          expect(all.usage({ team: 'a' }).openRuns).toBe(open.size);
        }
        for (const id of open) all.close(id);
        expect(all.usage({ team: 'a' })).toEqual({ openRuns: 0, cpuMillis: 0, diskBytes: 0 });
      }),
    );
  });
});

describe('calls a minute', () => {
  test('are so many at once and no more than the quota after that; a refused one fits exactly when it was told to come', () => {
    const wait = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 5000 }), fc.constant('told' as const));
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3000 }), fc.array(wait, { maxLength: 200 }), (callsPerMinute, waits) => {
        const clock = { ms: 1e9 };
        const all = quotas(undefined, clock);
        const who = { ...ada, quota: { ...quota, callsPerMinute } };
        const taken: number[] = [];
        let told = 0;
        for (const next of waits) {
          clock.ms += next === 'told' ? told : next;
          const refused = refusal(() => all.call(who));
          if (refused === undefined) taken.push(clock.ms);
          else if (next === 'told' && told > 0) expect(refused.message).toBe('it fits when it was told to come');
          told = refused?.retryAfterMs ?? 0;
          if (refused !== undefined && told > 1) {
            const early = { ms: clock.ms };
            clock.ms += told - 1;
            expect(refusal(() => all.call(who))?.code).toBe('rate_limited');
            clock.ms = early.ms;
          }
        }
        const burst = burstOf(callsPerMinute);
        for (const [from, atMs] of taken.entries()) {
          const inMinute = taken.slice(from).filter((ms) => ms - atMs < 60_000).length;
          expect(inMinute).toBeLessThanOrEqual(burst + callsPerMinute);
        }
      }),
    );
  });

  test('of a burst are as many as it says', () => {
    const clock = { ms: 0 };
    const all = quotas(undefined, clock);
    let taken = 0;
    while (refusal(() => all.call(ada)) === undefined) taken++;
    expect(taken).toBe(10);
    clock.ms += 1000;
    expect(refusal(() => all.call(ada))).toBeUndefined();
    expect(refusal(() => all.call(ada))?.retryAfterMs).toBe(1000);
  });

  test('that the team refuses cost the key nothing', () => {
    const clock = { ms: 0 };
    const all = quotas({ ...quota, callsPerMinute: 1 }, clock);
    const other: Holder & { quota: Quota } = { keyId: 'k2', team: 'a', quota: { ...quota, callsPerMinute: 1 } };
    all.call(ada);
    for (let n = 0; n < 20; n++) expect(refusal(() => all.call(other))?.message).toMatch(/team a/);
    clock.ms += 60_000;
    expect(refusal(() => all.call(other))).toBeUndefined();
  });

  test('of a key that may make none are refused for good', () => {
    const none = { ...ada, quota: { ...quota, callsPerMinute: 0 } };
    expect(refusal(() => quotas().call(none))).toMatchObject({ code: 'limit_exceeded', retryAfterMs: undefined });
  });

  test('do not depend on the clock on the wall', () => {
    const all = new Quotas({ teamQuota: () => undefined });
    for (let n = 0; n < 10; n++) all.call(ada);
    const real = Date.now;
    try {
      Date.now = () => real() + 365 * 86_400_000;
      expect(refusal(() => all.call(ada))?.code).toBe('rate_limited');
    } finally {
      Date.now = real;
    }
  });
});
