import { expect, test } from 'vitest';
import { isRunnerError } from '../errors.ts';
import { Opens } from './opens.ts';

/** Work that ends when it is told to. */
function held(): { work: () => Promise<void>; end: () => void; begun: () => number } {
  const ends: (() => void)[] = [];
  let begun = 0;
  const work = (): Promise<void> => {
    begun++;
    return new Promise((resolve) => void ends.push(resolve));
  };
  return { work, end: () => ends.shift()?.(), begun: () => begun };
}

const settled = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

test('so many are opened at once, and the others in the order in which they came', async () => {
  const opens = new Opens({ atOnce: 2 });
  const order: number[] = [];
  const gates = Array.from({ length: 5 }, () => held());
  const all = gates.map((gate, n) =>
    opens.turn(async () => {
      order.push(n);
      await gate.work();
    }),
  );
  await settled();
  expect(order).toEqual([0, 1]);
  expect(opens.stats()).toMatchObject({ waiting: 3, atOnce: 2 });
  for (const gate of gates) {
    gate.end();
    await settled();
  }
  await Promise.all(all);
  expect(order).toEqual([0, 1, 2, 3, 4]);
});

test('who comes when the line is full is told when to come again, and nothing was begun', async () => {
  const opens = new Opens({ atOnce: 1, waitingMax: 1 });
  const gate = held();
  const first = opens.turn(gate.work);
  const second = opens.turn(gate.work);
  const refused = await opens.turn(gate.work).catch((error: unknown) => error);
  expect(isRunnerError(refused, 'queue_full')).toBe(true);
  expect(refused).toMatchObject({ status: 429, retryable: true, retryAfterMs: expect.any(Number) as number });
  expect(gate.begun()).toBe(1);
  expect(opens.stats().refused).toBe(1);
  gate.end();
  await first;
  await settled();
  gate.end();
  await second;
});

test('who gives up while it waits leaves the line, and holds nobody up', async () => {
  const opens = new Opens({ atOnce: 1, waitingMax: 2 });
  const [gate, later] = [held(), held()];
  const first = opens.turn(gate.work);
  const impatient = new AbortController();
  const second = opens.turn(later.work, impatient.signal);
  const third = opens.turn(later.work);
  impatient.abort(new Error('enough'));
  await expect(second).rejects.toThrow('enough');
  expect(opens.stats().waiting).toBe(1);
  gate.end();
  await first;
  await settled();
  expect(later.begun()).toBe(1);
  later.end();
  await third;
  await expect(opens.turn(later.work, impatient.signal)).rejects.toThrow('enough');
});

test('teams that wait are served one after the other, and half of the line is as much as one may have of it', async () => {
  const opens = new Opens({ atOnce: 1, waitingMax: 4 });
  const order: string[] = [];
  const gate = held();
  const ask = (team: string): Promise<void> =>
    opens.turn(
      () => {
        order.push(team);
        return gate.work();
      },
      undefined,
      team,
    );
  const all = [ask('red'), ask('red'), ask('red')];
  await expect(ask('red')).rejects.toMatchObject({ code: 'queue_full' });
  all.push(ask('blue'), ask('blue'));
  await expect(ask('green')).rejects.toMatchObject({ code: 'queue_full' });
  for (const _ of all) {
    await settled();
    gate.end();
  }
  await Promise.all(all);
  expect(order).toEqual(['red', 'red', 'blue', 'red', 'blue']);
  expect(opens.stats()).toMatchObject({ waiting: 0, refused: 2 });
});

test('a turn that fails is given on', async () => {
  const opens = new Opens({ atOnce: 1 });
  const failing = opens.turn(() => Promise.reject(new Error('no disk')));
  const next = opens.turn(async () => 'open');
  await expect(failing).rejects.toThrow('no disk');
  expect(await next).toBe('open');
});

test('there is quiet when no open is under way, or when somebody has waited for it long enough', async () => {
  const opens = new Opens();
  await opens.quiet(60_000);
  const gate = held();
  const under = opens.during(gate.work);
  await opens.quiet(10);
  let quiet = false;
  const waiting = opens.quiet(60_000).then(() => (quiet = true));
  await settled();
  expect(quiet).toBe(false);
  gate.end();
  await under;
  await waiting;
});
