import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkJournal } from '../src/journal/check.ts';
import { readEntries } from '../src/journal/read.ts';
import { Bench, smallPolicyText } from './fixtures/bench.ts';
import { Serving } from './fixtures/serving.ts';
import { ShiftedClock } from './fixtures/shifted-clock.ts';

/** The wall clock of a service jumps while much is under way: what is measured is measured by the other one. */
let bench: Bench;
let clock: ShiftedClock;
let serving: Serving;

const hourMs = 3_600_000;
const rules = `approvals: { categories: { pulling: { timeout: 3s } } }
commands:
  - { id: pull, match: { program: curl }, effect: require_approval, category: pulling, tests: { match: [curl x] } }
  - { id: rest, match: { program: "*" }, effect: allow, tests: { match: [ls] } }
`;
const policy = { text: smallPolicyText(rules) };

beforeAll(async () => {
  bench = await Bench.make();
  clock = new ShiftedClock();
  serving = await Serving.open(bench);
});
afterAll(async () => {
  await serving.close();
  clock.restore();
  await bench.close();
});

interface Timed {
  readonly status: number;
  readonly json: Readonly<Record<string, unknown>>;
  readonly ms: number;
}

/** How long it took. */
async function timed(work: Promise<Pick<Timed, 'status' | 'json'>>): Promise<Timed> {
  const startMs = performance.now();
  const { status, json } = await work;
  return { status, json, ms: performance.now() - startMs };
}

/** An approval of this call that waits. */
async function waiting(run: string, callId: string, key: string): Promise<string> {
  const asked = await serving.call(run, callId, { tool: 'exec', argv: ['curl', callId] }, key);
  expect(asked.json).toMatchObject({ error: { code: 'waiting_for_approval' } });
  const { json } = await serving.ask(`/v1/approvals?state=pending&run=${run}`, { key });
  const found = (json['approvals'] as { id: string; callId: string }[]).find((each) => each.callId === callId);
  return found?.id ?? '';
}

describe.each([
  ['an hour on', hourMs],
  ['an hour back', -hourMs],
])('a clock that jumps %s', (_, jumpMs) => {
  test('moves no deadline: commands, long polls, approvals, quotas and runs end when their time is over', async () => {
    clock.aheadMs = 0;
    const ann = serving.key({ identity: `ann${jumpMs}`, policies: 'any' });
    const bob = serving.key({ identity: `bob${jumpMs}`, scopes: ['approve', 'read'] });
    const few = { openRuns: 1, callsPerMinute: 10, cpuMillis: 4_000, diskBytes: 2 ** 30 };
    const eve = serving.key({ identity: `eve${jumpMs}`, team: 'blue', quota: few, policies: 'any' });
    const run = await serving.open({ policy }, ann);
    const theirs = await serving.open({ policy }, eve);
    const [answered, ignored] = [await waiting(run, 'answered', ann), await waiting(run, 'ignored', ann)];
    const ignoredMs = performance.now();
    const at = `/v1/runs/${run}/calls`;
    const sleeping = { tool: 'exec', script: 'echo on; sleep 15', yieldMs: 0 };
    await serving.call(run, 'long', sleeping, ann);
    const bounded = timed(serving.call(run, 'bounded', { ...sleeping, killAfterMs: 1_500, yieldMs: 10_000 }, ann));
    const yielding = timed(serving.call(run, 'yielding', { ...sleeping, yieldMs: 1_200 }, ann));
    const polling = timed(serving.ask(`${at}/long/output?offset=3&waitMs=1000`, { key: ann }));
    const outcome = timed(serving.ask(`${at}/long?waitMs=1000`, { key: ann }));
    let limited = await serving.ask(at, { key: eve });
    for (let n = 0; n < 20 && limited.status !== 429; n++)
      limited = await serving.call(theirs, `c${n}`, { tool: 'list', path: '.' }, eve);
    expect(limited.status).toBe(429);

    clock.aheadMs = jumpMs;
    const again = await serving.call(theirs, 'again', { tool: 'list', path: '.' }, eve);
    expect(again).toMatchObject({ status: 429, json: { code: 'rate_limited' } });
    expect(Number(again.headers['retry-after'])).toBeLessThan(60);
    const approve = { method: 'POST', body: { approve: true }, key: bob };
    expect((await serving.ask(`/v1/approvals/${answered}`, approve)).json).toMatchObject({ state: 'approved' });
    const call = { tool: 'exec', argv: ['curl', 'answered'] };
    await expect.poll(async () => (await serving.call(run, 'answered', call, ann)).json['error']).toBe(null);
    expect((await bounded).json).toMatchObject({ data: { outcome: { kind: 'timed_out', afterMs: 1_500 } } });
    expect((await yielding).json).toMatchObject({ data: { state: 'running' } });
    for (const [wait, leastMs] of [
      [bounded, 1_450],
      [yielding, 1_150],
      [polling, 950],
      [outcome, 950],
    ] as const) {
      expect((await wait).ms).toBeGreaterThan(leastMs);
      expect((await wait).ms).toBeLessThan(6_000);
    }
    const left = (await serving.ask(`/v1/runs/${run}/budget`, { key: ann })).json;
    expect(Number(left['wallClockMs'])).toBeGreaterThan(hourMs / 10);
    const decided = async () => (await serving.ask(`/v1/approvals/${ignored}`, { key: bob })).json['state'];
    await expect.poll(decided, { timeout: 10_000 }).toBe('expired');
    expect(performance.now() - ignoredMs).toBeGreaterThan(2_500);
    const late = await serving.ask(`/v1/approvals/${ignored}`, approve);
    expect(late).toMatchObject({ status: 409, json: { code: 'conflict' } });

    expect((await serving.ask(`${at}/long/kill`, { method: 'POST', body: {}, key: ann })).status).toBe(200);
    expect((await serving.ask(`/v1/runs/${run}/close`, { method: 'POST', body: {}, key: ann })).json).toMatchObject({
      state: 'closed',
    });
    await serving.ask(`/v1/runs/${theirs}/close`, { method: 'POST', body: {}, key: eve });
    const { journal } = bench.dataDir.runDir(run);
    expect(await checkJournal(journal)).toMatchObject({ verdict: 'closed', findings: [], openCalls: [] });
    for await (const { data } of readEntries(journal)) if ('ms' in data) expect(data.ms).toBeLessThan(60_000);
  });

  test('makes a key that is to end in half an hour what its date says, with a typed refusal', async () => {
    clock.aheadMs = 0;
    const key = serving.key({ expiresAt: new Date(Date.now() + hourMs / 2).toISOString() });
    const list = () => serving.ask('/v1/runs', { key });
    expect((await list()).status).toBe(200);
    clock.aheadMs = jumpMs;
    expect(await list()).toMatchObject(
      jumpMs > 0 ? { status: 401, json: { code: 'unauthenticated' } } : { status: 200 },
    );
    clock.aheadMs = 0;
    expect((await list()).status).toBe(200);
  });

  test('and then another run opens, works and is listed', async () => {
    clock.aheadMs = jumpMs;
    const run = await serving.open({ policy });
    expect((await serving.call(run, 'c', { tool: 'exec', script: 'date +%s' })).json).toMatchObject({ ok: true });
    const { json } = await serving.ask('/v1/runs?state=open');
    expect(json['runs']).toMatchObject([{ id: run }]);
    expect((await serving.ask(`/v1/runs/${run}/close`, { method: 'POST', body: {} })).json).toMatchObject({
      outcome: 'finished',
    });
  });
});
