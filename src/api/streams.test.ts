import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ApprovalRequest, Verdict } from '../approvals/approval.ts';
import type { ApprovalView } from '../contract/approval-view.ts';
import { digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import { Api } from './api.fixture.ts';
import { eventStream, pulledStream, type Sent } from './event-stream.ts';

interface Event {
  readonly id?: string;
  readonly event?: string;
  readonly data?: string;
}

/** Reads until there are so many events, then leaves. */
async function eventsOf(answer: Response, count: number): Promise<readonly Event[]> {
  const reader = (answer.body ?? new ReadableStream<Uint8Array>()).getReader();
  let text = '';
  for (;;) {
    const found = text
      .split('\n\n')
      .slice(0, -1)
      .filter((block) => !block.startsWith(':'))
      .map((block) => Object.fromEntries(block.split('\n').map((line) => line.split(/: (.*)/, 2))) as Event);
    if (found.length >= count) {
      await reader.cancel();
      return found.slice(0, count);
    }
    const { done, value } = await reader.read();
    if (done) return found;
    text += Buffer.from(value).toString();
  }
}

const sse = { accept: 'text/event-stream' };

describe('events', () => {
  let api: Api;
  let key: string;
  beforeAll(async () => {
    api = await Api.open();
    key = api.key();
  });
  afterAll(() => api.close());

  test('of the own team come as they happen, and after a cut connection from where it was cut', async () => {
    const following = await api.ask(key, 'GET', '/v1/events', undefined, sse);
    const { id: run } = await api.open(key);
    await api.open(api.key({ team: 'blue' }));
    await api.ask(key, 'PUT', `/v1/runs/${run}/calls/c1`, { tool: 'exec', argv: ['true'] });
    const first = await eventsOf(following, 2);
    expect(first.map(({ event }) => event)).toEqual(['run.opened', 'call.started']);
    await api.ask(key, 'POST', `/v1/runs/${run}/close`);
    const again = await api.ask(key, 'GET', '/v1/events', undefined, { ...sse, 'last-event-id': first[1]?.id ?? '' });
    const rest = await eventsOf(again, 2);
    expect(rest.map(({ event }) => event)).toEqual(['call.ended', 'run.closed']);
    for (const { data } of [...first, ...rest]) expect(JSON.parse(data ?? '')).toMatchObject({ run, team: 'red' });
  });

  test('of another team leave no trace, not even a sign of life', async () => {
    const following = await api.ask(api.key({ team: 'green' }), 'GET', '/v1/events', undefined, sse);
    const reader = (following.body ?? new ReadableStream<Uint8Array>()).getReader();
    await reader.read(); // that it is open
    const next = reader.read();
    await api.open(key);
    await api.open(key);
    await api.open(api.key({ team: 'green' }));
    expect(Buffer.from((await next).value ?? []).toString()).toContain('event: run.opened');
    await reader.cancel();
  });

  test('are numbered by team, and requests not at all: what others do is not to be counted', async () => {
    const green = api.key({ team: 'teal' });
    const numberOf = async (): Promise<number> => {
      const following = await api.ask(green, 'GET', '/v1/events', undefined, sse);
      await api.open(green);
      const [event] = await eventsOf(following, 1);
      return Number(event?.id?.split('-')[1]);
    };
    const first = await numberOf();
    for (let n = 0; n < 5; n++) await api.open(key);
    expect([first, await numberOf()]).toEqual([1, 2]);
    const ids = await Promise.all(
      [1, 2, 3].map(async () => (await api.ask(green, 'GET', '/v1/runs')).headers.get('x-request-id') ?? ''),
    );
    const random = ids.map((id) => id.slice(10)); // the rest is the time
    expect(new Set(random).size).toBe(3);
    expect(random.every((id) => /^[0-9a-z]{16}$/.test(id))).toBe(true);
  });

  test('are not followed by way of an upgrade, which no reader holds up', async () => {
    const answer = await api.upgrade(key, '/v1/events');
    expect([answer.status, api.admission.streams]).toEqual([400, 0]);
  });

  test('after an id that was never given out are refused; after one of a service before this one there is a gap', async () => {
    for (const id of ['x', '5', `${api.fake.service.events.idOf(0).split('-')[0]}-999999`]) {
      const answer = await api.ask(key, 'GET', '/v1/events', undefined, { ...sse, 'last-event-id': id });
      expect(answer.status, id).toBe(400);
    }
    const answer = await api.ask(key, 'GET', '/v1/events', undefined, { ...sse, 'last-event-id': `${newId()}-3` });
    expect((await eventsOf(answer, 1))[0]?.event).toBe('gap');
  });

  test('hold a place while they last, and give it back', async () => {
    const { admission } = api;
    const answers = await Promise.all([1, 2, 3].map(() => api.ask(key, 'GET', '/v1/events', undefined, sse)));
    expect(admission.streams).toBe(3);
    expect((await api.ask(key, 'HEAD', '/v1/events', undefined, sse)).status).toBe(400);
    for (const answer of answers) await answer.body?.cancel();
    expect(admission.streams).toBe(0);
  });
});

describe('a stream', () => {
  const plain = { onEnd: () => undefined, problem: () => ({}), cut: () => undefined };

  test('makes nothing that nobody takes, and cuts off who takes nothing', async () => {
    const told = { made: 0, cut: 0, ended: 0 };
    const stream = pulledStream(
      async () => {
        told.made += 1;
        return new Uint8Array(65_536);
      },
      { stallMs: 30, cut: () => void (told.cut += 1), onEnd: () => void (told.ended += 1) },
    );
    const reader = stream.getReader();
    await reader.read();
    await expect.poll(() => told.cut).toBe(1);
    await expect(reader.read()).rejects.toThrow('took nothing');
    expect(told).toEqual({ made: 1, cut: 1, ended: 1 });
  });

  test('says something when there is nothing to say', async () => {
    const stream = eventStream(async () => null, plain);
    const reader = stream.getReader();
    const read = async (): Promise<string> => Buffer.from((await reader.read()).value ?? []).toString();
    expect([await read(), await read()]).toEqual([': open\n\n', ': ping\n\n']);
    await reader.cancel();
  });

  test('that fails on its way ends with an event that says so', async () => {
    const steps: (readonly Sent[])[] = [[{ id: '1', data: 'x' }]];
    const next = async (): Promise<readonly Sent[]> => {
      const step = steps.shift();
      if (step === undefined) throw new Error('broken');
      return step;
    };
    const stream = eventStream(next, { ...plain, problem: (error) => ({ detail: String(error) }) });
    const events = await eventsOf(new Response(stream), 9);
    expect(events).toEqual([
      { id: '1', data: 'x' },
      { event: 'error', data: '{"detail":"Error: broken"}' },
    ]);
  });
});

describe('an approval', () => {
  let api: Api;
  let run: string;
  const people: Record<string, string> = {};
  beforeAll(async () => {
    api = await Api.open();
    for (const name of ['opener', 'caller', 'ann', 'bob']) people[name] = api.key({ identity: name });
    people['stranger'] = api.key({ team: 'blue', identity: 'ann' });
    run = (await api.open(people['opener'] ?? '')).id;
    await api.ask(people['caller'], 'PUT', `/v1/runs/${run}/calls/c1`, { tool: 'exec', argv: ['true'] });
  });
  afterAll(() => api.close());

  function ask(more: Partial<ApprovalRequest> = {}): {
    id: string;
    verdicts: Promise<readonly Verdict[]>;
    giveUp(): void;
  } {
    const id = newId();
    const giving = new AbortController();
    const verdicts = api.fake.desk.ask(
      {
        id,
        run,
        category: 'deploy',
        at: 'call',
        subject: 'rm -rf /',
        rule: 'r',
        reach: '',
        note: '',
        quorum: 1,
        reasonRequired: false,
        digest: digestOf(id),
        askedAt: new Date().toISOString(),
        expiresAt: new Date(Date.now() + 60_000).toISOString(),
        ...more,
      },
      giving.signal,
    );
    return { id, verdicts: Promise.resolve(verdicts), giveUp: () => giving.abort() };
  }

  async function decide(who: string, id: string, body: object = { approve: true }): Promise<[number, ApprovalView]> {
    const answer = await api.ask(people[who], 'POST', `/v1/approvals/${id}`, body);
    return [answer.status, (await answer.json()) as ApprovalView];
  }

  test('is never given by whoever opened the run or made a call in it', async () => {
    const { id, verdicts } = ask();
    for (const who of ['opener', 'caller']) expect((await decide(who, id))[0]).toBe(403);
    expect(await decide('ann', id)).toMatchObject([200, { state: 'approved' }]);
    expect(await verdicts).toEqual([{ approve: true, by: 'ann', reason: '' }]);
  });

  test('needs as many people as it says: one of them counts once, and not any more after a call of their own', async () => {
    const { id, verdicts } = ask({ quorum: 2 });
    expect(await decide('ann', id)).toMatchObject([200, { state: 'pending' }]);
    expect((await decide('ann', id))[0]).toBe(409);
    const cal = api.key({ identity: 'cal' });
    const { id: other } = ask({ quorum: 2 });
    await api.ask(cal, 'POST', `/v1/approvals/${other}`, { approve: true });
    await api.ask(cal, 'PUT', `/v1/runs/${run}/calls/of-cal`, { tool: 'exec', argv: ['true'] });
    expect(await decide('bob', other)).toMatchObject([200, { state: 'pending' }]);
    expect(await decide('bob', id)).toMatchObject([200, { state: 'approved' }]);
    expect((await verdicts).map(({ by }) => by).toSorted()).toEqual(['ann', 'bob']);
  });

  test('once decided is decided, for others to see', async () => {
    const { id, verdicts } = ask();
    expect(await decide('bob', id, { approve: false, reason: 'no' })).toMatchObject([200, { state: 'denied' }]);
    expect((await decide('ann', id))[0]).toBe(409);
    expect(await verdicts).toMatchObject([{ approve: false, by: 'bob' }]);
    const { approvals } = (await (await api.ask(people['ann'], 'GET', '/v1/approvals?state=decided')).json()) as {
      approvals: ApprovalView[];
    };
    expect(approvals.find((one) => one.id === id)).toMatchObject({ state: 'denied', verdicts: [{ by: 'bob' }] });
  });

  test('that nobody waits for any more cannot be given; nor one of another team, which is not even there', async () => {
    const given = ask();
    given.giveUp();
    expect((await decide('ann', given.id))[0]).toBe(409);
    const { id } = ask();
    expect((await decide('stranger', id))[0]).toBe(404);
    expect((await decide('stranger', newId()))[0]).toBe(404);
  });

  test('that was decided is not pushed out by another team, however many that one has', async () => {
    const blueRun = (await api.open(people['stranger'] ?? '')).id;
    const theirs = ask({ run: blueRun });
    theirs.giveUp();
    for (let n = 0; n < 2_100; n++) ask().giveUp();
    const { approvals } = (await (await api.ask(people['stranger'], 'GET', '/v1/approvals')).json()) as {
      approvals: ApprovalView[];
    };
    expect(approvals.map(({ id, state }) => [id, state])).toEqual([[theirs.id, 'expired']]);
    const own = await (await api.ask(people['ann'], 'GET', '/v1/approvals?state=decided')).json();
    expect((own as { approvals: ApprovalView[] }).approvals).toHaveLength(500);
  });

  test('that wants a reason is not given without one', async () => {
    const { id } = ask({ reasonRequired: true });
    expect((await decide('ann', id))[0]).toBe(400);
    expect(await decide('ann', id, { approve: true, reason: 'reviewed' })).toMatchObject([200, { state: 'approved' }]);
  });
});
