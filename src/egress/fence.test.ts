import { once } from 'node:events';
import type { Socket } from 'node:net';
import { encode, decode } from 'dns-packet';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Credentials } from '../credentials/credentials.ts';
import { EgressRules } from '../policy/decisions/egress-rules.ts';
import type { EffectiveEgress } from '../policy/layers/effective-egress.ts';
import { Fence } from './fence.ts';
import { PlayedSandbox } from './gateway.fixture.ts';
import { KeptRecord, ruleWith } from './checkpoint/judge.fixture.ts';
import { Network } from './outside/network.ts';
import { Sink, until } from './sockets.fixture.ts';

let sandbox: PlayedSandbox;
let record: KeptRecord;
let sink: Sink;
let fence: Fence | undefined;

beforeEach(async () => {
  [sandbox, record, sink] = [new PlayedSandbox(), new KeptRecord(), await new Sink().open()];
});

afterEach(async () => {
  await fence?.close();
  sink.close();
});

function egressWith(egress: Partial<EffectiveEgress> = {}): EffectiveEgress {
  const to = { kind: 'tcp', host: '127.0.0.1', port: sink.port } as const;
  return {
    profiles: ['db'],
    rules: [],
    deny: [],
    upstreams: [{ id: 'db', host: 'db.test', port: 5432, to }],
    mode: 'enforce',
    dns: { maxNames: 10, maxUnlisted: 10, onExcess: 'deny' },
    maxConnections: 3,
    registries: {},
    ...egress,
  };
}

async function open(egress: Partial<EffectiveEgress> = {}): Promise<Fence> {
  fence = await Fence.open({
    sandbox: sandbox.asSandbox,
    egress: egressWith(egress),
    network: new Network(),
    credentials: Credentials.open({ credentials: {}, commands: {} }),
    record,
    onStop: () => undefined,
  });
  return fence;
}

/** Where a name is inside; undefined where there is none. */
async function addressOf(name: string): Promise<string | undefined> {
  const question = encode({ type: 'query', id: 7, flags: 256, questions: [{ type: 'A', name }] });
  const [answer] = decode(await sandbox.gateway.ask(question)).answers ?? [];
  return answer?.type === 'A' ? answer.data : undefined;
}

async function connected(name = 'db.test', port = 5432): Promise<Socket> {
  return sandbox.gateway.connect(`${await addressOf(name)}:${port}`);
}

describe('an open fence', () => {
  test('carries what its policy names, and nothing else has an address', async () => {
    await open();
    expect(await addressOf('else.test')).toBeUndefined();
    const client = await connected();
    client.write('select 1');
    await until(() => sink.received.toString() === 'select 1', 'the query arrives');
    sink.sockets[0]?.write('one');
    expect(String(await once(client, 'data'))).toBe('one');
    client.end();
    sink.sockets[0]?.end();
    await until(() => record.ends.length === 1, 'it is over');
    expect(record.decisions.map(({ kind, host, decision }) => [kind, host, decision])).toEqual([
      ['name', 'else.test', 'denied'],
      ['name', 'db.test', 'allowed'],
      ['connection', 'db.test', 'allowed'],
    ]);
    expect(record.ends).toMatchObject([{ id: 3, result: 'done', sentBytes: 8, receivedBytes: 3 }]);
  });

  test('carries only so many connections at once, and tells the others', async () => {
    const { calls } = await open();
    let end = (): void => undefined;
    const gone = new Promise<void>((resolve) => (end = resolve));
    await calls.during('c1', () => Promise.resolve({ gone }));
    for (let n = 0; n < 3; n++) await connected();
    await until(() => sink.sockets.length === 3, 'three are carried');
    const fourth = await connected();
    await until(() => fourth.closed, 'it is closed');
    expect(sink.sockets.length).toBe(3);
    expect(fence?.deniedOf('c1')).toMatchObject([{ rule: 'egress.max_connections', certain: true }]);
    end();
  });

  test('attributes what comes while one call runs to it, and to none while two run', async () => {
    const { calls } = await open();
    const never = { gone: new Promise<void>(() => undefined) };
    await calls.during('c1', () => Promise.resolve(never));
    await connected();
    await calls.during('c2', () => Promise.resolve(never));
    await connected();
    await until(() => record.decisions.length === 3, 'both are decided');
    expect(record.decisions.map(({ callId }) => callId)).toEqual(['c1', 'c1', undefined]);
    await expect(calls.during('c3', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(calls.all).toEqual(['c1', 'c2']);
  });

  test('cuts what it is narrowed away from, and has no address for it any more', async () => {
    const opened = await open();
    const client = await connected();
    await until(() => sink.sockets.length === 1, 'it is carried');
    opened.narrow(new EgressRules({ ...egressWith(), upstreams: [] }));
    await until(() => client.closed, 'it is closed');
    expect(await addressOf('db.test')).toBeUndefined();
    opened.narrow(new EgressRules(egressWith()));
    expect(await addressOf('db.test')).toBeUndefined();
  });

  test('that is closed has cut everything, and nothing passes', async () => {
    const opened = await open();
    const client = await connected();
    await until(() => sink.sockets.length === 1, 'it is carried');
    const startMs = performance.now();
    await opened.close();
    expect(performance.now() - startMs).toBeLessThan(1_500);
    await until(() => client.closed, 'it is closed');
    await until(() => sink.sockets[0]?.destroyed === true, 'the other side is told');
    expect(record.ends).toMatchObject([{ result: 'cut', reason: 'the run is closing' }]);
    expect(sandbox.gateway.open).toBe(false);
    await expect(opened.connect(3000)).rejects.toMatchObject({ code: 'sandbox_lost' });
  });

  test('lets nothing pass that cannot be recorded', async () => {
    await open();
    const before = await connected();
    await until(() => sink.sockets.length === 1, 'one is carried');
    record.failing = true;
    const client = await connected();
    await until(() => client.closed, 'it is closed');
    expect(sink.sockets.length).toBe(1);
    before.destroy();
  });

  test('knows by the user of the proxy which of several calls asks', async () => {
    const { calls } = await open();
    const never = { gone: new Promise<void>(() => undefined) };
    for (const id of ['c1', 'c2']) await calls.during(id, () => Promise.resolve(never));
    const users = ['c2', 'c1', 'gone', undefined];
    for (const user of users) {
      const client = await sandbox.gateway.connect('127.0.0.1:3128');
      const header =
        user === undefined ? '' : `Proxy-Authorization: Basic ${Buffer.from(`${user}:call`).toString('base64')}\r\n`;
      client.write(`CONNECT else.test:443 HTTP/1.1\r\nHost: else.test:443\r\n${header}\r\n`);
      expect(String(await once(client, 'data'))).toMatch(/^HTTP\/1\.1 403 /);
      client.destroy();
    }
    expect(record.decisions.map(({ callId }) => callId)).toEqual(['c2', 'c1', undefined, undefined]);
  });
});

describe('when its gateway is lost', () => {
  test('everything is cut, and it comes back with other addresses for the same names', async () => {
    await open();
    const before = await addressOf('db.test');
    const client = await connected();
    await until(() => sink.sockets.length === 1, 'it is carried');
    sandbox.refusals = 2;
    sandbox.gateway.lose();
    await until(() => client.closed, 'it is closed');
    await until(() => sandbox.gateways.length === 2 && sandbox.gateway.listeners.size === 3, 'it is open again');
    const after = await addressOf('db.test');
    expect([before, after]).toEqual(['127.64.0.1', '127.64.0.2']);
    await connected();
    await until(() => sink.sockets.length === 2, 'it carries again');
  });

  test('with its sandbox, nothing is opened again', async () => {
    const opened = await open();
    sandbox.state = 'lost';
    sandbox.gateway.lose();
    await expect(opened.connect(80)).rejects.toMatchObject({ code: 'sandbox_lost' });
    expect(sandbox.gateways).toHaveLength(1);
  });
});

describe('a sandbox that cannot be given its way out', () => {
  test('is not given half of it', async () => {
    sandbox.taken.add(3128);
    await expect(open()).rejects.toMatchObject({ code: 'policy_unenforceable' });
    expect(sandbox.gateway.open).toBe(false);
  });
});

describe('the environment of a call', () => {
  test('names the proxy, and an authority only where TLS is looked into', async () => {
    expect((await open()).environment('c1')).toMatchObject({ https_proxy: 'http://c1:call@127.0.0.1:3128' });
    expect(fence?.environment('c1')).not.toHaveProperty('SSL_CERT_FILE');
    expect(sandbox.unpacked).toEqual([]);
    await fence?.close();
    await open({ rules: [ruleWith()] });
    expect(fence?.environment('c1')).toMatchObject({ SSL_CERT_FILE: '/run/glovebox/ca.pem' });
    expect(sandbox.unpacked).toContainEqual(expect.stringMatching(/^\/run\/glovebox\/ca\.pem IMAGE\n/));
  });
});
