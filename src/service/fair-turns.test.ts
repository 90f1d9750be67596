import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FairTurns, type FairTurnsOptions, type Turn } from './fair-turns.ts';

const options: FairTurnsOptions = { atOnce: 1, waitingMax: 2000, waitMaxMs: 60_000 };

/** Turns in the order in which they began. */
class Served {
  readonly order: string[] = [];
  readonly turns: Turn[] = [];
  readonly #fair: FairTurns;

  constructor(fair: FairTurns) {
    this.#fair = fair;
  }

  ask(team: string): Promise<void> {
    return this.#fair.take(team).then((turn) => {
      this.order.push(team);
      this.turns.push(turn);
    });
  }

  /** The oldest turn ends; whoever comes next has begun when it resolves. */
  async next(): Promise<void> {
    this.turns.shift()?.give();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('teams take turns', () => {
  test("a thousand waiting calls of one team delay another's next call by one turn", async () => {
    const served = new Served(new FairTurns(options));
    await served.ask('busy');
    for (let n = 0; n < 1000; n++) void served.ask('busy');
    for (let n = 0; n < 5; n++) await served.next();
    void served.ask('quiet');
    const before = served.order.length;
    await served.next();
    await served.next();
    expect(served.order.slice(before)).toContain('quiet');
  });

  test('as often as their weights say', async () => {
    const served = new Served(new FairTurns({ ...options, weightOf: (team) => (team === 'a' ? 3 : 1) }));
    await served.ask('c');
    for (let n = 0; n < 40; n++) for (const team of ['a', 'b']) void served.ask(team);
    for (let n = 0; n < 40; n++) await served.next();
    const count = (team: string): number => served.order.filter((one) => one === team).length;
    expect([count('a'), count('b'), count('c')]).toEqual([30, 10, 1]);
  });

  test('and whoever holds its turns for long leaves some to others', async () => {
    const fair = new FairTurns({ ...options, atOnce: 8 });
    const served = new Served(fair);
    for (let n = 0; n < 20; n++) void served.ask('busy');
    await new Promise((resolve) => setImmediate(resolve));
    expect(served.order).toHaveLength(6);
    await served.ask('quiet');
    expect(fair.stats()).toEqual({ running: 7, waiting: 14, teamsWaiting: 1 });
  });

  test('whatever comes in whatever order: within bounds, in order, nobody passed over for more than a round', async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('ask' as const), team: fc.constantFrom('a', 'b', 'c', 'd') }),
      fc.record({ kind: fc.constant('give' as const), at: fc.nat(7) }),
      fc.record({ kind: fc.constant('abort' as const), at: fc.nat(20) }),
    );
    const weights: Record<string, number> = { a: 1, b: 2, c: 1, d: 3 };
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 120 }), fc.integer({ min: 1, max: 6 }), async (steps, atOnce) => {
        const fair = new FairTurns({ ...options, atOnce, weightOf: (team) => weights[team] ?? 1 });
        const teamMax = Math.max(1, atOnce - Math.ceil(atOnce / 4));
        const running: { team: string; turn: Turn }[] = [];
        const waiting: { team: string; id: number; abort: AbortController }[] = [];
        const passedOver = new Map<string, number>();
        let ids = 0;
        const couldRun = (team: string): boolean =>
          waiting.some((one) => one.team === team) && running.filter((one) => one.team === team).length < teamMax;
        const begun = (id: number, team: string, turn: Turn): void => {
          const at = waiting.findIndex((one) => one.id === id);
          expect(waiting.findIndex((one) => one.team === team)).toBe(at); // first come first served
          waiting.splice(at, 1);
          passedOver.delete(team);
          for (const other of Object.keys(weights).filter((one) => one !== team && couldRun(one))) {
            const count = (passedOver.get(other) ?? 0) + 1;
            passedOver.set(other, count);
            const others = Object.entries(weights).filter(([name]) => name !== other);
            expect(count).toBeLessThanOrEqual(others.reduce((sum, [, weight]) => sum + weight, 0));
          }
          running.push({ team, turn });
        };
        for (const one of steps) {
          if (one.kind === 'ask') {
            const [id, abort] = [ids++, new AbortController()];
            waiting.push({ team: one.team, id, abort });
            fair.take(one.team, abort.signal).then(
              (turn) => begun(id, one.team, turn),
              () => undefined,
            );
          } else if (one.kind === 'give') {
            const [ended] = running.splice(one.at % Math.max(1, running.length), 1);
            ended?.turn.give();
            ended?.turn.give();
          } else {
            const [gone] = waiting.splice(one.at % Math.max(1, waiting.length), 1);
            gone?.abort.abort(new Error('gone'));
          }
          await new Promise((resolve) => setImmediate(resolve));
          expect(running.length).toBeLessThanOrEqual(atOnce);
          expect(fair.stats()).toMatchObject({ running: running.length, waiting: waiting.length });
          for (const team of Object.keys(weights)) {
            if (!waiting.some((other) => other.team === team)) passedOver.delete(team);
            expect(running.length < atOnce && couldRun(team)).toBe(false);
          }
        }
        while (running.length > 0) {
          running.shift()?.turn.give();
          await new Promise((resolve) => setImmediate(resolve));
        }
        expect(waiting).toEqual([]);
        expect(fair.stats()).toEqual({ running: 0, waiting: 0, teamsWaiting: 0 });
      }),
      { numRuns: 60 },
    );
  });
});

describe('nobody waits without end', () => {
  test('a full queue is refused with a time to try again, and leaves other teams theirs', async () => {
    const fair = new FairTurns({ ...options, waitingMax: 2 });
    const turn = await fair.take('a');
    const waiting = [fair.take('a'), fair.take('a')];
    const refused = await fair.take('a').catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'queue_full' });
    expect((refused as { retryAfterMs: number }).retryAfterMs).toBeGreaterThanOrEqual(50);
    const other = fair.take('b');
    turn.give();
    for (const one of [waiting[0], other, waiting[1]]) (await one)?.give();
  });

  test('a turn that does not come is given up, and so is one that nobody wants any more', async () => {
    const fair = new FairTurns({ ...options, waitMaxMs: 20 });
    const turn = await fair.take('a');
    await expect(fair.take('b')).rejects.toMatchObject({ code: 'queue_full' });
    const abort = new AbortController();
    const gone = fair.take('b', abort.signal);
    abort.abort(new Error('the client has left'));
    await expect(gone).rejects.toThrow('the client has left');
    await expect(fair.take('b', AbortSignal.abort(new Error('already')))).rejects.toThrow('already');
    expect(fair.stats()).toEqual({ running: 1, waiting: 0, teamsWaiting: 0 });
    turn.give();
  });

  test('a turn is given back when the work throws', async () => {
    const fair = new FairTurns(options);
    await expect(fair.run('a', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await fair.run('b', async () => 'yes')).toBe('yes');
  });
});
