import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { CodexClient } from '../src/bridge/codex/codex-client.fixture.ts';
import { CodexEnvironment } from '../src/bridge/codex/serve.ts';
import { checkJournal } from '../src/journal/check.ts';
import { LocalRun } from '../src/run/delegated-run.ts';
import type { Run } from '../src/runner.ts';
import { smallPolicy } from './fixtures/bench.ts';
import { openRunnerBench } from './fixtures/runner-bench.ts';

const { bench, runner } = await openRunnerBench();
let run: Run;
let root: string;
let client: CodexClient;

const rules = `budget: { max_actions_per_run: 500 }
commands:
  - { id: push, match: { program: git, subcommand: push }, effect: deny, tests: { match: [git push] } }
  - { id: rest, match: { program: "*" }, effect: allow, tests: { match: [ls] } }
`;

beforeEach(async () => {
  root = await bench.workspace({ 'src/a.txt': 'one\n', '.env': 'x\n' });
  run = await runner.open({ policy: smallPolicy(rules), workspace: root });
  client = new CodexClient(new CodexEnvironment(async () => new LocalRun(run), [root]));
  await client.initialize();
});
afterEach(async () => {
  await client.close();
  await run.close();
});

const url = (path: string): string => `file://${root}/${path}`;

async function start(processId: string, script: string, more: Record<string, unknown> = {}): Promise<void> {
  const argv = ['/bin/bash', '-c', script];
  await client.request('process/start', { processId, argv, cwd: `file://${root}`, env: { GREETING: 'hi' }, ...more });
}

async function ended(processId: string): Promise<ReturnType<CodexClient['of']>> {
  await expect.poll(() => client.of(processId).closed, { timeout: 15_000 }).toBe(true);
  return client.of(processId);
}

test('a process runs in the sandbox, is told of piece by piece, and read again by its numbers', async () => {
  await start('p1', 'pwd; echo $GREETING; sleep 0.3; echo later >&2; exit 3');
  const told = await ended('p1');
  expect(told).toMatchObject({ text: '/workspace\nhi\nlater\n', exitCode: 3 });
  expect(told.seqs).toEqual(told.seqs.map((_, at) => at + 1));
  const whole = await client.request('process/read', { processId: 'p1', afterSeq: 0, maxBytes: 65_536, waitMs: 0 });
  expect(whole).toMatchObject({ exited: true, exitCode: 3, closed: true, failure: null, nextSeq: 3 });
  const rest = await client.request('process/read', { processId: 'p1', afterSeq: 1 });
  expect(rest['chunks']).toMatchObject([
    { seq: 2, stream: 'stdout', chunk: Buffer.from('later\n').toString('base64') },
  ]);
});

test('every byte arrives in order, also more than is kept, and the reader sets the pace', async () => {
  await start('p1', 'head -c 3000000 /dev/zero | tr "\\0" x; printf "\\377end"');
  const told = await ended('p1');
  expect(told.text).toHaveLength(3_000_004);
  const { chunks } = (await client.request('process/read', { processId: 'p1' })) as { chunks: { chunk: string }[] };
  const kept = Buffer.concat(chunks.map(({ chunk }) => Buffer.from(chunk, 'base64')));
  expect(kept.length).toBeLessThanOrEqual(1_048_576);
  expect(kept.subarray(-4).toString('latin1')).toBe('\xffend');
});

test('a terminal takes input once, an interrupt, and an end', async () => {
  await start('p1', 'read x; echo got $x; sleep 60', { tty: true });
  const line = { processId: 'p1', chunk: Buffer.from('abc\n').toString('base64'), writeId: '1' };
  expect(await client.request('process/write', line)).toEqual({ status: 'accepted' });
  expect(await client.request('process/write', line)).toEqual({ status: 'accepted' });
  await expect.poll(() => client.of('p1').text).toContain('got abc');
  await client.request('process/signal', { processId: 'p1', signal: 'interrupt' });
  expect(await ended('p1')).toMatchObject({ exitCode: 130 });
  expect(client.of('p1').text.match(/abc/g)).toHaveLength(2); // its echo, and what was read
  await start('p2', 'sleep 60 & sleep 60');
  expect(await client.request('process/write', { processId: 'p2', chunk: '' })).toEqual({ status: 'stdinClosed' });
  expect(await client.request('process/terminate', { processId: 'p2' })).toEqual({ running: true });
  expect(await ended('p2')).toMatchObject({ exitCode: 130 });
  await start('p3', 'cat', { pipeStdin: true });
  await client.request('process/write', { processId: 'p3', chunk: Buffer.from('piped\n').toString('base64') });
  await expect.poll(() => client.of('p3').text).toBe('piped\n');
});

test('the policy stands between: what it denies is refused in its words, and limits say that they were met', async () => {
  const denied = await client.ask('process/start', {
    processId: 'p1',
    argv: ['/bin/bash', '-lc', 'true && git push'],
    cwd: '/workspace',
    sandbox: { permissions: { type: 'disabled' } },
  });
  expect(denied.error).toMatchObject({
    code: -32600,
    message: expect.stringMatching(/^Denied: .*rule push/) as string,
  });
  expect((await client.ask('fs/readFile', { path: url('.env') })).error).toMatchObject({
    code: -32600,
    message: expect.stringMatching(/kept out of the sandbox/) as string,
  });
  expect((await client.ask('fs/writeFile', { path: url('README.md'), dataBase64: '' })).error).toMatchObject({
    code: -32600,
    message: expect.stringMatching(/Denied|read_only|permission/) as string,
  });
  await start('p2', `python3 -c 'b"x" * (1 << 30)'`);
  expect((await ended('p2')).text).toMatch(/\[glovebox: Out of memory/);
  await run.close();
  const journal = await readFile(run.dir.journal, 'utf8');
  expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed', findings: [] });
  expect(journal.match(/"tool":"exec"/g)?.length).toBeGreaterThanOrEqual(2);
});

test('what Codex says of its own sandbox is in the journal, and opens nothing', async () => {
  const sandbox = { permissions: { type: 'disabled' }, cwd: 'file:///' };
  await start('p1', 'touch /etc/x README.md; id -u', { sandbox, enforceManagedNetwork: false });
  expect((await ended('p1')).text).toMatch(/Permission denied|Read-only/);
  expect(client.of('p1').text).not.toMatch(/^0$/m);
  expect(await readFile(run.dir.journal, 'utf8')).toContain('\\"type\\":\\"disabled\\"');
});

test('files are read, written, listed, copied and removed as Codex asks for them', async () => {
  const text = (value: unknown): string => Buffer.from(String(value), 'base64').toString();
  expect(text((await client.request('fs/readFile', { path: url('src/a.txt') }))['dataBase64'])).toBe('one\n');
  const two = { path: url('src/sub/b.txt'), dataBase64: Buffer.from('two\n').toString('base64') };
  expect((await client.ask('fs/writeFile', two)).error?.code).toBe(-32004);
  await client.request('fs/createDirectory', { path: url('src/sub'), recursive: true });
  await client.request('fs/writeFile', two);
  expect(await client.request('fs/getMetadata', { path: url('src/sub/b.txt') })).toMatchObject({
    isFile: true,
    size: 4,
  });
  expect((await client.ask('fs/getMetadata', { path: 'file:///.git' })).error?.code).toBe(-32004);
  expect((await client.ask('fs/getMetadata', { path: url('.git') })).error?.code).toBe(-32004);
  expect(await client.request('fs/readDirectory', { path: url('src') })).toEqual({
    entries: [
      { fileName: 'a.txt', isDirectory: false, isFile: true },
      { fileName: 'sub', isDirectory: true, isFile: false },
    ],
  });
  await client.request('fs/copy', { sourcePath: url('src/sub'), destinationPath: url('src/copy'), recursive: true });
  expect((await client.ask('fs/copy', { sourcePath: url('src/no'), destinationPath: url('src/n') })).error?.code).toBe(
    -32004,
  );
  await start('p1', 'ln -s sub src/link');
  await ended('p1');
  expect(await client.request('fs/getMetadata', { path: url('src/link') })).toMatchObject({
    isSymlink: true,
    isDirectory: true,
  });
  expect(await client.request('fs/canonicalize', { path: url('src/link/b.txt') })).toEqual({
    path: url('src/sub/b.txt'),
  });
  await client.request('fs/open', { handleId: 'h', path: url('src/copy/b.txt') });
  expect(await client.request('fs/readBlock', { handleId: 'h', offset: 1, len: 2 })).toEqual({
    chunk: Buffer.from('wo').toString('base64'),
    eof: false,
  });
  expect(await client.request('fs/readBlock', { handleId: 'h', offset: 2, len: 9 })).toMatchObject({ eof: true });
  await client.request('fs/close', { handleId: 'h' });
  await client.request('fs/remove', { path: url('src/copy'), recursive: true, force: false });
  expect((await client.ask('fs/remove', { path: url('src/copy'), force: false })).error?.code).toBe(-32004);
  await client.request('fs/remove', { path: url('src/copy') });
  await run.close();
  expect(await readFile(run.dir.patch, 'utf8')).toContain('+two');
});
