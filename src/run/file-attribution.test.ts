import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RunDir } from '../data-dir/run-dir.ts';
import { newId } from '../ids.ts';
import type { Draft } from '../journal/entry.ts';
import type { RunningCall } from '../sandbox/call.ts';
import { FileAttribution } from './file-attribution.ts';
import type { RunParts } from './run-parts.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'glovebox-attribution-'));
});
afterEach(() => rm(folder, { recursive: true }));

/** It has ended, and nothing of it is left. */
const over = { ended: Promise.resolve({ descendantsAlive: 0 }), gone: Promise.resolve() } as unknown as RunningCall;

test('what a command writes before anybody hears that it has started is its own, and not of the next one', async () => {
  const upper = join(folder, 'upper');
  await mkdir(upper);
  const seen: Draft[] = [];
  const walk = async function* (paths: readonly string[]) {
    for (const path of paths) {
      const content = await readFile(join(upper, path));
      yield { kind: 'entry', entry: { path, type: 'file', sizeBytes: content.length }, content };
    }
  };
  const attribution = new FileAttribution({
    policy: { policy: { context: { attribution: 'exact' } } },
    dir: new RunDir(newId(), folder),
    placement: { looking: () => ({ layered: { upper } }) },
    base: { tree: new Map() },
    scope: { isScratch: () => false, isScratchBelow: () => false },
    sandbox: { files: { walk } },
    journal: { append: async (draft: Draft) => void seen.push(draft) },
  } as unknown as RunParts);
  for (const [callId, text] of [
    ['x1', 'one'],
    ['x2', 'two'],
  ] as const) {
    await attribution.starting(callId, async () => {
      await writeFile(join(upper, 'file'), text);
      const { ctimeMs } = await stat(join(upper, 'file'));
      await expect.poll(() => Date.now() - ctimeMs, { interval: 5 }).toBeGreaterThan(50);
      return over;
    });
    await setImmediate(); // its end is heard of
    const endedMs = Date.now();
    await expect.poll(() => Date.now(), { interval: 1 }).toBeGreaterThan(endedMs + 1);
    await attribution.beforeRestore(); // looks
  }
  await attribution.close();
  const told = seen.map(({ type, data }) => [type, 'from' in data ? data.from : undefined]);
  expect(told).toEqual([
    ['files.seen', 'x1'],
    ['files.seen', 'x2'],
  ]);
});
