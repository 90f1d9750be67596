import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Problem } from '../contract/problem.ts';
import { newId } from '../ids.ts';
import { scopes } from '../store/key-row.ts';
import { Api, openApiWithRun } from './api.fixture.ts';
import type { Principal } from '../service/principal.ts';
import type { Service } from '../service/service.ts';
import type { Route } from './route.ts';
import { allRoutes } from './routes.ts';
import { ServiceRun } from './service-run.ts';

const routes = allRoutes();
const guarded = routes.filter(({ scope }) => scope !== 'none');
const poll = { tool: 'exec_poll', callId: 'c1' } as const;
const ofRuns = routes.filter(({ path }) => path.includes('{run}'));

describe('who asks', async () => {
  const { api, key, run } = await openApiWithRun();

  test('is nobody any more when the store cannot say whether the key still holds, and the service goes on', async () => {
    const broken = await Api.open();
    const principal = broken.fake.service.authenticate(broken.key());
    expect(broken.fake.service.isLive(principal)).toBe(true);
    await broken.close();
    expect(broken.fake.service.isLive(principal)).toBe(false);
  });

  test('is answered nothing that took longer than the key was one, and what was asked is done', async () => {
    const own = await Api.open();
    const key = own.key();
    const { id } = await own.open(key);
    const fake = own.fake.runner.runs.get(id);
    let open = (): void => undefined;
    if (fake !== undefined) fake.gate = new Promise((resolve) => (open = resolve));
    const asked = own.ask(key, 'PUT', `/v1/runs/${id}/calls/c1`, { tool: 'list', path: '.' });
    await sleep(1_050); // so long an answer may take before the key is looked at again
    own.fake.store.keys.revoke(key.split('_')[1] ?? '');
    open();
    expect((await asked).status).toBe(401);
    expect(fake?.made).toEqual(['c1']);
    const again = await own.ask(own.key(), 'GET', `/v1/runs/${id}/calls/c1`);
    expect(again.status).toBe(200);
    await own.close();
  });

  test('is known by a key in Authorization alone: whatever else is given is answered with one and the same 401', async () => {
    const revoked = api.key();
    api.fake.store.keys.revoke(revoked.split('_')[1] ?? '');
    const wrong = `${key.slice(0, -1)}${key.endsWith('A') ? 'B' : 'A'}`;
    const asked: [string, Record<string, string>][] = [
      ['unknown', { authorization: `Bearer gbx_${newId()}_${'A'.repeat(43)}` }],
      ['wrong by a letter', { authorization: `Bearer ${wrong}` }],
      ['revoked', { authorization: `Bearer ${revoked}` }],
      ['no key at all', { authorization: 'Bearer hello' }],
    ];
    const answers = await Promise.all(
      asked.map(async ([, headers]) => {
        const answer = await api.ask(undefined, 'GET', '/v1/runs', undefined, headers);
        const { requestId: _, ...problem } = (await answer.json()) as Problem;
        return { status: answer.status, scheme: answer.headers.get('www-authenticate'), problem };
      }),
    );
    expect(answers[0]).toMatchObject({ status: 401, scheme: 'Bearer', problem: { code: 'unauthenticated' } });
    for (const answer of answers) expect(answer).toEqual(answers[0]);
    for (const [path, headers] of [
      ['/v1/runs', {}],
      [`/v1/runs?key=${key}`, {}],
      [`/v1/runs?access_token=${key}`, {}],
      ['/v1/runs', { authorization: `Basic ${Buffer.from(`x:${key}`).toString('base64')}` }],
      ['/v1/runs', { authorization: key }],
      ['/v1/runs', { 'x-api-key': key }],
      ['/v1/runs', { cookie: `key=${key}` }],
    ] as const)
      expect((await api.ask(undefined, 'GET', path, undefined, headers)).status, path).toBe(401);
  });

  test.each(guarded.map((route) => [route.operation, route] as const))('%s wants a key', async (_, route) => {
    const answer = await api.ask(undefined, route.method, pathOf(route, run), bodyOf(route), headersOf(route));
    expect(answer.status).toBe(401);
  });

  test.each(guarded.map((route) => [route.operation, route] as const))('%s wants its scope', async (_, route) => {
    const other = api.key({ scopes: scopes.filter((scope) => scope !== route.scope), policies: 'any' });
    const answer = await api.ask(other, route.method, pathOf(route, run), bodyOf(route), headersOf(route));
    expect([answer.status, ((await answer.json()) as Problem).code]).toEqual([403, 'forbidden']);
  });

  test.each(ofRuns.map((route) => [route.operation, route] as const))(
    "%s answers of another team's run as of one that does not exist",
    async (_, route) => {
      const stranger = api.key({ team: 'blue', identity: 'bob', policies: 'any' });
      const ask = async (id: string): Promise<unknown> => {
        const answer =
          route.kind === 'http'
            ? await api.ask(stranger, route.method, pathOf(route, id), bodyOf(route), headersOf(route))
            : await api.upgrade(stranger, pathOf(route, id));
        const { detail, requestId: __, ...rest } = (await answer.json()) as Problem;
        return { ...rest, detail: detail.replaceAll(id, 'ID'), headers: [...answer.headers.keys()] };
      };
      const before = api.fake.runner.get(run).made.length;
      const theirs = await ask(run);
      expect(theirs).toMatchObject({ status: 404, code: 'run_not_found' });
      expect(theirs).toEqual(await ask(newId()));
      expect(api.fake.runner.get(run).made).toHaveLength(before);
    },
  );

  test('a key whose time is over is none', async () => {
    const short = api.key({ expiresAt: new Date(Date.now() + 60_000).toISOString() });
    expect((await api.ask(short, 'GET', '/v1/runs')).status).toBe(200);
    api.fake.clock.aheadMs = 61_000;
    expect((await api.ask(short, 'GET', '/v1/runs')).status).toBe(401);
    api.fake.clock.aheadMs = 0;
  });

  test('lists, events and approvals hold nothing of another team', async () => {
    const stranger = api.key({ team: 'blue', identity: 'bob' });
    expect(await (await api.ask(stranger, 'GET', '/v1/runs')).json()).toEqual({ runs: [], next: null });
    expect(await (await api.ask(stranger, 'GET', '/v1/approvals')).json()).toEqual({ approvals: [] });
    const keys = (await (await api.ask(stranger, 'GET', '/v1/keys')).json()) as { keys: { team: string }[] };
    expect(new Set(keys.keys.map(({ team }) => team))).toEqual(new Set(['blue']));
  });
});

describe('what a key may', () => {
  let api: Api;
  beforeAll(async () => {
    api = await Api.open();
  });
  afterAll(() => api.close());

  test('it opens runs with its own policies, and brings no text of its own', async () => {
    const key = api.key({ policies: ['docs-only'] });
    const open = async (policy: unknown): Promise<number> =>
      (await api.ask(key, 'POST', '/v1/runs', { policy })).status;
    expect(await open({ name: 'docs-only' })).toBe(201);
    expect(await open({ name: 'default' })).toBe(403);
    expect(await open({ text: 'apiVersion: glovebox/v1' })).toBe(403);
  });

  test('it names no directory of the machine, nor does an admin outside of the roots', async () => {
    const key = api.key({ scopes: ['run:open'] });
    const admin = api.key();
    for (const one of [key, admin]) {
      const answer = await api.ask(one, 'POST', '/v1/runs', { workspace: '/etc' });
      expect(((await answer.json()) as Problem).code).toBe('forbidden');
    }
  });

  test('with a policy of its own it names no directory, secret or socket of the machine', async () => {
    const head = 'apiVersion: glovebox/v1\nkind: Policy\nname: own\nimages: [base]\nfiles: { read: ["**"] }\n';
    const key = api.key({ policies: 'any' });
    const open = async (more: string, text = head): Promise<number> =>
      (
        await api.ask(key, 'POST', '/v1/runs', {
          policy: { text: `${text}budget: { max_actions_per_run: 5 }\n${more}` },
        })
      ).status;
    expect(await open('')).toBe(201);
    expect(await open('inputs: [{ source: /etc/ssl, target: /inputs/x }]\n')).toBe(403);
    const image = `images: ["sha256:${'a'.repeat(64)}"]\n`;
    expect(await open(image, head.replace('images: [base]\n', ''))).toBe(403);
    const socket = 'upstreams: [{ id: db, host: db.internal, port: 5432, to: "unix:/run/pg.sock" }]';
    expect(await open(`egress: { ${socket} }\n`)).toBe(403);
    const egress = 'egress: { profiles: { p: [{ id: a, host: [a.example], credential: gh }] }, use: [p] }\n';
    expect(await open(`${egress}credentials: { gh: { source: "file:/etc/shadow", host: a.example } }\n`)).toBe(403);
  });

  test('it gives no more than it has to another key', async () => {
    const admin = api.key({ scopes: ['admin', 'read'], policies: ['default'] });
    const make = async (more: object): Promise<number> => {
      const draft = { team: 'red', identity: 'eve', scopes: ['read'], policies: ['default'], expiresAt: null, ...more };
      return (await api.ask(admin, 'POST', '/v1/keys', draft)).status;
    };
    expect(await make({})).toBe(201);
    expect(await make({ team: 'blue' })).toBe(403);
    expect(await make({ scopes: ['approve'] })).toBe(403);
    expect(await make({ policies: 'any' })).toBe(403);
    expect(await make({ policies: ['release'] })).toBe(403);
  });

  test("another team's key cannot be revoked, and is answered as one that is not there", async () => {
    const theirs = api.key({ team: 'blue' }).split('_')[1] ?? '';
    const admin = api.key();
    for (const id of [theirs, newId()]) expect((await api.ask(admin, 'DELETE', `/v1/keys/${id}`)).status).toBe(404);
    expect(api.fake.store.keys.isLive(theirs)).toBe(true);
  });
});

function pathOf({ path, operation }: Route, run: string): string {
  const values: Record<string, string> = {
    run,
    callId: 'c1',
    path: 'a.txt',
    port: '80',
    approval: newId(),
    key: newId(),
    workspace: newId(),
    verification: newId(),
  };
  const queries: Record<string, string> = {
    makeCallWithPayload: `?call=${encodeURIComponent('{"tool":"write","path":"a"}')}`,
    getBlame: '?path=a.txt',
  };
  const plain = path.replaceAll(/\{(\w+)\+?\}/g, (_, name: string) => values[name] ?? 'default');
  return plain + (queries[operation] ?? '');
}

/** One that is let through, so that it is the access that refuses. */
function bodyOf(route: Route): unknown {
  const body = route.kind === 'http' ? route.body : undefined;
  if (body === undefined) return undefined;
  if (body.kind !== 'json') return new Uint8Array(1024);
  return bodies[route.operation] ?? {};
}

const bodies: Readonly<Record<string, unknown>> = {
  makeCall: { tool: 'exec', argv: ['true'] },
  signalCall: { signal: 'INT' },
  resizeCall: { columns: 80, rows: 24 },
  restoreSnapshot: { snapshot: newId() },
  narrowEgress: { without: ['x'] },
  decideApproval: { approve: true },
  attachContext: { version: 1, summary: 'what it believes' },
  giveReview: { manifest: `sha256:${'0'.repeat(64)}`, verdict: 'accepted' },
  createKey: { team: 'blue', identity: 'x', scopes: ['read'], policies: [], expiresAt: null },
};

function headersOf(route: Route): Record<string, string> {
  const body = route.kind === 'http' ? route.body : undefined;
  return body !== undefined && body.kind !== 'json' ? { 'content-type': body.contentType } : {};
}

describe('who had a hand in a run', () => {
  let api: Api;
  beforeAll(async () => {
    api = await Api.open();
  });
  afterAll(() => api.close());
  const mayDecide = (secret: string, run: string): boolean => {
    const { service } = api.fake;
    try {
      return service.access.mayDecide(service.authenticate(secret), run).id === run;
    } catch {
      return false;
    }
  };

  test('answers for no fork of it either, whoever made that', async () => {
    const [ann, bob, eve] = [api.key(), api.key({ identity: 'bob' }), api.key({ identity: 'eve' })];
    const { id } = await api.open(ann);
    await api.ask(eve, 'PUT', `/v1/runs/${id}/calls/c1`, { tool: 'exec', argv: ['true'] });
    const answer = await api.ask(bob, 'POST', `/v1/runs/${id}/forks`, {});
    const { runs } = (await answer.json()) as { runs: { id: string }[] };
    const fork = runs[0]?.id ?? '';
    expect([ann, bob, eve].map((key) => mayDecide(key, fork))).toEqual([false, false, false]);
    expect(mayDecide(api.key({ identity: 'kim' }), fork)).toBe(true);
    // and the fork's own journal says so, for a store that is made again
    expect(api.fake.runner.get(fork).joined.sort()).toEqual(['ann fork_source', 'eve fork_source']);
  });

  const acts: readonly (readonly [string, string, (service: Service, who: Principal, run: string) => unknown])[] = [
    ['ending a call', 'stopped_call', (service, who, run) => service.calls.cancel(who, run, 'c1')],
    ['ending a call over MCP', 'stopped_call', (service, who, run) => new ServiceRun(service, who, run).cancel('c1')],
    ['narrowing its egress', 'narrowed', (service, who, run) => service.narrowEgress(who, run, ['a'])],
    ['revoking a credential', 'revoked', (service, who, run) => service.revokeCredential(who, run, 'gh')],
    ['a connection to a port inside', 'connected', (service, who, run) => service.forward(who, run, 80)],
    ['looking on by a tool', 'looked', (service, who, run) => service.calls.make(who, run, 'p1', poll)],
    ['closing it', 'closed', (service, who, run) => service.closeRun(who, run, { reason: 'finished', summary: '' })],
  ];
  test.each(acts)('by %s does not answer for it, and the journal says so once', async (_, how, act) => {
    const [ann, bob] = [api.key(), api.key({ identity: 'bob' })];
    const { id } = await api.open(ann);
    const run = api.fake.runner.get(id);
    run.command = { kill: () => undefined, ended: Promise.resolve() };
    const { service } = api.fake;
    expect(mayDecide(bob, id)).toBe(true);
    await act(service, service.authenticate(bob), id);
    await act(service, service.authenticate(bob), id);
    expect(mayDecide(bob, id)).toBe(false);
    expect(run.joined).toEqual([`bob ${how}`]);
    expect(mayDecide(api.key({ identity: 'kim' }), id)).toBe(true);
  });

  test('ends and takes away although that cannot be put on record, and does nothing else then', async () => {
    const [ann, bob] = [api.key(), api.key({ identity: 'bob' })];
    const { id } = await api.open(ann);
    const run = api.fake.runner.get(id);
    run.unwritable = new Error('the disk is full');
    let killed = 0;
    run.command = { kill: () => (killed += 1), ended: Promise.resolve() };
    const { service } = api.fake;
    const who = service.authenticate(bob);
    await service.calls.cancel(who, id, 'c1');
    await service.narrowEgress(who, id, ['a']);
    await expect(service.forward(who, id, 80)).rejects.toThrow('the disk is full');
    await service.closeRun(who, id, { reason: 'cancelled', summary: '' });
    expect([killed, run.candidate !== undefined, mayDecide(bob, id)]).toEqual([1, true, false]);
  });

  test('by putting it back to a snapshot does not answer for it', async () => {
    const [ann, bob] = [api.key(), api.key({ identity: 'bob' })];
    const { id } = await api.open(ann);
    const taken = (await (await api.ask(ann, 'POST', `/v1/runs/${id}/snapshots`, {})).json()) as { id: string };
    expect(mayDecide(bob, id)).toBe(true);
    expect((await api.ask(bob, 'POST', `/v1/runs/${id}/restore`, { snapshot: taken.id })).status).toBe(204);
    expect(mayDecide(bob, id)).toBe(false);
  });
});
