import { appendFileSync, existsSync, mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { OutputLog, type OutputLogOptions, type OutputView } from './output-log.ts';
import { Segments } from './segments.ts';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'output-log-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

interface Watch {
  durable: number;
  limited: number;
}

function optionsOf(watch: Watch, more: Partial<OutputLogOptions> = {}): OutputLogOptions {
  return {
    directory,
    number: 1,
    limitBytes: 2 ** 40,
    budget: { leftBytes: 2 ** 40 },
    onDurable: (bytes) => (watch.durable = bytes),
    onLimit: () => watch.limited++,
    nowMs: () => 5,
    ...more,
  };
}

function fresh(more: Partial<OutputLogOptions> = {}): { log: OutputLog; watch: Watch } {
  const watch = { durable: 0, limited: 0 };
  return { log: OutputLog.create(optionsOf(watch, more)), watch };
}

async function all(log: OutputLog, view: OutputView = 'merged', step = 1 << 20): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let at = 0; at < log.size(view);) {
    const { bytes, nextOffset } = await log.read(at, step, view);
    if (bytes.length === 0) throw new Error(`nothing at ${at} of ${log.size(view)}`);
    parts.push(bytes);
    at = nextOffset;
  }
  return Buffer.concat(parts);
}

const pieces = fc.array(
  fc.record({
    stream: fc.constantFrom('stdout', 'stderr', 'aux'),
    bytes: fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 20 }),
      fc.uint8Array({ minLength: 5_000, maxLength: 6_000 }),
    ),
    pause: fc.boolean(),
  }),
  { maxLength: 40 },
);

async function feed(
  log: OutputLog,
  given: readonly { stream: 'stdout' | 'stderr' | 'aux'; bytes: Uint8Array; pause: boolean }[],
): Promise<void> {
  for (const piece of given) {
    log.append(piece.stream, Buffer.from(piece.bytes));
    if (piece.pause) await new Promise(setImmediate);
  }
}

function expected(given: readonly { stream: string; bytes: Uint8Array }[], ...streams: string[]): Buffer {
  return Buffer.concat(given.filter((piece) => streams.includes(piece.stream)).map((piece) => piece.bytes));
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** V8 frees array buffers in the background: waits for that, but lets nothing else of ours run meanwhile. */
function arrayBuffersHeld(enoughBytes = 0): number {
  for (let tries = 0; ; tries++) {
    collect();
    const { arrayBuffers } = process.memoryUsage();
    if (arrayBuffers <= enoughBytes || tries === 50) return arrayBuffers;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  }
}

describe('the output of a call', () => {
  test('every view gives back exactly what was written, before the end, after it, and from the disk', async () => {
    await fc.assert(
      fc.asyncProperty(pieces, fc.constantFrom(997, 7_000, 1 << 20), async (given, step) => {
        rmSync(directory, { recursive: true, force: true });
        directory = mkdtempSync(join(tmpdir(), 'output-log-'));
        const { log } = fresh();
        await feed(log, given);
        const check = async (seen: OutputLog): Promise<void> => {
          expect((await all(seen, 'merged', step)).equals(expected(given, 'stdout', 'stderr'))).toBe(true);
          expect((await all(seen, 'stdout', step)).equals(expected(given, 'stdout'))).toBe(true);
          expect((await all(seen, 'stderr', step)).equals(expected(given, 'stderr'))).toBe(true);
          expect(seen.aux().equals(expected(given, 'aux'))).toBe(true);
        };
        await check(log);
        const inline = await log.finish();
        await check(log);
        await check(OutputLog.view({ directory, number: 1 }, inline));
      }),
      { numRuns: 60 },
    );
  });

  test('after a crash at any moment, what was acknowledged is there and the rest can follow', async () => {
    await fc.assert(
      fc.asyncProperty(pieces, fc.nat(60_000), fc.nat(600), async (given, loseOut, loseIdx) => {
        rmSync(directory, { recursive: true, force: true });
        directory = mkdtempSync(join(tmpdir(), 'output-log-'));
        const { log } = fresh();
        await feed(log, given);
        await log.flush();
        const wire = Buffer.concat(given.map((piece) => piece.bytes));
        if (existsSync(join(directory, '1.out')))
          truncateSync(join(directory, '1.out'), Math.max(0, log.size() - loseOut));
        if (existsSync(join(directory, '1.idx')))
          appendFileSync(join(directory, '1.idx'), Buffer.alloc(loseIdx % 16, 1));
        const again = OutputLog.reopen(optionsOf({ durable: 0, limited: 0 }));
        // The supervisor sends again from here: cut the pieces at this offset of the wire.
        let skip = again.wireBytes;
        expect(skip).toBeLessThanOrEqual(wire.length);
        const rest = given.flatMap((piece) => {
          const bytes = piece.bytes.subarray(Math.min(skip, piece.bytes.length));
          skip -= piece.bytes.length - bytes.length;
          return bytes.length > 0 ? [{ ...piece, bytes }] : [];
        });
        await feed(again, rest);
        expect((await all(again)).equals(expected(given, 'stdout', 'stderr'))).toBe(true);
        expect((await all(again, 'stderr')).equals(expected(given, 'stderr'))).toBe(true);
        expect(again.aux().equals(expected(given, 'aux'))).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  test('a small output costs no file and is acknowledged by its end only', async () => {
    const { log, watch } = fresh();
    log.append('stdout', Buffer.from('hi\n'));
    await new Promise(setImmediate);
    expect(watch.durable).toBe(0);
    const inline = await log.finish();
    expect(existsSync(join(directory, '1.out'))).toBe(false);
    expect(inline).toEqual({ bytes: 'aGkK', aux: '', entries: [['stdout', 3, 5]] });
  });

  test('a large one is acknowledged as it is written', async () => {
    const { log, watch } = fresh();
    for (let n = 0; n < 40; n++) log.append(n % 2 === 0 ? 'stdout' : 'stderr', Buffer.alloc(60_000, n));
    await log.flush();
    expect(watch.durable).toBe(2_400_000);
    expect(log.totals).toEqual({ totalBytes: 2_400_000, stdoutBytes: 1_200_000, stderrBytes: 1_200_000 });
  });

  test('the limit is exact, told once, and what comes after is dropped but acknowledged', async () => {
    const { log, watch } = fresh({ limitBytes: 10_000 });
    for (let n = 0; n < 5; n++) log.append('stdout', Buffer.alloc(3_000, n));
    await log.flush();
    expect(log.size()).toBe(10_000);
    expect(watch).toEqual({ durable: 15_000, limited: 1 });
    expect(OutputLog.reopen(optionsOf({ durable: 0, limited: 0 })).wireBytes).toBe(15_000);
  });

  test('all calls of a sandbox share one budget', () => {
    const budget = { leftBytes: 100 };
    const one = fresh({ budget });
    const two = fresh({ budget, number: 2 });
    one.log.append('stdout', Buffer.alloc(80));
    two.log.append('stdout', Buffer.alloc(80));
    expect([one.log.size(), two.log.size(), two.watch.limited]).toEqual([80, 20, 1]);
  });

  test('a disk that cannot be written ends the call instead of losing bytes in silence', async () => {
    const { log, watch } = fresh({ directory: join(directory, 'absent') });
    log.append('stdout', Buffer.alloc(20_000));
    await log.flush();
    log.append('stdout', Buffer.alloc(20_000));
    expect(watch.limited).toBe(1);
    expect(log.size()).toBe(20_000); // what came later is let through unread, so that the call's end can be heard
    expect(watch.durable).toBe(40_000);
    await log.finish();
  });

  test('whoever waits is told of new bytes, of the end, or that time has passed', async () => {
    const { log } = fresh();
    const more = log.waitBeyond(0, 10_000);
    log.append('stdout', Buffer.from('x'));
    await more;
    await log.waitBeyond(1, 1);
    const end = log.waitBeyond(1, 10_000);
    await log.finish();
    await end;
    expect(await log.read(1, 10)).toMatchObject({ nextOffset: 1, done: true });
  });

  test('ten million alternations stay bounded, and the merged view stays exact', () => {
    const segments = new Segments();
    for (let n = 0; n < 10_000_000; n++) segments.push(n % 2 === 0 ? 'stdout' : 'stderr', 1, n / 1000);
    expect(segments.count).toBeLessThanOrEqual(65_536);
    expect(segments.size('merged')).toBe(10_000_000);
    expect(segments.coarse).toBe(true);
    expect(segments.list(9_999_999, 10)).toMatchObject([{ stream: 'mixed' }]);
  });

  test('a flood of tiny pieces does not hold on to the chunks they came in', async () => {
    const { log } = fresh();
    const enough = arrayBuffersHeld() + 1024 * 1024;
    for (let n = 0; n < 1_000; n++)
      log.append(n % 2 === 0 ? 'stdout' : 'stderr', Buffer.allocUnsafeSlow(65_536).subarray(0, 60));
    expect(arrayBuffersHeld(enough)).toBeLessThan(enough); // 1,000 chunks are 65 MB
    await log.flush();
    expect(log.size()).toBe(60_000);
  });
});
