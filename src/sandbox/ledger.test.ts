import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { Ledger, readLedger, type LedgerLine } from './ledger.ts';

const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function make(): Ledger {
  const folder = mkdtempSync(join(tmpdir(), 'glovebox-ledger-'));
  folders.push(folder);
  return Ledger.create(folder);
}

const numbers = (upTo: number): LedgerLine => ({ kind: 'numbers', upTo });
const read = (ledger: Ledger): unknown[] => readLedger(ledger.directory).map((line) => 'upTo' in line && line.upTo);

test('what is noted is on disk at once, and whatever waited is there before it', async () => {
  const ledger = make();
  const first = ledger.append(numbers(1));
  const second = ledger.append(numbers(2));
  expect(read(ledger)).toEqual([]);
  ledger.note(numbers(3));
  expect(read(ledger)).toEqual([1, 2, 3]);
  await Promise.all([first, second]);
  expect(read(ledger)).toEqual([1, 2, 3]);
  await ledger.close();
});

test('what is appended is on disk when its promise says so, in order and once, whatever is noted in between', async () => {
  const ledger = make();
  const waiting: Promise<void>[] = [];
  for (let n = 0; n < 300; n += 3) {
    waiting.push(ledger.append(numbers(n)).then(() => expect(read(ledger)).toContain(n)));
    if (n % 2 === 0) await new Promise((resolve) => setTimeout(resolve));
    ledger.note(numbers(n + 1));
    waiting.push(ledger.append(numbers(n + 2)));
  }
  await Promise.all(waiting);
  expect([...read(ledger)].sort((a, b) => Number(a) - Number(b))).toEqual(Array.from({ length: 300 }, (_, n) => n));
  expect(readFileSync(join(ledger.directory, 'ledger.ndjson'), 'utf8').endsWith('\n')).toBe(true);
  await ledger.close();
});

test('closing waits for what was appended; later lines are for nobody', async () => {
  const ledger = make();
  const appended = ledger.append(numbers(1));
  await ledger.close();
  await appended;
  ledger.note(numbers(2));
  await ledger.append(numbers(3));
  expect(read(ledger)).toEqual([1]);
});
