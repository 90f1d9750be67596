import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { createServer as createTls, type TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { DnsServer, type Zone } from '../names/dns-server.fixture.ts';
import type { EgressFailure } from '../failure.ts';
import type { AddressDecision } from '../checkpoint/judge.ts';
import { Network, type DialAsk } from './network.ts';
import { onlyPublic } from '../checkpoint/pass.fixture.ts';
import { freePort, listening, Sink } from '../sockets.fixture.ts';
import { TestAuthority } from '../tls.fixture.ts';

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

async function sink(host?: string): Promise<Sink> {
  const opened = await new Sink().open(host);
  closing.push(() => opened.close());
  return opened;
}

async function resolver(zone: Zone): Promise<DnsServer> {
  const server = await new DnsServer(zone).open();
  closing.push(() => server.close());
  return server;
}

const allowed = (): AddressDecision => ({ kind: 'allowed', named: true });

function ask(host: string, port: number, more: Partial<DialAsk> = {}): DialAsk {
  return { host, port, check: allowed, timeoutMs: 3_000, signal: new AbortController().signal, ...more };
}

async function failure(work: Promise<unknown>): Promise<EgressFailure> {
  return await work.then(
    () => {
      throw new Error('it was let through');
    },
    (error: unknown) => error as EgressFailure,
  );
}

describe('dialling', () => {
  test('a name is resolved once and the address that was checked is dialled, whatever it resolves to later', async () => {
    const [good, bad] = [await sink('127.0.0.2'), await sink('127.0.0.1')];
    const dns = await resolver((_, type, times) => (type === 'A' ? [times === 0 ? '127.0.0.2' : '127.0.0.1'] : []));
    const network = new Network({ resolvers: [dns.address] });
    const checked: string[] = [];
    const check = (address: string): AddressDecision => {
      checked.push(address);
      return allowed();
    };
    const { socket, address } = await network.dial(ask('rebinding.test', good.port, { check }));
    expect(address).toBe('127.0.0.2');
    expect(socket.remoteAddress).toBe('127.0.0.2');
    expect(checked).toEqual(['127.0.0.2']);
    expect(dns.asked.toSorted()).toEqual(['rebinding.test A', 'rebinding.test AAAA']);
    expect(bad.sockets).toHaveLength(0);
    socket.destroy();
  });

  test.each([
    ['the last of its IPv4 addresses', ['192.0.2.1', '10.0.0.1'], []],
    ['its only IPv6 address', ['192.0.2.1'], ['::1']],
    ['an IPv4 address in an IPv6 one', ['192.0.2.1'], ['::ffff:127.0.0.1']],
  ])('a name is refused for %s, and nothing is dialled', async (_, four, six) => {
    const dns = await resolver((_, type) => (type === 'A' ? four : six));
    const network = new Network({ resolvers: [dns.address] });
    const refused = await failure(network.dial(ask('mixed.test', 443, { check: onlyPublic() })));
    expect(refused).toMatchObject({ kind: 'denied', rule: 'private_address' });
  });

  test('an address is judged without a resolver', async () => {
    const dns = await resolver(() => ['127.0.0.1']);
    const network = new Network({ resolvers: [dns.address] });
    for (const host of ['127.0.0.1', '10.1.2.3', '[::1]', '::ffff:127.0.0.1']) {
      expect(await failure(network.dial(ask(host, 80, { check: onlyPublic() })))).toMatchObject({ kind: 'denied' });
    }
    expect(dns.asked).toEqual([]);
  });

  test.each([
    'a b',
    'allowed.test@evil.test',
    'a..b',
    '',
    '-a.test',
    'a/b',
    'a%2eb',
    'a。b',
    'fe80::1%lo',
    `${'a'.repeat(64)}.test`,
  ])('what is no host name (%j) is denied and not resolved', async (host) => {
    const dns = await resolver(() => ['192.0.2.1']);
    const network = new Network({ resolvers: [dns.address] });
    expect(await failure(network.dial(ask(host, 80)))).toMatchObject({ kind: 'denied', rule: 'bad_host' });
    expect(dns.asked).toEqual([]);
  });

  test("the machine's own addresses are refused unless the check names them", async () => {
    const own = Object.values(networkInterfaces())
      .flat()
      .find((entry) => entry?.family === 'IPv4' && !entry.internal)?.address;
    const network = new Network({ hosts: { 'me.test': [own ?? '127.0.0.1'] } });
    const check = (): AddressDecision => ({ kind: 'allowed', named: false });
    expect(await failure(network.dial(ask('me.test', 80, { check })))).toMatchObject({
      kind: 'denied',
      rule: 'own_address',
    });
    expect(await failure(network.dial(ask(`[::ffff:${own}]`, 80, { check })))).toMatchObject({ rule: 'own_address' });
    const server = await sink(own ?? '127.0.0.1');
    const { socket } = await network.dial(ask('me.test', server.port));
    socket.destroy();
  });

  test("the operator's hosts go before every resolver", async () => {
    const dns = await resolver(() => ['192.0.2.1']);
    const server = await sink();
    const network = new Network({ resolvers: [dns.address], hosts: { 'registry.test': ['127.0.0.1'] } });
    const { socket, address } = await network.dial(ask('registry.test', server.port));
    expect(address).toBe('127.0.0.1');
    expect(dns.asked).toEqual([]);
    socket.destroy();
  });

  test('an address that does not answer is followed by the next that was checked', async () => {
    const server = await sink('127.0.0.3');
    const network = new Network({ hosts: { 'two.test': ['127.0.0.2', '127.0.0.3'] } });
    const { socket, address } = await network.dial(ask('two.test', server.port));
    expect(address).toBe('127.0.0.3');
    socket.destroy();
  });
});

describe('four ways to fail', () => {
  test('a name that does not exist is unresolvable', async () => {
    const dns = await resolver(() => 'NXDOMAIN');
    const network = new Network({ resolvers: [dns.address] });
    expect(await failure(network.dial(ask('gone.test', 80)))).toMatchObject({ kind: 'unresolvable' });
  });

  test('a name without an address, and a resolver that fails, are unresolvable', async () => {
    const dns = await resolver((name) => (name === 'empty.test' ? [] : 'SERVFAIL'));
    const network = new Network({ resolvers: [dns.address] });
    expect(await failure(network.dial(ask('empty.test', 80)))).toMatchObject({ kind: 'unresolvable' });
    expect(await failure(network.dial(ask('broken.test', 80)))).toMatchObject({ kind: 'unresolvable' });
    expect(await failure(new Network().dial(ask('never.invalid', 80)))).toMatchObject({ kind: 'unresolvable' });
  });

  test('a resolver that is silent is a time-out, when the time is over', async () => {
    const dns = await resolver(() => 'silence');
    const network = new Network({ resolvers: [dns.address] });
    const startMs = performance.now();
    expect(await failure(network.dial(ask('silent.test', 80, { timeoutMs: 200 })))).toMatchObject({
      kind: 'timed_out',
    });
    expect(performance.now() - startMs).toBeLessThan(1_500);
  });

  test('one family answers while the other is silent: what is known is enough', async () => {
    const dns = await resolver((_, type) => (type === 'A' ? ['127.0.0.1'] : 'SERVFAIL'));
    const server = await sink();
    const { socket } = await new Network({ resolvers: [dns.address] }).dial(ask('half.test', server.port));
    socket.destroy();
  });

  test('a port where nobody listens is refused', async () => {
    const network = new Network({ hosts: { 'here.test': ['127.0.0.1'] } });
    expect(await failure(network.dial(ask('here.test', await freePort())))).toMatchObject({ kind: 'refused' });
  });

  test('a host that does not answer is a time-out', async () => {
    const full = await backlogged();
    expect(await failure(new Network().dial(ask('127.0.0.1', full, { timeoutMs: 300 })))).toMatchObject({
      kind: 'timed_out',
    });
  });

  test('a pass that is withdrawn ends the waiting with its own failure', async () => {
    const dns = await resolver(() => 'silence');
    const controller = new AbortController();
    const work = failure(
      new Network({ resolvers: [dns.address] }).dial(ask('silent.test', 80, { signal: controller.signal })),
    );
    controller.abort();
    expect(await work).toMatchObject({ kind: 'cut' });
  });
});

describe('TLS to the upstream', () => {
  let authority: TestAuthority;
  let server: ReturnType<typeof createTls>;
  let port = 0;
  const names: unknown[] = [];

  beforeAll(async () => {
    authority = new TestAuthority();
    server = createTls(
      { ...authority.issue('good.test', '127.0.0.1'), ALPNProtocols: ['h2', 'http/1.1'] },
      (socket) => {
        names.push(socket.servername);
        socket.on('error', () => undefined);
        socket.end('hello');
      },
    );
    server.on('tlsClientError', () => undefined);
    port = await listening(server);
  });
  afterAll(() => {
    server.close();
    authority.remove();
  });

  async function secured(network: Network, host: string): Promise<TLSSocket> {
    const { socket } = await network.dial(ask('127.0.0.1', port));
    return await network.secure(socket, host, ['http/1.1'], { timeoutMs: 3_000 });
  }

  test('a bundle of the operator is trusted beside what Node trusts; name and protocol are asked for', async () => {
    const network = await Network.open({ caFiles: [authority.file] });
    const socket = await secured(network, 'good.test');
    expect(socket.authorized).toBe(true);
    expect(socket.alpnProtocol).toBe('http/1.1');
    const [first] = (await once(socket, 'data')) as [Buffer];
    expect(first.toString()).toBe('hello');
    expect(names.at(-1)).toBe('good.test');
    socket.destroy();
    (await secured(network, '127.0.0.1')).destroy();
  });

  test('a certificate of somebody else, or for another name, is refused and the connection is gone', async () => {
    expect(await failure(secured(new Network(), 'good.test'))).toMatchObject({ kind: 'refused' });
    const other = await failure(secured(new Network({ ca: [authority.pem] }), 'other.test'));
    expect(other).toMatchObject({ kind: 'refused' });
    expect(other.reason).toContain('ERR_TLS_CERT_ALTNAME_INVALID');
  });

  test('a server that says nothing is a time-out, one that hangs up is refused', async () => {
    const silent = await sink();
    const network = new Network();
    const { socket } = await network.dial(ask('127.0.0.1', silent.port));
    expect(await failure(network.secure(socket, 'good.test', [], { timeoutMs: 200 }))).toMatchObject({
      kind: 'timed_out',
    });
    expect(socket.destroyed).toBe(true);
    const again = await network.dial(ask('127.0.0.1', silent.port));
    const work = failure(network.secure(again.socket, 'good.test', [], { timeoutMs: 3_000 }));
    for (const one of silent.sockets) one.resetAndDestroy();
    expect(await work).toMatchObject({ kind: 'refused' });
  });

  test('a bundle that is missing or holds no certificate is an error of the configuration', async () => {
    await expect(Network.open({ caFiles: ['/nonexistent/ca.pem'] })).rejects.toMatchObject({ code: 'invalid_config' });
    await expect(Network.open({ caFiles: ['/etc/hostname'] })).rejects.toMatchObject({ code: 'invalid_config' });
  });
});

describe('upstreams', () => {
  test('a named upstream is dialled where the policy says, by address, name or unix socket', async () => {
    const server = await sink();
    const network = new Network({ hosts: { 'db.test': ['127.0.0.1'] } });
    const named = { id: 'db', host: 'db.internal', port: 5432 };
    for (const host of ['127.0.0.1', 'db.test']) {
      const { socket } = await network.dialUpstream({ ...named, to: { kind: 'tcp', host, port: server.port } });
      socket.destroy();
    }
    const gone = { ...named, to: { kind: 'unix', path: '/nonexistent/socket' } } as const;
    expect(await failure(network.dialUpstream(gone))).toMatchObject({ kind: 'refused' });
  });
});

/** The port of a program that listens and never accepts, with its backlog full: the kernel drops what else comes. */
async function backlogged(): Promise<number> {
  const code = `const s = require('net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
    require('fs').writeSync(1, String(s.address().port));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  });`;
  const child = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  closing.push(() => child.kill('SIGKILL'));
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const port = Number(line.toString());
  const waiting = Array.from({ length: 4 }, () => connect({ port, host: '127.0.0.1' }).on('error', () => undefined));
  closing.push(() => waiting.forEach((socket) => socket.destroy()));
  await once(waiting[0] ?? child, 'connect');
  return port;
}
