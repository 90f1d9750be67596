import { describe, expect, test } from 'vitest';
import { GloveboxClient, type KeyDraft } from './client.ts';
import { answerJson, FakeService } from './service.fixture.ts';

const run = '01m7zvavgmmzvhekr10a9xreag';
const draft = { team: 'red', identity: 'bot', scopes: ['read'], policies: [], expiresAt: null } satisfies KeyDraft;
const done = { callId: 'c1', tool: 'write', ok: true, text: 'Done.', data: { kind: 'done' }, error: null };

describe('a call with many bytes', () => {
  test('goes as bytes beside the call, and one with few as JSON', async () => {
    const bodies: string[] = [];
    await using fake = await FakeService.start((_, response, body) => {
      bodies.push(body);
      answerJson(response, done);
    });
    const remote = (await fake.client()).runs.get(run);
    const many = Buffer.alloc(2 * 1024 * 1024, 7);
    const rest = (call: object): string => `/payload?call=${encodeURIComponent(JSON.stringify(call))}`;
    await remote.write('a', many, { callId: 'c1' });
    await remote.write('b', 'é'.repeat(700_000), { callId: 'c2' });
    await remote.call('c3', { tool: 'upload', path: 'd', tar: many.toString('base64') });
    await remote.write('e', many.subarray(0, 9), { callId: 'c4' });
    await remote.write('f', 'short', { callId: 'c5' });
    const at = `PUT /v1/runs/${run}/calls`;
    expect(fake.asked).toEqual([
      `${at}/c1${rest({ tool: 'write', path: 'a' })}`,
      `${at}/c2${rest({ tool: 'write', path: 'b' })}`,
      `${at}/c3${rest({ tool: 'upload', path: 'd' })}`,
      `${at}/c4`,
      `${at}/c5`,
    ]);
    expect(bodies.slice(0, 3).map((body) => body.length)).toEqual([many.length, 700_000, many.length]);
    expect(bodies.slice(3).map((body) => JSON.parse(body) as unknown)).toEqual([
      { tool: 'write', path: 'e', content: { base64: many.toString('base64', 0, 9) } },
      { tool: 'write', path: 'f', content: { utf8: 'short' } },
    ]);
  });
});

test('statistics are asked for with what is wanted of them, and with nothing where nothing is', async () => {
  await using fake = await FakeService.start((_, response) => answerJson(response, { v: 1 }));
  const client = await fake.client();
  await client.stats({ since: '2026-01-01T00:00:00Z', by: 'model' });
  await client.stats();
  expect(fake.asked).toEqual(['GET /v1/stats?since=2026-01-01T00%3A00%3A00Z&by=model', 'GET /v1/stats']);
});

test('keys are made, listed and revoked as they are asked for', async () => {
  const bodies: string[] = [];
  await using fake = await FakeService.start((request, response, body) => {
    bodies.push(body);
    answerJson(response, request.method === 'GET' ? { keys: [draft] } : { key: draft, secret: 's' });
  });
  const client = await fake.client();
  expect(await client.keys.create(draft)).toEqual({ key: draft, secret: 's' });
  expect(await client.keys.list()).toEqual([draft]);
  await client.keys.revoke('a/b');
  expect(fake.asked).toEqual(['POST /v1/keys', 'GET /v1/keys', 'DELETE /v1/keys/a%2Fb']);
  expect(bodies).toEqual([JSON.stringify(draft), '', '']);
});

describe('what is asked again', () => {
  test('the end of a key, which is the same twice; who gives up is told so', async () => {
    await using fake = await FakeService.start((request, response) => {
      if (fake.asked.length !== 2) request.socket.destroy();
      else answerJson(response, { id: run });
    });
    expect(await (await fake.client()).keys.revoke(run)).toEqual({ id: run });
    const failed = (await fake.client({ reasksMax: 1 })).keys.revoke(run);
    await expect(failed).rejects.toThrow(/ask the same again, it is never done twice/);
    expect(fake.asked).toEqual(Array.from({ length: 4 }, () => `DELETE /v1/keys/${run}`));
  });

  test('a call whose answer was lost is asked for under its id, and whoever waits is told', async () => {
    await using fake = await FakeService.start((request, response) => {
      if (fake.asked.length <= 2) request.socket.destroy();
      else answerJson(response, done);
    });
    const client = await fake.client();
    const result = await client.runs.get(run).call('c1', { tool: 'remove', path: 'a' });
    expect(result).toEqual(done);
    expect(fake.asked).toEqual(Array.from({ length: 3 }, () => `PUT /v1/runs/${run}/calls/c1`));
    expect(fake.reasks.map(({ attempt }) => attempt)).toEqual([1, 2]);
  });

  test('a context snapshot, since the same one twice is the same', async () => {
    const digest = `sha256:${'0'.repeat(64)}`;
    await using fake = await FakeService.start((request, response) => {
      if (fake.asked.length === 1) request.socket.destroy();
      else answerJson(response, { digest, number: 1 }, 201);
    });
    const remote = (await fake.client()).runs.get(run);
    expect(await remote.attachContext({ version: 1, summary: 'so it is' })).toEqual({ digest, number: 1 });
    await remote.context({ call: 'c 1' });
    const path = `/v1/runs/${run}/context`;
    expect(fake.asked).toEqual([`POST ${path}`, `POST ${path}`, `GET ${path}?call=c%201`]);
  });

  test('an answer that breaks off in the middle was no answer', async () => {
    await using fake = await FakeService.start((request, response) => {
      if (fake.asked.length > 1) return answerJson(response, done);
      response.writeHead(200, { 'content-length': '1000' });
      response.write('{"callId":', () => request.socket.destroy());
    });
    const client = await fake.client();
    expect(await client.runs.get(run).call('c1', { tool: 'remove', path: 'a' })).toEqual(done);
    expect(fake.asked).toHaveLength(2);
  });

  test.each([
    ['opening a run', (client: GloveboxClient) => client.runs.open({ policy: { name: 'default' } })],
    ['a snapshot', (client: GloveboxClient) => client.runs.get(run).snapshot()],
    ['a fork', (client: GloveboxClient) => client.runs.get(run).fork()],
    ['closing', (client: GloveboxClient) => client.runs.get(run).close()],
    ['standard input', (client: GloveboxClient) => client.runs.get(run).command('c1').write('x')],
    ['a new key', (client: GloveboxClient) => client.keys.create(draft)],
    ['an answer to an approval', (client: GloveboxClient) => client.approvals.decide(run, { approve: true })],
  ])('%s is asked once, and what is not known is said', async (_, ask) => {
    await using fake = await FakeService.start((request) => void request.socket.destroy());
    const client = await fake.client();
    const failed = ask(client);
    await expect(failed).rejects.toMatchObject({ code: 'service_unavailable' });
    await expect(failed).rejects.toThrow(/look before you ask again/);
    expect(fake.asked).toHaveLength(1);
    expect(fake.reasks).toEqual([]);
  });

  test('a service that stays away is given up after so many times', async () => {
    await using fake = await FakeService.start((request) => void request.socket.destroy());
    const client = await fake.client({ reasksMax: 2 });
    const failed = client.runs.get(run).call('c1', { tool: 'remove', path: 'a' });
    await expect(failed).rejects.toMatchObject({ code: 'service_unavailable' });
    await expect(failed).rejects.toThrow(/asking again with the same call id tells/);
    expect(fake.asked).toHaveLength(3);
  });

  test('a service that was never there is said at once', async () => {
    await using fake = await FakeService.start(() => undefined);
    await fake.stop();
    const client = await fake.client();
    await expect(client.runs.list()).rejects.toThrow(/no service answers at unix:/);
    expect(fake.reasks).toEqual([]);
  });

  test('a wait that is aborted throws its reason and asks nothing more', async () => {
    const stop = new AbortController();
    await using fake = await FakeService.start(() => stop.abort(new Error('enough')));
    const client = await fake.client();
    await expect(client.runs.get(run).call('c1', { tool: 'remove', path: 'a' }, stop.signal)).rejects.toThrow('enough');
    expect(fake.asked).toHaveLength(1);
  });
});

describe('what is refused', () => {
  test('while a command is waited for is asked for again when it may be', async () => {
    const problem = { code: 'rate_limited', detail: 'too many', retryAfterMs: 10, status: 429 };
    await using fake = await FakeService.start((_, response) => {
      if (fake.asked.length > 2) answerJson(response, { ...done, tool: 'exec' });
      else answerJson(response, problem, 429);
    });
    const client = await fake.client();
    expect(await client.runs.get(run).command('c1').ended()).toMatchObject({ callId: 'c1', ok: true });
    expect(fake.asked).toHaveLength(3);
  });

  test('a problem is an error with its code, its request id and when to ask again', async () => {
    const problem = { code: 'rate_limited', detail: 'too many', requestId: 'r-1', retryAfterMs: 1500, status: 429 };
    await using fake = await FakeService.start((_, response) => answerJson(response, problem, 429));
    const client = await fake.client();
    await expect(client.runs.list()).rejects.toMatchObject({
      code: 'rate_limited',
      message: 'too many',
      requestId: 'r-1',
      retryAfterMs: 1500,
    });
    expect(fake.asked).toHaveLength(1);
  });

  test.each([
    [{ code: 'a_code_of_tomorrow', detail: 'news' }, 422, 'invalid_request', /news .*a_code_of_tomorrow/],
    ['<html>Bad Gateway</html>', 502, 'service_unavailable', /answered 502 to GET \/v1\/runs/],
    ['', 500, 'internal', /answered 500/],
  ] as const)('an answer that is not of ours is an error too: %j', async (body, status, code, says) => {
    await using fake = await FakeService.start((_, response) => answerJson(response, body, status));
    const client = await fake.client();
    const failed = client.runs.list();
    await expect(failed).rejects.toMatchObject({ code });
    await expect(failed).rejects.toThrow(says);
  });

  test.each([
    'localhost:8080',
    'ftp://localhost/',
    'http://key@localhost/',
    'http://localhost/?key=x',
    'unix:relative',
  ])('%s is no address', async (url) => {
    await expect(GloveboxClient.connect({ url })).rejects.toMatchObject({ code: 'invalid_request' });
  });

  test('a key that cannot be one is never sent', async () => {
    const connecting = GloveboxClient.connect({ url: 'http://localhost/', key: 'a\nb' });
    await expect(connecting).rejects.toMatchObject({ code: 'invalid_request' });
  });
});

test('the key is in Authorization and in nothing else', async () => {
  const seen: string[] = [];
  await using fake = await FakeService.start((request, response) => {
    seen.push(request.headers.authorization ?? '', `${request.url} ${JSON.stringify(request.headers)}`);
    answerJson(response, { runs: [], next: null });
  });
  const client = await GloveboxClient.connect({ socketPath: fake.socketPath, key: 'gbx_secret' });
  await client.runs.list({ name: 'a b', state: 'open' });
  expect(seen[0]).toBe('Bearer gbx_secret');
  expect(seen[1]?.split('gbx_secret')).toHaveLength(2);
  expect(fake.asked).toEqual(['GET /v1/runs?name=a%20b&state=open']);
});

describe('a verification', () => {
  const id = '01m7zvavgmmzvhekr10a9xrea0';
  const at = (step: number, state = 'running') => ({
    id,
    run,
    state,
    by: 'ann',
    step,
    attempt: null,
    gates: [],
    digest: null,
    verification: null,
    problem: null,
  });
  const path = `/v1/runs/${run}/verifications`;

  test('is waited for step by step, across a lost connection, and is begun once more by nobody', async () => {
    await using fake = await FakeService.start((request, response) => {
      if (fake.asked.length === 3) request.socket.destroy();
      else answerJson(response, fake.asked.length < 5 ? at(fake.asked.length) : at(9, 'ended'), 202);
    });
    const steps: number[] = [];
    const ended = await (
      await fake.client()
    ).runs
      .get(run)
      .verify({ after: id, onStep: ({ step }) => steps.push(step) });
    expect([ended.state, steps]).toEqual(['ended', [1, 2, 4, 9]]);
    const wait = (seen: number): string => `GET ${path}/${id}?seen=${seen}&waitMs=30000`;
    expect(fake.asked).toEqual([`POST ${path}`, wait(1), wait(2), wait(2), wait(4)]);
  });

  test('is given up where its caller gives up', async () => {
    const giving = new AbortController();
    await using fake = await FakeService.start((request, response) => {
      if (request.method === 'GET') giving.abort(new Error('enough'));
      else answerJson(response, at(1), 202);
    });
    const verified = (await fake.client()).runs.get(run).verify({ signal: giving.signal });
    await expect(verified).rejects.toThrow('enough');
    expect(fake.asked.at(-1)).toBe(`POST ${path}/${id}/cancel`);
  });

  test('that its service has forgotten is to be asked for again', async () => {
    await using fake = await FakeService.start((request, response) => {
      if (request.method === 'POST') return answerJson(response, at(1), 202);
      const problem = {
        type: 'about:blank',
        title: 'Not Found',
        status: 404,
        code: 'not_found',
        detail: 'no',
        requestId: 'r',
      };
      answerJson(response, problem, 404);
    });
    const verified = (await fake.client()).runs.get(run).verify();
    await expect(verified).rejects.toMatchObject({
      code: 'service_unavailable',
      message: expect.stringMatching(/verify it again/),
    });
  });
});
