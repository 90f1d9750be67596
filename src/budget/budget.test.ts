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
