import { afterEach, describe, expect, test } from 'vitest';
import type { Digest } from '../digest.ts';
import { WarmPool, type Kept, type Recipe } from './pool.ts';

const key = (name: string): Digest => `sha256:${name.padEnd(64, '-')}`;

class Thing implements Kept {
  readonly name: string;
  readonly lost: Promise<unknown>;
  fit = true;
  stuck = false;
  discarded = 0;
  #end: (value?: unknown) => void = () => undefined;

  constructor(name: string) {
    this.name = name;
    this.lost = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  async check(): Promise<void> {
    if (!this.fit) throw new Error('paused');
  }

  async discard(): Promise<void> {
    this.discarded++;
    if (this.stuck) throw new Error('the engine is away');
  }

  end(): void {
    this.#end();
  }
}

const clock = { nowMs: 0 };
const made: Thing[] = [];
const pools: WarmPool<Thing>[] = [];

function pool(warmMax = 4, memoryBytes = 1000, quiet = () => Promise.resolve()): WarmPool<Thing> {
  const one = new WarmPool<Thing>({ warmMax, memoryBytes, idleMs: 60_000 }, { quiet, nowMs: () => clock.nowMs });
  pools.push(one);
  return one;
}

function recipe(name: string, more: Partial<Recipe<Thing>> = {}): Recipe<Thing> {
  const make = async (): Promise<Thing> => {
    const thing = new Thing(name);
    made.push(thing);
    return thing;
  };
  return { key: key(name), memoryBytes: 1, make, ...more };
}

/** Asked for often enough to be waited for. */
async function warmed(one: WarmPool<Thing>, of: Recipe<Thing>, times = 2): Promise<void> {
  await Promise.all(Array.from({ length: times }, () => one.take(of)));
  await one.refill();
}

afterEach(async () => {
  await Promise.all(pools.splice(0).map((one) => one.drain()));
  made.length = 0;
  clock.nowMs = 0;
});

describe('a warm pool', () => {
  test('gives what was asked for before, and never the same twice', async () => {
    const one = pool();
    const a = recipe('a');
    await warmed(one, a, 6);
    expect(one.stats()).toMatchObject({ warm: 3, made: 3, missed: 6 });
    expect([one.isReady(a), one.isReady(recipe('b'))]).toEqual([true, false]);
    const taken = await Promise.all(Array.from({ length: 5 }, () => one.take(a)));
    const given = taken.filter((thing) => thing !== undefined);
    expect(given.length).toBeGreaterThanOrEqual(3);
    expect(new Set(given).size).toBe(given.length);
    expect(given.every(({ discarded }) => discarded === 0)).toBe(true);
  });

  test('gives nothing for another key, and makes nothing for who asks once', async () => {
    const one = pool();
    await warmed(one, recipe('a'));
    expect(await one.take(recipe('b'))).toBeUndefined();
    await one.refill();
    expect(made.map(({ name }) => name)).toEqual(['a']);
  });

  test('hands out nothing that fails its check: the next one, or nothing', async () => {
    const one = pool();
    const a = recipe('a');
    await warmed(one, a, 4);
    const [first, second] = made;
    if (first === undefined || second === undefined) throw new Error('two were to be made');
    first.fit = false;
    expect(await one.take(a)).toBe(second);
    expect(first.discarded).toBe(1);
    expect(one.stats().unfit).toBe(1);
  });

  test('drops what ends by itself, and makes the next one only after a pause', async () => {
    const one = pool();
    const a = recipe('a');
    await warmed(one, a);
    made[0]?.end();
    await Promise.resolve();
    expect(one.stats()).toMatchObject({ warm: 0, unfit: 1 });
    await one.refill();
    expect(made).toHaveLength(1);
    clock.nowMs += 1_001;
    await one.refill();
    expect(made).toHaveLength(2);
  });

  test('keeps to its bounds of count and memory, however much is asked for', async () => {
    const one = pool(3, 10);
    await warmed(one, recipe('small'), 20);
    expect(one.stats()).toMatchObject({ warm: 3, memoryBytes: 3 });
    const two = pool(9, 10);
    await warmed(two, recipe('large', { memoryBytes: 4 }), 20);
    expect(two.stats()).toMatchObject({ warm: 2, memoryBytes: 8 });
    await warmed(two, recipe('huge', { memoryBytes: 11 }), 20);
    expect(two.stats().made).toBe(2);
  });

  test('lets go of what nobody has asked for long enough', async () => {
    const one = pool();
    await warmed(one, recipe('a'), 8);
    expect(one.stats().warm).toBe(4);
    clock.nowMs = 30_001;
    one.sweep();
    expect(one.stats()).toMatchObject({ warm: 2, expired: 2 });
    clock.nowMs = 60_001;
    one.sweep();
    expect(one.stats()).toMatchObject({ warm: 0, expired: 4 });
    expect(made.every(({ discarded }) => discarded === 1)).toBe(true);
  });

  test('tries again to remove what could not be removed', async () => {
    const one = pool();
    await warmed(one, recipe('a'));
    const [thing] = made;
    if (thing === undefined) throw new Error('one was to be made');
    thing.stuck = true;
    clock.nowMs = 60_001;
    for (const times of [1, 2]) {
      one.sweep();
      await new Promise((resolve) => void setImmediate(resolve));
      expect(thing.discarded).toBe(times);
    }
    thing.stuck = false;
    await one.drain();
    expect(thing.discarded).toBe(3);
    one.sweep();
    expect(thing.discarded).toBe(3);
  });

  test('makes room for what is asked for now', async () => {
    const one = pool(2);
    await warmed(one, recipe('a'), 4);
    clock.nowMs = 30_000;
    await warmed(one, recipe('b'), 12);
    one.sweep();
    await one.refill();
    expect(made.filter(({ name, discarded }) => name === 'b' && discarded === 0).length).toBeGreaterThanOrEqual(1);
    expect(one.stats().warm).toBe(2);
  });

  test('keeps ready what it was told to, from the first moment on and for as long as it lives', async () => {
    const one = pool();
    one.keep(recipe('a'), 2);
    await one.refill();
    clock.nowMs = 600_000;
    one.sweep();
    expect(one.stats()).toMatchObject({ warm: 2, expired: 0 });
  });

  test('makes nothing while there is no quiet, and one at a time', async () => {
    let quiet = (): void => undefined;
    const one = pool(4, 1000, () => new Promise<void>((resolve) => (quiet = resolve)));
    let making = 0;
    const slow = recipe('a', {
      make: async () => {
        expect(++making).toBe(1);
        await new Promise((resolve) => void setImmediate(resolve));
        making--;
        return new Thing('a');
      },
    });
    for (let n = 0; n < 4; n++) await one.take(slow);
    const refilled = one.refill();
    expect(one.stats().made).toBe(0);
    for (let n = 0; n < 3; n++) {
      quiet();
      await new Promise((resolve) => void setImmediate(() => setImmediate(resolve)));
    }
    await refilled;
    expect(one.stats()).toMatchObject({ warm: 2, made: 2 });
  });

  test('tries what cannot be made less and less often, and says why', async () => {
    const one = pool();
    let tried = 0;
    const broken = recipe('a', {
      make: () => {
        tried++;
        return Promise.reject(new Error('no room on the disk'));
      },
    });
    await warmed(one, broken);
    expect(one.stats()).toMatchObject({ failed: 1, lastFailure: 'no room on the disk' });
    const triedAfter: number[] = [];
    for (const waitMs of [999, 2, 1_998, 3, 3_998]) {
      clock.nowMs += waitMs;
      await one.refill();
      triedAfter.push(tried);
    }
    expect(triedAfter).toEqual([1, 2, 2, 3, 3]);
  });

  test('that is drained is empty, also of what was just being made, and gives and makes nothing more', async () => {
    const one = pool();
    let finish = (): void => undefined;
    const late = new Thing('late');
    const slow = recipe('a', { make: () => new Promise((resolve) => (finish = () => resolve(late))) });
    await one.take(slow);
    await one.take(slow);
    await new Promise((resolve) => void setImmediate(resolve));
    expect(one.stats().making).toBe(1);
    const drained = one.drain();
    finish();
    await drained;
    await one.drain();
    expect(late.discarded).toBe(1);
    expect(await one.take(slow)).toBeUndefined();
    one.keep(slow, 2);
    await one.refill();
    expect(one.stats()).toMatchObject({ warm: 0, made: 1 });
  });

  test('forgets kinds that nobody asks for, of however many it hears', async () => {
    const one = pool();
    for (let n = 0; n < 2_000; n++) await one.take(recipe(`k${n}`));
    await warmed(one, recipe('a'));
    expect(made).toHaveLength(1);
  });
});
