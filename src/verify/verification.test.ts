import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { RunDir } from '../data-dir/run-dir.ts';
import { newestIdIn } from '../data-dir/names-in.ts';
import { digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import { someVerification } from './verification.fixture.ts';
import { findVerification, writeVerification } from './verification-files.ts';
import { verdictOf, Verification } from './verification.ts';

test('what was written is what is found, its digest is that of the file, and the newest holds', async () => {
  const dir = await someRun();
  expect(await findVerification(dir)).toBeUndefined();
  const older = someVerification({ id: newId(1_000), run: dir.id, verdict: 'failed' });
  const newer = someVerification({ id: newId(2_000), run: dir.id });
  const kept = await writeVerification(dir, newer);
  await writeVerification(dir, older);
  expect(await findVerification(dir)).toEqual({ verification: newer, digest: kept.digest });
  expect(digestOf(await readFile(join(dir.verificationsDir, `${newer.id}.json`)))).toBe(kept.digest);
  expect((await readdir(dir.verificationsDir)).filter((name) => name.endsWith('.new'))).toEqual([]);
});

test('the one that was made last holds, also where the clock was set back by a day meanwhile', async () => {
  const dir = await someRun();
  const nowMs = Date.now();
  const before = await newestIdIn(dir.verificationsDir, nowMs);
  await writeVerification(dir, someVerification({ id: before, run: dir.id }));
  const id = await newestIdIn(dir.verificationsDir, nowMs - 86_400_000);
  await writeVerification(dir, someVerification({ id, run: dir.id, verdict: 'failed' }));
  expect((await findVerification(dir))?.verification.verdict).toBe('failed');
});

test('a newest one that was changed is no reason to believe an older one', async () => {
  const dir = await someRun();
  await writeVerification(dir, someVerification({ id: newId(1_000), run: dir.id }));
  const { verification } = await writeVerification(dir, someVerification({ id: newId(2_000), run: dir.id }));
  const file = join(dir.verificationsDir, `${verification.id}.json`);
  const text = await readFile(file, 'utf8');
  for (const changed of [text.replace('passed', 'perfect'), `${text}\n`, text.replace(dir.id, newId()), '', '{}']) {
    await writeFile(file, changed);
    await expect(findVerification(dir), changed.slice(0, 80)).rejects.toMatchObject({ code: 'journal_broken' });
  }
});

test('an unknown key, a verdict that is none and an endless list are no verification', () => {
  const good = someVerification();
  expect(Verification.safeParse(good).success).toBe(true);
  for (const bad of [
    { ...good, extra: 1 },
    { ...good, verdict: 'ok' },
    { ...good, checksTouched: Array.from({ length: 501 }, () => 'a') },
    { ...good, candidate: 'sha256:0' },
    { ...good, gates: [{ ...good.gates[0], reason: 'x'.repeat(501) }] },
  ])
    expect(Verification.safeParse(bad).success).toBe(false);
});

test('the worst of the required gates is the verdict, and no gate at all passes nothing', () => {
  const gate = (verdict: Verification['verdict'], required = true) => ({ verdict, required });
  expect(verdictOf([gate('passed'), gate('needs_review')])).toBe('needs_review');
  expect(verdictOf([gate('broken'), gate('failed')])).toBe('broken');
  expect(verdictOf([gate('passed'), gate('failed', false)])).toBe('passed');
  expect(verdictOf([gate('passed', false)])).toBe('broken');
  expect(verdictOf([])).toBe('broken');
});

async function someRun(): Promise<RunDir> {
  const path = await mkdtemp(join(tmpdir(), 'glovebox-verification-'));
  onTestFinished(() => rm(path, { recursive: true }));
  const dir = new RunDir(newId(), join(path, 'run'));
  await mkdir(dir.path);
  return dir;
}
