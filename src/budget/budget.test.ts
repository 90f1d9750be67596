import { describe, expect, test } from 'vitest';
import { Budget, type BudgetLimits } from './budget.ts';

const plenty: BudgetLimits = {
  calls: 50,
  byTag: {},
  denied: 3,
  deniedInARow: 0,
  approvals: 5,
  parallel: 64,
  perMinute: 0,
  outputBytes: 1000,
  wallClockMs: 60_000,
  cpuMs: 0,
};

describe('the budget of a run', () => {
  test('lets exactly 50 of 16 eager callers through, each under its own number', async () => {
    const budget = new Budget(plenty);
    const numbers: number[] = [];
    const caller = async (): Promise<void> => {
      for (let n = 0; n < 20; n++) {
        const taken = budget.take();
        await Promise.resolve();
        if (taken.kind === 'taken') {
          numbers.push(taken.number);
          taken.release();
        }
      }
    };
    await Promise.all(Array.from({ length: 16 }, caller));
    expect(numbers.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, n) => n + 1));
  });

  test('denies the 51st call for good', () => {
    const budget = new Budget(plenty);
    for (let n = 0; n < 50; n++) {
      const taken = budget.take();
      if (taken.kind === 'taken') taken.release();
    }
    for (let n = 0; n < 3; n++)
      expect(budget.take()).toMatchObject({ kind: 'denied', terminal: true, rule: 'budget.max_actions_per_run' });
    expect(budget.remaining()).toMatchObject({ calls: 0, parallel: 64 });
  });

  test('a full house is no end: a place is free again once a call has ended', () => {
    const budget = new Budget({ ...plenty, parallel: 2 });
    const first = budget.take();
    budget.take();
    expect(budget.take()).toMatchObject({ kind: 'denied', terminal: false, rule: 'budget.max_parallel_actions' });
    if (first.kind === 'taken') {
      first.release();
      first.release();
    }
    expect(budget.take().kind).toBe('taken');
    expect(budget.take().kind).toBe('denied');
    expect(budget.remaining().calls).toBe(47);
  });

  test('denied calls are borne up to their number and cost no call', () => {
    const budget = new Budget(plenty);
    for (let n = 0; n < 3; n++) budget.countDenied();
    expect(budget.remaining()).toMatchObject({ calls: 50, denied: 0 });
    expect(budget.take().kind).toBe('taken');
    budget.countDenied();
    expect(budget.take()).toMatchObject({ kind: 'denied', terminal: true, rule: 'budget.max_denied_actions' });
  });

  test('ends with the output it may write and with its time', () => {
    let nowMs = 5;
    const byOutput = new Budget(plenty);
    byOutput.countOutput(1000);
    expect(byOutput.take()).toMatchObject({ terminal: true, rule: 'limits.output_per_run' });
    const byTime = new Budget(plenty, () => nowMs);
    nowMs += 59_999;
    expect(byTime.take().kind).toBe('taken');
    nowMs += 1;
    expect(byTime.take()).toMatchObject({ terminal: true, rule: 'limits.wall_clock' });
    expect(byTime.remaining().wallClockMs).toBe(0);
  });

  test('warns once for each limit, at four fifths', () => {
    const budget = new Budget({ ...plenty, calls: 10 });
    const warnings = Array.from({ length: 10 }, () => {
      const taken = budget.take();
      return taken.kind === 'taken' ? taken.warning : undefined;
    });
    expect(warnings.map((warning, n) => (warning === undefined ? 0 : n + 1)).filter(Boolean)).toEqual([8]);
    expect(warnings[7]).toBe('8 of 10 calls are used');
  });
});

describe('a budget counts besides', () => {
  const minute = 60_000;

  test('each tag on its own: one that is used up ends nothing else', () => {
    const budget = new Budget({ ...plenty, byTag: { deploy: 1, install: 5 } });
    expect(budget.take(['deploy']).kind).toBe('taken');
    expect(budget.take(['install', 'deploy'])).toMatchObject({
      terminal: false,
      rule: 'budget.max_actions_by_tag.deploy',
    });
    expect(budget.take(['install', 'other']).kind).toBe('taken');
    expect(budget.remaining()).toMatchObject({ calls: 48, byTag: { deploy: 0, install: 4 } });
  });

  test('denials in a row, which one call that gets through ends', () => {
    const budget = new Budget({ ...plenty, denied: 100, deniedInARow: 2 });
    for (let n = 0; n < 2; n++) budget.countDenied();
    expect(budget.remaining().deniedInARow).toBe(0);
    expect(budget.take().kind).toBe('taken');
    for (let n = 0; n < 3; n++) budget.countDenied();
    expect(budget.take()).toMatchObject({ terminal: true, rule: 'budget.max_consecutive_denials' });
  });

  test('calls within any minute, and says when to ask again', () => {
    let nowMs = 0;
    const budget = new Budget({ ...plenty, wallClockMs: 10 * minute, perMinute: 2 }, () => nowMs);
    budget.take();
    nowMs = 20_000;
    budget.take();
    expect(budget.take()).toMatchObject({
      terminal: false,
      rule: 'budget.max_actions_per_minute',
      hint: 'Ask again in 40 s.',
    });
    nowMs = minute;
    expect(budget.take().kind).toBe('taken');
    expect(budget.take().kind).toBe('denied');
    expect(budget.remaining().perMinute).toBe(0);
  });

  test('processor time', () => {
    const budget = new Budget({ ...plenty, cpuMs: 1000 });
    budget.countCpu(800);
    expect(budget.take()).toMatchObject({ kind: 'taken', warning: '1 s of 1 s of processor time are used' });
    budget.countCpu(200);
    expect(budget.take()).toMatchObject({ terminal: true, rule: 'budget.cpu_seconds' });
  });

  test('approvals that are asked for, without ending the run', () => {
    const budget = new Budget({ ...plenty, approvals: 1 });
    expect(budget.takeApproval()).toBeUndefined();
    expect(budget.takeApproval()).toMatchObject({ terminal: false, rule: 'budget.max_approval_requests' });
    expect(budget.take().kind).toBe('taken');
  });

  test('nothing against a limit that there is not', () => {
    const budget = new Budget(plenty);
    budget.countCpu(1e9);
    expect(budget.remaining()).toMatchObject({ cpuMs: null, perMinute: null, deniedInARow: null });
    expect(budget.take().kind).toBe('taken');
  });
});

describe('a budget changes', () => {
  test('to the smaller of both when the risk rises, and what is used stays used', () => {
    const budget = new Budget({ ...plenty, calls: 10, byTag: { a: 5 } });
    for (let n = 0; n < 4; n++) budget.take(['a']);
    budget.tighten({ ...plenty, calls: 5, cpuMs: 100, byTag: { a: 4 } });
    expect(budget.remaining()).toMatchObject({ calls: 1, cpuMs: 100, byTag: { a: 0 } });
    budget.tighten({ ...plenty, calls: 500, cpuMs: 0, byTag: { a: 50 } });
    expect(budget.remaining()).toMatchObject({ calls: 1, cpuMs: 100, byTag: { a: 0 } });
  });

  test('to more calls once somebody has approved them', () => {
    const budget = new Budget({ ...plenty, calls: 1 });
    budget.take();
    expect(budget.check()).toMatchObject({ rule: 'budget.max_actions_per_run' });
    budget.extend(1);
    expect(budget.take().kind).toBe('taken');
    expect(budget.take().kind).toBe('denied');
  });
});
