import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { RunnerError } from '../errors.ts';
import type { ProbedInterface, ProbeReport } from '../sandbox/probe.ts';
import { FileError } from '../sandbox/spec.ts';
import { SealWatch } from './seal-watch.ts';

const lo = { name: 'lo', flags: 0x49 };
const eth0 = { name: 'eth0', flags: 0x1043 };

/** A sandbox that has these interfaces when it is looked at; what is thrown instead, if anything. */
class Inside {
  looks = 0;
  interfaces: readonly ProbedInterface[] = [lo];
  failure: Error | undefined;
  state = 'running';
  condemned: string[] = [];

  condemn(reason: string): void {
    this.state = 'lost';
    this.condemned.push(reason);
  }

  async probe(targets: readonly unknown[]): Promise<ProbeReport> {
    this.looks++;
    if (this.failure !== undefined) throw this.failure;
    return { interfaces: this.interfaces, results: targets.map(() => ({ errno: 101, answer: Buffer.alloc(0) })) };
  }
}

let inside: Inside;
let found: RunnerError[];
let watch: SealWatch;

beforeEach(() => {
  vi.useFakeTimers();
  inside = new Inside();
  found = [];
  watch = new SealWatch({ sandbox: inside, onFound: (error) => found.push(error) });
});
afterEach(() => {
  vi.useRealTimers();
});

test('a sealed sandbox is looked at every fifteen seconds, and once more in the end', async () => {
  await vi.advanceTimersByTimeAsync(60_000);
  expect([inside.looks, found]).toEqual([4, []]);
  expect(await watch.holds()).toBe(true);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(inside.looks).toBe(5);
});

test('an interface that somebody added is told of once, and nobody looks any more', async () => {
  await vi.advanceTimersByTimeAsync(20_000);
  inside.interfaces = [lo, eth0];
  await vi.advanceTimersByTimeAsync(60_000);
  expect(found).toMatchObject([{ code: 'isolation_unproven', message: expect.stringContaining('"eth0"') as string }]);
  expect(inside.condemned).toEqual([expect.stringContaining('"eth0"')]);
  expect([inside.looks, await watch.holds(), inside.looks]).toEqual([2, false, 2]);
});

test('what was added since the last look is found in the end', async () => {
  inside.interfaces = [lo, eth0];
  expect([await watch.holds(), await watch.holds(), inside.looks]).toEqual([false, false, 1]);
  expect([found, inside.condemned]).toEqual([[], [expect.stringContaining('"eth0"')]]);
});

test('no room for a look says nothing, until nothing runs any more: then it has to be possible', async () => {
  inside.failure = new FileError('io', 'the network', 'no more processes');
  await vi.advanceTimersByTimeAsync(60_000);
  expect([inside.looks, found]).toEqual([4, []]);
  expect(inside.condemned).toEqual([]);
  expect(await watch.holds()).toBe(false);
  expect(inside.condemned).toEqual([expect.stringContaining('no more processes')]);
});

test('a sandbox that is lost is told as that', async () => {
  inside.failure = new RunnerError('sandbox_lost', 'gone');
  inside.state = 'lost';
  await vi.advanceTimersByTimeAsync(60_000);
  expect([inside.looks, found, await watch.holds(), inside.condemned]).toEqual([1, [], false, []]);
});

test('one that is stopped looks no more, and tells nothing of a look that was under way', async () => {
  inside.interfaces = [lo, eth0];
  vi.advanceTimersByTime(15_000);
  await watch.stop();
  await vi.advanceTimersByTimeAsync(60_000);
  expect([inside.looks, found]).toEqual([1, []]);
});
