import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkJournal } from '../src/journal/check.ts';
import { readEntries } from '../src/journal/read.ts';
import { Bench, smallPolicyText } from './fixtures/bench.ts';
import { DyingService } from './fixtures/dying-service.ts';
import { Serving } from './fixtures/serving.ts';
import { ShiftedClock } from './fixtures/shifted-clock.ts';

/** The wall clock of a machine is set while no service is there: what the next one takes up is as old as the kernel says. */
let bench: Bench;
let clock: ShiftedClock;

beforeEach(async () => {
  bench = await Bench.make();
  clock = new ShiftedClock();
});
afterEach(async () => {
  clock.restore();
  await bench.close();
});

const daysMs = 3 * 86_400_000;
const rules = `approvals: { categories: { long: { timeout: 30m }, short: { timeout: 8s } } }
commands:
  - { id: long, match: { program: curl }, effect: require_approval, category: long, tests: { match: [curl x] } }
  - { id: short, match: { program: wget }, effect: require_approval, category: short, tests: { match: [wget x] } }
  - { id: rest, match: { program: "*" }, effect: allow, tests: { match: [ls] } }
`;

test.each([
  ['three days on', daysMs],
  ['three days back', -daysMs],
])(
  'a clock that was set %s between two services gives no run, call or approval more time, or less',
  async (_, jumpMs) => {
    const dying = new DyingService(bench.dataDir.path);
    await dying.start();
    const opened = await dying.insist('POST', '/v1/runs', { policy: { text: smallPolicyText(rules) } });
    expect(opened.status, JSON.stringify(opened.json)).toBe(201);
    const run = String(opened.json['id']);
    const at = `/v1/runs/${run}/calls`;
    const make = (callId: string, argv: readonly string[]) =>
      dying.ask('PUT', `${at}/${callId}`, { tool: 'exec', argv, yieldMs: 0 });
    await make('going', ['sh', '-c', 'sleep 5; echo on']);
    const asked = [make('answered', ['curl', 'x']), make('ignored', ['wget', 'x'])];
    const pending = async () => (await dying.ask('GET', `/v1/approvals?run=${run}&state=pending`))?.json['approvals'];
    await expect.poll(pending).toHaveLength(2);
    const askedMs = performance.now();
    const before = Number((await dying.insist('GET', `/v1/runs/${run}/budget`)).json['wallClockMs']);
    dying.kill();
    await dying.died();
    expect(await Promise.all(asked)).toEqual([undefined, undefined]);

    clock.aheadMs = jumpMs;
    const serving = await Serving.open(bench);
    try {
      const bob = serving.key({ identity: 'bob', scopes: ['approve', 'read'], team: 'local' });
      const { json: left } = await serving.ask(`/v1/runs/${run}/budget`);
      expect(left['wallClockMs']).toBeLessThan(before);
      expect(left['wallClockMs']).toBeGreaterThan(before - 60_000);
      const { json } = await serving.ask(`/v1/approvals?run=${run}`);
      const approvals = json['approvals'] as { id: string; callId: string; state: string }[];
      const idOf = (callId: string): string => approvals.find((one) => one.callId === callId)?.id ?? callId;
      const approve = { method: 'POST', body: { approve: true }, key: bob };
      expect((await serving.ask(`/v1/approvals/${idOf('answered')}`, approve)).json).toMatchObject({
        state: 'approved',
      });
      const state = async () => (await serving.ask(`/v1/approvals/${idOf('ignored')}`)).json['state'];
      await expect.poll(state, { timeout: 15_000 }).toBe('expired');
      expect(performance.now() - askedMs).toBeLessThan(20_000);
      expect((await serving.ask(`/v1/approvals/${idOf('ignored')}`, approve)).status).toBe(409);
      const going = (await serving.ask(`${at}/going?waitMs=10000`)).json;
      expect(going, JSON.stringify(going)).toMatchObject({ data: { outcome: { kind: 'exited', code: 0 } } });
      await serving.ask(`/v1/runs/${run}/close`, { method: 'POST', body: {} });
    } finally {
      await serving.close();
    }
    const { journal } = bench.dataDir.runDir(run);
    expect(await checkJournal(journal)).toMatchObject({ verdict: 'closed', findings: [], openCalls: [] });
    for await (const { mono, data } of readEntries(journal)) {
      expect(mono).toBeLessThan(120_000);
      if ('ms' in data) expect(data.ms).toBeLessThan(60_000);
    }
  },
);
