import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type * as util from 'node:util';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { DockerCalls } from './calls.ts';

let folder: string;
let server: Server;
let waiting: (() => void)[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'glovebox-calls-'));
  waiting = [];
  server = createServer((_, response) => void waiting.push(() => response.end('OK')));
  await new Promise<void>((resolve) => server.listen(join(folder, 'engine.sock'), resolve));
});
afterEach(() => {
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

test('a request writes down nothing of the others that are under way', async () => {
  // As the modem has it: it says each request in words, whoever listens to that.
  const said = vi.spyOn(createRequire(import.meta.url)('node:util') as typeof util, 'inspect');
  const calls = new DockerCalls({ kind: 'unix', path: join(folder, 'engine.sock') });
  const asked = Array.from({ length: 20 }, (_, n) =>
    calls.text({ what: 'ask', method: 'GET', path: `/ask/${n}`, timeoutMs: 10_000 }),
  );
  await vi.waitFor(() => expect(waiting).toHaveLength(20), { timeout: 10_000 });
  const last = calls.text({ what: 'ask', method: 'GET', path: '/last', timeoutMs: 10_000 });
  await vi.waitFor(() => expect(waiting).toHaveLength(21), { timeout: 10_000 });
  for (const answer of waiting) answer();
  expect(await Promise.all([...asked, last])).toEqual(Array(21).fill('OK'));
  const texts = said.mock.results.map(({ value }) => String(value)).filter((text) => text.includes('/last'));
  expect(texts).toHaveLength(1);
  expect(texts[0]?.length).toBeLessThan(2_000);
});
