import { mkdir } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Problem } from '../contract/problem.ts';
import { RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import { Answers } from '../run/answers.ts';
import { CallRequest } from '../run/call-request.ts';
import { parseCall } from '../tools/parse-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import { standardAdmission } from './admission.ts';
import { Api, openApiWithRun } from './api.fixture.ts';
import { allRoutes } from './routes.ts';

async function problemOf(answer: Response): Promise<Problem> {
  expect(answer.headers.get('content-type')).toBe('application/problem+json');
  return (await answer.json()) as Problem;
}

describe('a request', async () => {
  const { api, key, run } = await openApiWithRun({ policies: 'any' });

  const strict = allRoutes().flatMap((route) =>
    route.kind === 'http' && route.body?.kind === 'json' && route.operation !== 'makeCall' ? [route] : [],
  );

  test.each(strict.map((route) => [route.operation, route] as const))(
    '%s with a field that it does not know is refused, by name',
    async (_, route) => {
      const path = route.path
        .replace('{run}', run)
        .replace('{callId}', 'c')
        .replaceAll(/\{\w+\}/g, newId());
      const answer = await api.ask(key, route.method, path, { HostConfig: { Binds: ['/:/host'] } });
      const problem = await problemOf(answer);
      expect([answer.status, problem.code]).toEqual([400, 'invalid_request']);
      expect(problem.detail).toContain('HostConfig');
    },
  );

  test('by a method that its route does not have is told the ones it has; a path without a route is not found', async () => {
    for (const [method, path, allow] of [
      ['DELETE', '/v1/runs', 'POST, GET'],
      ['POST', `/v1/runs/${run}/diff`, 'GET'],
      ['PATCH', `/v1/runs/${run}/files/src/a.ts`, 'GET, PUT'],
    ] as const) {
      const answer = await api.ask(key, method, path);
      expect([answer.status, answer.headers.get('allow')]).toEqual([405, allow]);
      expect((await problemOf(answer)).code).toBe('method_not_allowed');
    }
    const nowhere = await api.ask(key, 'GET', '/v1/nowhere');
    expect([nowhere.status, nowhere.headers.get('allow')]).toEqual([404, null]);
    expect((await problemOf(nowhere)).code).toBe('not_found');
  });

  test('a call with a field that its tool does not know is refused, and is no call', async () => {
    const call = { tool: 'exec', argv: ['true'], User: 'root' };
    const answer = await api.ask(key, 'PUT', `/v1/runs/${run}/calls/smuggled`, call);
    expect((await problemOf(answer)).detail).toContain('User');
    expect(api.fake.runner.get(run).made).not.toContain('smuggled');
  });

  test('what is no JSON, too deep, too long, of another type, or a query nobody knows, is refused as what it is', async () => {
    const json = { 'content-type': 'application/json' };
    const deep = `{"name":${'['.repeat(100_000)}${']'.repeat(100_000)}}`;
    const long = 'x'.repeat(1_048_577);
    const tables: [number, string, string, string, unknown, Record<string, string>][] = [
      [400, 'invalid_request', 'POST', '/v1/runs', '{', json],
      [400, 'invalid_request', 'POST', '/v1/runs', '[]', json],
      [400, 'invalid_request', 'POST', '/v1/runs', deep, json],
      [413, 'payload_too_large', 'POST', '/v1/runs', long, json],
      [415, 'unsupported_media_type', 'POST', '/v1/runs', '<run/>', { 'content-type': 'text/xml' }],
      [400, 'invalid_request', 'GET', '/v1/runs?limit=0', undefined, {}],
      [400, 'invalid_request', 'GET', '/v1/runs?limit=5&limit=6', undefined, {}],
      [400, 'invalid_request', 'GET', '/v1/runs?teams=all', undefined, {}],
      [400, 'invalid_request', 'GET', `/v1/runs/${run}?x=1`, undefined, {}],
      [400, 'invalid_request', 'GET', '/v1/runs/not-an-id', undefined, {}],
      [400, 'invalid_request', 'PUT', `/v1/runs/${run}/calls/.hidden`, { tool: 'exec_list' }, json],
      [400, 'invalid_request', 'PUT', `/v1/runs/${run}/calls/a%2Fb`, { tool: 'exec_list' }, json],
      [400, 'invalid_request', 'PUT', `/v1/runs/${run}/calls/a%00b`, { tool: 'exec_list' }, json],
      [400, 'invalid_request', 'PUT', `/v1/runs/${run}/calls/c`, '[]', json],
      [404, 'not_found', 'GET', '/v2/runs', undefined, {}],
      [405, 'method_not_allowed', 'DELETE', '/v1/runs', undefined, {}],
    ];
    for (const [status, code, method, path, body, headers] of tables) {
      const answer = await api.ask(key, method, path, body, headers);
      expect([answer.status, (await problemOf(answer)).code], `${method} ${path}`).toEqual([status, code]);
    }
  });

  test('a body without a length is counted while it comes, and cut off at the bound', async () => {
    const piece = new Uint8Array(262_144).fill(0x20);
    const sent = { pieces: 0 };
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent.pieces += 1;
        controller.enqueue(piece);
      },
    });
    const answer = await api.ask(key, 'POST', '/v1/runs', endless, { 'content-type': 'application/json' });
    expect((await problemOf(answer)).code).toBe('payload_too_large');
    expect(sent.pieces).toBeLessThan(10);
  });

  test('every answer names its request, and so does the log, once, where something failed', async () => {
    const missing = await api.ask(key, 'GET', `/v1/runs/${newId()}`);
    const id = missing.headers.get('x-request-id') ?? '';
    expect((await problemOf(missing)).requestId).toBe(id);
    expect(api.log.filter((line) => line.includes(id))).toHaveLength(1);
  });

  test('a mistake of ours says nothing of itself, but in the log', async () => {
    const fake = api.fake.runner.get(run);
    const secret = `/root/secret ${key}`;
    fake.gate = Promise.reject(new TypeError(secret));
    fake.gate.catch(() => undefined);
    const answer = await api.ask(key, 'PUT', `/v1/runs/${run}/calls/broken`, { tool: 'exec_kill', callId: 'x' });
    const text = await answer.text();
    fake.gate = Promise.resolve();
    expect(answer.status).toBe(500);
    expect(text).not.toContain('secret');
    expect(text).not.toContain('at ');
    expect(api.log.some((line) => line.includes('TypeError'))).toBe(true);
  });

  test('paths of the machine of the service are not told', async () => {
    const fake = api.fake.runner.get(run);
    fake.gate = Promise.reject(
      new RunnerError('journal_unavailable', `cannot write ${api.fake.directory}/runs/x/journal.ndjson`),
    );
    fake.gate.catch(() => undefined);
    const answer = await api.ask(key, 'PUT', `/v1/runs/${run}/calls/disk`, { tool: 'exec_kill', callId: 'x' });
    fake.gate = Promise.resolve();
    expect((await problemOf(answer)).detail).toBe('cannot write <data>/runs/x/journal.ndjson');
  });

  test('neither answers nor logs hold a key', async () => {
    await api.ask(key, 'GET', `/v1/runs/${newId()}`, undefined, { cookie: key });
    await api.ask(`${key}x`, 'GET', '/v1/runs');
    expect(api.log.join('')).not.toContain(key);
  });
});

describe('a call', async () => {
  const { api, key, run } = await openApiWithRun();

  test('made twice with one id is made once; both are given its answer', async () => {
    const call = { tool: 'exec', argv: ['true'] };
    const put = async (): Promise<unknown> => (await api.ask(key, 'PUT', `/v1/runs/${run}/calls/once`, call)).json();
    const [first, second] = await Promise.all([put(), put()]);
    expect(second).toEqual(first);
    expect(await put()).toEqual(first);
    expect(api.fake.runner.get(run).made.filter((id) => id === 'once')).toHaveLength(1);
  });

  test('under the id of another request is refused by what it is, and not made, also once the run is closed', async () => {
    const own = (await api.open(key)).id;
    const path = `/v1/runs/${own}/calls/taken`;
    const call = { tool: 'exec', script: 'true' } as const;
    const first: unknown = await (await api.ask(key, 'PUT', path, call)).json();
    const { made, dir } = api.fake.runner.get(own);
    await mkdir(dir.path, { recursive: true });
    const answers = Answers.create(dir.answers);
    await answers.once('taken', new CallRequest(parseCall('taken', call)), async () => first as ToolResult);
    await answers.close();
    for (const isClosed of [false, true]) {
      if (isClosed) await api.ask(key, 'POST', `/v1/runs/${own}/close`, {});
      expect(await (await api.ask(key, 'PUT', path, { ...call, yieldMs: 0 })).json()).toEqual(first);
      const other = await api.ask(key, 'PUT', path, { ...call, script: 'false' });
      const problem = await problemOf(other);
      expect([other.status, problem]).toMatchObject([409, { code: 'call_id_reused' }]);
      expect(problem.detail).toMatch(/call id taken .* exec .*new id/);
    }
    expect(made).toEqual(['taken']);
  });

  test('goes on when its client leaves, and its answer can be asked for', async () => {
    const fake = api.fake.runner.get(run);
    let open: () => void = () => undefined;
    fake.gate = new Promise((resolve) => {
      open = resolve;
    });
    const leaving = new AbortController();
    const request = new Request(`http://service/v1/runs/${run}/calls/left`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ tool: 'exec', argv: ['true'] }),
      signal: leaving.signal,
    });
    const asked = api.app.fetch(request);
    await expect.poll(() => fake.made.includes('left')).toBe(true);
    leaving.abort();
    open();
    await asked;
    const answer = await api.ask(key, 'GET', `/v1/runs/${run}/calls/left`);
    expect(await answer.json()).toMatchObject({ callId: 'left', ok: true });
    expect(fake.made.filter((id) => id === 'left')).toHaveLength(1);
  });

  test('more often than its key may is told to wait, with the time', async () => {
    const slow = api.key({ quota: { callsPerMinute: 2 } });
    const own = (await api.open(slow)).id;
    const call = { tool: 'exec', argv: ['true'] };
    const answers = [];
    for (let n = 0; n < 4; n++) answers.push(await api.ask(slow, 'PUT', `/v1/runs/${own}/calls/c${n}`, call));
    const refused = answers.at(-1);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 429, 429]);
    expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await refused?.json()).toMatchObject({ code: 'rate_limited' });
  });

  test.each([
    ['the answer of a call', 'GET', 'calls/c1'],
    ['a call of a run that is closed', 'PUT', 'calls/none'],
    ['the diff', 'GET', 'diff'],
    ['the patch', 'GET', 'patch'],
    ['the journal', 'GET', 'journal'],
    ['the verification', 'GET', 'verification'],
    ['the fingerprint', 'GET', 'fingerprint'],
    ['the bundle', 'GET', 'bundle'],
    ['a snapshot', 'POST', 'snapshots'],
    ['a fork', 'POST', 'forks'],
  ])('for %s counts as a call does, and to stop a command does not', async (_, method, path) => {
    const slow = api.key({ quota: { callsPerMinute: 1 } });
    const own = (await api.open(slow)).id;
    if (path === 'calls/none') await api.ask(slow, 'POST', `/v1/runs/${own}/close`, {});
    const body = method === 'GET' ? undefined : method === 'PUT' ? { tool: 'exec', argv: ['true'] } : {};
    const ask = (): Promise<Response> => api.ask(slow, method, `/v1/runs/${own}/${path}`, body);
    expect((await ask()).status).not.toBe(429);
    expect((await ask()).status).toBe(429);
    expect((await api.ask(slow, 'POST', `/v1/runs/${own}/calls/c1/kill`, {})).status).not.toBe(429);
  });
});

describe('opening', () => {
  let api: Api;
  beforeAll(async () => {
    api = await Api.open({ runsMax: 3 });
  });
  afterAll(() => api.close());

  test('twice with one Idempotency-Key opens one run, also at the same time; another request with it is refused', async () => {
    const key = api.key();
    const idempotent = { 'idempotency-key': 'k-1' };
    const open = (name: string): Promise<Response> => api.ask(key, 'POST', '/v1/runs', { name }, idempotent);
    const [one, two] = await Promise.all([open('a'), open('a')]);
    const [first, second, third] = [await one.json(), await two.json(), await (await open('a')).json()] as {
      id: string;
    }[];
    expect([second?.id, third?.id]).toEqual([first?.id, first?.id]);
    expect(api.fake.runner.runs.size).toBe(1);
    expect((await open('b')).status).toBe(400);
  });

  test('is given up when the client leaves, and nothing is left of it', async () => {
    const key = api.key();
    let open: () => void = () => undefined;
    api.fake.runner.gate = new Promise((resolve) => {
      open = resolve;
    });
    const leaving = new AbortController();
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
    const asked = api.app.fetch(
      new Request('http://service/v1/runs', {
        method: 'POST',
        headers,
        body: '{"name":"gone"}',
        signal: leaving.signal,
      }),
    );
    await expect.poll(() => api.fake.service.openingRuns).toBe(1);
    leaving.abort();
    open();
    api.fake.runner.gate = Promise.resolve();
    await asked;
    const { runs } = (await (await api.ask(key, 'GET', '/v1/runs?name=gone')).json()) as { runs: unknown[] };
    expect(runs).toEqual([]);
    expect(api.fake.service.openingRuns).toBe(0);
  });

  test('beyond the bound of the service, or of the key, is refused at once with a time to come back', async () => {
    const poor = api.key({ quota: { openRuns: 1 } });
    expect((await api.ask(poor, 'POST', '/v1/runs', {})).status).toBe(201);
    expect(await (await api.ask(poor, 'POST', '/v1/runs', {})).json()).toMatchObject({
      status: 429,
      code: 'rate_limited',
    });
    const rich = api.key();
    expect((await api.ask(rich, 'POST', '/v1/runs', {})).status).toBe(201);
    expect(await (await api.ask(rich, 'POST', '/v1/runs', {})).json()).toMatchObject({
      status: 429,
      code: 'queue_full',
    });
  });

  test('stops when the service drains; runs that are open are closed', async () => {
    await api.fake.service.drain(1_000);
    const key = api.key();
    expect(await (await api.ask(key, 'POST', '/v1/runs', {})).json()).toMatchObject({ status: 503, code: 'draining' });
    const { runs } = (await (await api.ask(key, 'GET', '/v1/runs')).json()) as { runs: { state: string }[] };
    expect(new Set(runs.map(({ state }) => state))).toEqual(new Set(['closed']));
    expect((await api.ask(undefined, 'GET', '/v1/health/ready')).status).toBe(503);
    expect((await api.ask(undefined, 'GET', '/v1/health/live')).status).toBe(200);
  });
});

test('with little room on the disk no run is opened, readiness and metrics say so, and what is open goes on and closes', async () => {
  const api = await Api.open();
  const key = api.key();
  const { id } = await api.open(key);
  api.fake.clock.freeBytes = 100 * 1024 ** 2;
  const ready = async (): Promise<unknown> => (await api.ask(undefined, 'GET', '/v1/health/ready')).json();
  await expect.poll(ready).toMatchObject({ status: 507, code: 'insufficient_storage' });
  const refused = await api.ask(key, 'POST', '/v1/runs', {});
  expect(refused.headers.get('retry-after')).toBe('30');
  expect(await refused.json()).toMatchObject({
    status: 507,
    code: 'insufficient_storage',
    detail: expect.stringMatching(/^no run is opened: .* 100 MiB of 1024 MiB free.*glovebox gc/),
  });
  expect((await api.ask(key, 'POST', `/v1/runs/${id}/forks`, {})).status).toBe(507);
  const metrics = await (await api.ask(key, 'GET', '/metrics')).text();
  expect(metrics).toContain(`\nglovebox_data_free_bytes ${100 * 1024 ** 2}\n`);
  expect(metrics).toContain('\nglovebox_data_low 1\n');
  const call = { tool: 'exec', argv: ['true'] };
  expect((await api.ask(key, 'PUT', `/v1/runs/${id}/calls/c`, call)).status).toBe(200);
  expect(await (await api.ask(key, 'POST', `/v1/runs/${id}/close`)).json()).toMatchObject({ outcome: 'finished' });
  expect((await (await api.ask(key, 'GET', '/v1/runs')).json()) as { runs: unknown[] }).toMatchObject({
    runs: [{ id }],
  });
  api.fake.clock.freeBytes = 1e12;
  await expect.poll(ready).toEqual({ ok: true });
  await api.open(key);
  await api.close();
});

test('as many requests of one key as there may be: the next is told to wait, those of others are not', async () => {
  const api = await Api.open({ admission: { ...standardAdmission, requestsPerKeyMax: 2 } });
  const [one, other] = [api.key(), api.key({ team: 'blue' })];
  const run = (await api.open(one)).id;
  const fake = api.fake.runner.get(run);
  let open: () => void = () => undefined;
  fake.gate = new Promise((resolve) => {
    open = resolve;
  });
  const call = { tool: 'exec', argv: ['true'] };
  const waiting = ['a', 'b'].map((id) => api.ask(one, 'PUT', `/v1/runs/${run}/calls/${id}`, call));
  await expect.poll(() => fake.made.length).toBe(2);
  expect((await api.ask(one, 'GET', '/v1/runs')).status).toBe(429);
  expect((await api.ask(other, 'GET', '/v1/runs')).status).toBe(200);
  open();
  await Promise.all(waiting);
  expect((await api.ask(one, 'GET', '/v1/runs')).status).toBe(200);
  await api.close();
});
