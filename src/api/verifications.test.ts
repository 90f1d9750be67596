import { existsSync, rmSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { verifyIt, type ClosedRun } from '../bundle/closed-run.fixture.ts';
import type { Problem } from '../contract/problem.ts';
import { VerificationList, VerificationState } from '../contract/verification-view.ts';
import { RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import { someVerification } from '../verify/verification.fixture.ts';
import { writeVerification } from '../verify/verification-files.ts';
import type { VerifyOptions } from '../verify/verify.ts';
import { Api } from './api.fixture.ts';

/** What was asked of the runner, and how it comes out. */
class Judging {
  readonly options: VerifyOptions;
  readonly end: () => void;
  readonly fail: (error: unknown) => void;

  constructor(options: VerifyOptions, end: () => void, fail: (error: unknown) => void) {
    this.options = options;
    this.end = end;
    this.fail = fail;
  }
}

let api: Api;
let run: ClosedRun;
let ann: string;
let judging: Judging[];
beforeEach(async () => {
  api = await Api.open();
  judging = [];
  ann = api.key();
  run = await api.fake.closedRun();
  api.fake.runner.verify = (id, options) =>
    new Promise((resolve, reject) => {
      const dir = api.fake.service.dataDir.runDir(id);
      const end = (): void => {
        const { id: called = newId() } = options;
        resolve(writeVerification(dir, { ...someVerification({ run: id }), id: called }));
      };
      judging.push(new Judging(options, end, reject));
      options.signal?.addEventListener('abort', () => reject(options.signal?.reason as Error));
    });
});
afterEach(() => api.close());

type Answered = Partial<VerificationState & Problem>;

async function ask(
  method: string,
  path: string,
  body?: object,
  key = ann,
  id = run.dir.id,
): Promise<readonly [number, Answered]> {
  const answer = await api.ask(key, method, `/v1/runs/${id}/verifications${path}`, body);
  return [answer.status, (await answer.json()) as Answered];
}

async function list(): Promise<VerificationList> {
  return VerificationList.parse((await ask('GET', ''))[1]);
}

function judged(at = 0): Judging {
  const found = judging[at];
  if (found === undefined) throw new Error('nothing is being judged');
  return found;
}

const gate = someVerification({}).gates[0];

describe('a verification over HTTP', () => {
  test('begins, says how far it has come to whoever waits, and ends as the record that holds', async () => {
    const [status, begun] = await ask('POST', '');
    expect([status, VerificationState.parse(begun)]).toMatchObject([202, { state: 'running', by: 'ann', gates: [] }]);
    const { id = '', step } = begun;
    const waits = ask('GET', `/${id}?seen=${step}&waitMs=10000`);
    judged().options.onAttempt?.('unit/candidate/same');
    expect(await waits).toMatchObject([200, { state: 'running', attempt: 'unit/candidate/same', step: 1 }]);
    if (gate !== undefined) judged().options.onGate?.(gate);
    expect(await ask('GET', `/${id}?seen=1&waitMs=10000`)).toMatchObject([
      200,
      { gates: [gate], attempt: null, step: 2 },
    ]);
    expect((await list()).running).toMatchObject({ id, step: 2 });
    const last = ask('GET', `/${id}?seen=2&waitMs=10000`);
    judged().end();
    const [, ended] = await last;
    expect(VerificationState.parse(ended)).toMatchObject({ id, state: 'ended', verification: { id, run: run.dir.id } });
    expect(await list()).toMatchObject({ verifications: [{ id, verdict: 'passed' }], running: null });
    const newest = await api.ask(ann, 'GET', `/v1/runs/${run.dir.id}/verification`);
    expect(await newest.json()).toMatchObject({ digest: ended.digest, verification: { id } });
    const { events } = api.fake.service;
    const told = events.after('red', 0, 100)?.filter(({ type }) => type.startsWith('verification'));
    expect(told).toMatchObject([
      { type: 'verification.started', verification: id, by: 'ann' },
      { type: 'verification.gate', gate: gate?.id },
      { type: 'verification.ended', outcome: 'passed' },
    ]);
  });

  test('is one at a time, whoever asks and however often, and nothing is done twice', async () => {
    const bob = api.key({ identity: 'bob' });
    const asked = await Promise.all([ask('POST', ''), ask('POST', '', {}), ask('POST', '', {}, bob)]);
    expect(new Set(asked.map(([, { id }]) => id)).size).toBe(1);
    expect(judging).toHaveLength(1);
    judged().end();
    const id = asked[0]?.[1].id ?? '';
    await ask('GET', `/${id}?seen=0&waitMs=10000`);
    expect(await ask('POST', '')).toMatchObject([202, { id, state: 'ended' }]);
    // The answer was lost, and a newer one than that of before was wanted: this is it.
    expect(await ask('POST', '', { after: newId(0) })).toMatchObject([202, { id, state: 'ended' }]);
    expect(judging).toHaveLength(1);
    const [, again] = await ask('POST', '', { after: id });
    expect([again.state, again.id === id, judging.length]).toEqual(['running', false, 2]);
  });

  test('goes on when its client has gone, and another asks by its id', async () => {
    const [, { id = '' }] = await ask('POST', '');
    const leaving = new AbortController();
    const path = `http://service/v1/runs/${run.dir.id}/verifications/${id}?seen=0&waitMs=60000`;
    const request = new Request(path, { headers: { authorization: `Bearer ${ann}` }, signal: leaving.signal });
    const gone = Promise.resolve(api.app.fetch(request)).catch(() => undefined);
    leaving.abort();
    judged().end();
    await gone;
    expect(await ask('GET', `/${id}`)).toMatchObject([200, { state: 'ended' }]);
  });

  test('that is given up leaves nothing, says so by its id, and the next one begins', async () => {
    const [, { id = '' }] = await ask('POST', '');
    expect(await ask('POST', `/${id}/cancel`)).toMatchObject([200, { id, state: 'cancelled', problem: null }]);
    expect(await ask('POST', `/${id}/cancel`)).toMatchObject([200, { state: 'cancelled' }]);
    expect(judged().options.signal?.aborted).toBe(true);
    expect(existsSync(run.dir.verificationsDir)).toBe(false);
    expect(await ask('POST', '')).toMatchObject([202, { state: 'running' }]);
    expect(judging).toHaveLength(2);
  });

  test('that cannot be made is told with a code, and nothing of this machine or of what is no failure of ours to tell', async () => {
    const { path } = api.fake.service.dataDir;
    const failures = [new RunnerError('engine_unavailable', `no engine for ${path}/x`), new Error(`secret ${path}`)];
    for (const [at, error] of failures.entries()) {
      const [, { id = '' }] = await ask('POST', '');
      judged(at).fail(error);
      const [, failed] = await ask('GET', `/${id}?seen=0&waitMs=10000`);
      expect(failed).toMatchObject({ state: 'failed', verification: null });
      expect(failed.problem?.code).toBe(at === 0 ? 'engine_unavailable' : 'internal');
      expect(JSON.stringify(failed)).not.toMatch(new RegExp(`secret|${path}`));
    }
  });
});

describe('a verification takes the place of a run', () => {
  test('of its key, until it has ended however it ends', async () => {
    const small = api.key({ identity: 'eve', quota: { openRuns: 1 } });
    const other = await api.fake.closedRun();
    const [, { id = '' }] = await ask('POST', '', {}, small);
    expect(await ask('POST', '', {}, small, other.dir.id)).toMatchObject([429, { code: 'rate_limited' }]);
    expect((await api.ask(small, 'POST', '/v1/runs', {})).status).toBe(429);
    await ask('POST', `/${id}/cancel`, undefined, small);
    const [status, next] = await ask('POST', '', {}, small, other.dir.id);
    expect(status).toBe(202);
    judged(1).end();
    await ask('GET', `/${next.id}?seen=0&waitMs=10000`, undefined, small, other.dir.id);
    expect((await api.ask(small, 'POST', '/v1/runs', {})).status).toBe(201);
  });

  test('and is refused where the disk is full, as a run is', async () => {
    api.fake.clock.freeBytes = 0;
    expect(await ask('POST', '')).toMatchObject([507, { code: 'insufficient_storage' }]);
    expect(judging).toEqual([]);
  });

  test('and ends as draining when the service stops, which begins no more', async () => {
    const [, { id = '' }] = await ask('POST', '');
    judged().options.signal?.addEventListener('abort', () => judged().options.onAttempt?.('unit/base/same'));
    const waits = ask('GET', `/${id}?seen=0&waitMs=10000`);
    await api.fake.service.drain(10_000);
    expect(await waits).toMatchObject([200, { state: 'failed', problem: { code: 'draining' } }]);
    expect(await ask('GET', `/${id}`)).toMatchObject([
      200,
      { state: 'failed', problem: { code: 'draining', retryable: true } },
    ]);
    expect(existsSync(run.dir.verificationsDir)).toBe(false);
    expect(await ask('POST', '')).toMatchObject([503, { code: 'draining' }]);
  });
});

describe('nothing is verified', () => {
  test('of a run that is open, or whose policy is no longer kept', async () => {
    const open = await api.open(ann);
    expect(await ask('POST', '', {}, ann, open.id)).toMatchObject([409, { code: 'run_not_open' }]);
    rmSync(run.dir.policy);
    expect(await ask('POST', '')).toMatchObject([404, { code: 'not_found' }]);
  });

  test('of another team; nor is there one to look at or to give up', async () => {
    const [, { id = '' }] = await ask('POST', '');
    const blue = api.key({ team: 'blue', identity: 'bob' });
    const wanted = [404, { code: 'run_not_found' }];
    expect(await ask('POST', '', {}, blue)).toMatchObject(wanted);
    expect(await ask('GET', '', undefined, blue)).toMatchObject(wanted);
    expect(await ask('GET', `/${id}`, undefined, blue)).toMatchObject(wanted);
    expect(await ask('POST', `/${id}/cancel`, undefined, blue)).toMatchObject(wanted);
    // By way of a run of one's own it is none either.
    const own = await api.fake.closedRun({ team: 'blue', identity: 'bob' });
    expect(await ask('GET', `/${id}`, undefined, blue, own.dir.id)).toMatchObject([404, { code: 'not_found' }]);
    expect(await ask('POST', `/${id}/cancel`, undefined, blue, own.dir.id)).toMatchObject([404, { code: 'not_found' }]);
    expect(judged().options.signal?.aborted).toBe(false);
    await verifyIt(api.fake.service.dataDir, own);
    expect((await ask('GET', '', undefined, blue, own.dir.id))[0]).toBe(200);
  });
});
