import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { openSigningKey } from '../../bundle/signing-key.ts';
import { DataDir } from '../../data-dir/data-dir.ts';
import { answerJson, FakeService } from '../../client/service.fixture.ts';
import { Lanes } from '../../stats/lanes.ts';
import { someFacts } from '../../stats/some-facts.fixture.ts';
import { groupings, Stats } from '../../stats/stats.ts';
import { makeRun } from '../../store/runs.fixture.ts';
import { makeManyRuns } from '../../../test/fixtures/many-runs.ts';
import type { CliContext } from '../context.ts';
import { runCli } from '../program.ts';
import { sinceTime } from './since.ts';

let dir: string;
let out: string;
let err: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'glovebox-stats-'));
  const config = join(dir, 'config.yaml');
  await writeFile(config, '{}\n');
  vi.stubEnv('GLOVEBOX_CONFIG', config);
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => ((out += String(text)), true));
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((err += String(text)), true));
});
afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  await rm(dir, { recursive: true, force: true });
});

const none = (): Promise<never> => Promise.reject(new Error('needs no engine'));

async function cli(...argv: string[]): Promise<number> {
  [out, err] = ['', ''];
  const context: CliContext = { connect: none, reach: none, openDataDir: () => DataDir.open(dir) };
  return runCli(['node', 'glovebox', 'stats', ...argv], context);
}

test('where there is nothing to count it says so, and what to do', async () => {
  expect(await cli()).toBe(0);
  expect(out).toContain('--since all looks at every run');
  expect(await cli('--json')).toBe(0);
  expect(Stats.parse(JSON.parse(out))).toMatchObject({ from: null, all: { runs: 0 } });
});

test('every group has a row in both tables, and what is left out is told', async () => {
  const { private: key } = await openSigningKey(dir);
  const dataDir = await DataDir.open(dir);
  await makeManyRuns(dataDir, { runs: 60, fromMs: Date.now() - 86_400_000, key });
  expect(await cli('--by', 'lane')).toBe(0);
  for (const name of ['explore', 'commit', '(none)', 'all']) expect(out.split(`\n${name} `)).toHaveLength(3);
  expect(out).toMatch(/LANE +RUNS +FINISHED +MEDIAN +P95 +ACCEPTED/);
  expect(out).toMatch(/left out: \d+ still open, \d+ made to verify or replay others/);
  expect(out).not.toMatch(/NaN|Infinity|undefined|null/);
  expect(err).toBe('');
  expect(await cli('--by', 'model', '--json')).toBe(0);
  const stats = Stats.parse(JSON.parse(out));
  expect(stats.groups.map(({ name }) => name).sort()).toEqual(['(none)', 'large', 'small']);
});

test('a journal that is not what was written is named on standard error, and the rest is counted', async () => {
  const dataDir = await DataDir.open(dir);
  await makeRun(dataDir);
  const { id } = await makeRun(dataDir, { effective: { name: 'test', lane: 'x' } });
  await writeFile(dataDir.runDir(id).journal, 'no journal\n');
  expect(await cli()).toBe(0);
  expect(err).toContain(`not counted: run ${id}`);
  expect(stripVTControlCharacters(out)).toContain('1 run, by lane');
  expect(out).toContain('1 not what was written');
});

test.each([
  ['--since', 'yesterday'],
  ['--since', '30'],
  ['--since', '2026-13-01'],
  ['--by', 'team'],
])('a usage error is told before anything is read: %s %s', async (...argv) => {
  expect(await cli(...argv)).toBe(2);
  expect(out).toBe('');
});

test('the service that is given is asked, for its team, and the page has all groupings', async () => {
  const lanes = new Lanes({ nowMs: Date.now() });
  lanes.add(someFacts({ models: ['small'] }));
  await using fake = await FakeService.start((request, response) => {
    const by = new URL(request.url ?? '', 'http://service').searchParams.get('by');
    answerJson(response, lanes.stats(groupings.find((one) => one === by) ?? 'lane'));
  });
  vi.stubEnv('GLOVEBOX_URL', `unix:${fake.socketPath}`);
  expect(await cli('--by', 'model', '--since', '2026-01-01', '--html', join(dir, 'stats.html'))).toBe(0);
  expect(out).toMatch(/^small +1 /m);
  expect(fake.asked[0]).toBe('GET /v1/stats?since=2026-01-01T00%3A00%3A00.000Z&by=model');
  expect(fake.asked).toHaveLength(groupings.length);
  fake.handler = (_, response) => answerJson(response, { v: 1, all: { runs: '\u001b[2J' } });
  expect(await cli()).toBe(125);
  expect(err).toContain('statistics in another form');
});

test('--html writes the page beside what is printed, and says why it cannot', async () => {
  await makeRun(await DataDir.open(dir));
  const file = join(dir, 'stats.html');
  expect(await cli('--html', file, '--json')).toBe(0);
  expect(Stats.parse(JSON.parse(out)).all.runs).toBe(1);
  expect(await readFile(file, 'utf8')).toContain("default-src 'none'");
  expect(await cli('--html', join(dir, 'no', 'where.html'))).toBe(125);
  expect(err).toContain('name a file in a directory that is there');
});

const nowMs = Date.parse('2026-03-01T12:00:00.000Z');
test.each([
  ['all', undefined],
  ['90m', '2026-03-01T10:30:00.000Z'],
  ['36h', '2026-02-28T00:00:00.000Z'],
  ['30d', '2026-01-30T12:00:00.000Z'],
  ['2w', '2026-02-15T12:00:00.000Z'],
  ['99999w', '1970-01-01T00:00:00.000Z'],
  ['2026-02-03', '2026-02-03T00:00:00.000Z'],
  ['2026-02-03T04:05', '2026-02-03T04:05:00.000Z'],
  ['2026-02-03T04:05:06.789+02:00', '2026-02-03T02:05:06.789Z'],
])('--since %s is %s', (text, expected) => {
  const ms = sinceTime(text, nowMs);
  expect(ms === undefined ? undefined : new Date(ms).toISOString()).toBe(expected);
});
