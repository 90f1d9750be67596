import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RunDir } from '../data-dir/run-dir.ts';
import { newId } from '../ids.ts';
import { ledgerName } from '../sandbox/ledger.ts';
import { answerOf, outputOf } from './call-answers.ts';
import type { KnownRun, OpenRun } from './open-run.ts';

/** Much longer than a test may take: who waits for it fails. */
const waitMs = 3_600_000;
const wait = { waitMs, signal: () => new AbortController().signal };
let dir: RunDir;
beforeEach(async () => {
  dir = new RunDir(newId(), await mkdtemp(join(tmpdir(), 'glovebox-records-')));
  await mkdir(dir.callsDir);
});
afterEach(() => rm(dir.path, { recursive: true, force: true }));

/** A run that was taken up, with no command at hand: `past` has been begun by the runner before, and never answered. */
function takenUp(past: string): KnownRun {
  const run = {
    findCommand: () => undefined,
    isPast: (callId: string) => callId === past,
    answer: async () => undefined,
    poll: async (callId: string) => ({ callId: 'poll', tool: 'exec_poll', ok: true, text: callId }),
  };
  return { dir, open: { run } as unknown as OpenRun };
}

/** What a command that has ended leaves on disk. */
async function leave(id: string, text: string): Promise<void> {
  const output = { bytes: Buffer.from(text).toString('base64'), aux: '', entries: [['stdout', text.length, 1]] };
  const lines = [
    { kind: 'call', number: 1, id, startedMs: 0, terms: {} },
    { kind: 'done', number: 1, end: { outcome: { kind: 'exited', code: 0 } }, output },
  ];
  await writeFile(join(dir.callsDir, ledgerName), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
}

test('the output of a command that has ended under the runner before is there at once, however long one would wait', async () => {
  await leave('old', 'hello');
  const output = await outputOf(takenUp('old'), 'old', wait);
  expect(await output.read(0, 100, 'merged', 0)).toMatchObject({ bytes: Buffer.from('hello'), ended: true });
});

test('so is how it ended', async () => {
  const found = await answerOf(takenUp('old'), 'old', waitMs);
  expect(found).toMatchObject({ callId: 'old', tool: 'exec', text: 'old' });
});

test('for a call that may still begin one waits as long as one has said', async () => {
  const startMs = performance.now();
  const asked = outputOf(takenUp('old'), 'new', { ...wait, waitMs: 60 });
  await expect(asked).rejects.toMatchObject({ code: 'call_not_found' });
  expect(performance.now() - startMs).toBeGreaterThan(50);
});
