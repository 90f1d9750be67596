import { once } from 'node:events';
import type { Socket } from 'node:net';
import { connect as connectTls, createServer as createTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { helloMessage, inRecords } from './client-hello.fixture.ts';
import { DnsServer } from '../names/dns-server.fixture.ts';
import { Network } from '../outside/network.ts';
import { passThrough, type CarryParts } from './pass-through.ts';
import { checkpointOf, conversationOf, denying, TestPass } from '../checkpoint/pass.fixture.ts';
import { closed, connectedPair, freePort, listening, Sink, until } from '../sockets.fixture.ts';
import { TestAuthority } from '../tls.fixture.ts';

const host = 'allowed.test';
const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

interface Carried {
  readonly client: Socket;
  readonly inner: Socket;
  readonly pass: TestPass;
  readonly over: Promise<void>;
}

/** A connection of a tool to `allowed.test`, carried to a port of this machine. */
async function carry(port: number, parts: Partial<CarryParts> = {}, name = host): Promise<Carried> {
  const { inner, client } = await connectedPair();
  const pass = new TestPass();
  const network = new Network({ hosts: { [host]: ['127.0.0.1'] } });
  const over = passThrough(conversationOf(inner, name, port), { checkpoint: checkpointOf(pass), network, ...parts });
  closing.push(() => client.destroy());
  return { client, inner, pass, over };
}

async function sink(): Promise<Sink> {
  const opened = await new Sink().open();
  closing.push(() => opened.close());
  return opened;
}

/** Everything that a client gets until the connection is over. */
async function everything(client: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  client.on('data', (chunk: Buffer) => chunks.push(chunk));
  await closed(client);
  return Buffer.concat(chunks);
}

const accessDenied = Buffer.from([21, 3, 3, 0, 2, 2, 49]);
const hello = inRecords(helloMessage());

describe('with a real server', () => {
  let authority: TestAuthority;
  beforeAll(() => {
    authority = new TestAuthority();
  });
  afterAll(() => authority.remove());

  async function server(options: object, serve: (socket: TLSSocket) => void): Promise<number> {
    const opened = createTls({ ...authority.issue(host), ...options }, (socket) => {
      socket.on('error', () => undefined);
      serve(socket);
    });
    opened.on('tlsClientError', () => undefined);
    closing.push(() => opened.close());
    return await listening(opened);
  }

  function tls(socket: Socket, more: ConnectionOptions = {}): TLSSocket {
    const secured = connectTls({ socket, servername: host, ca: authority.pem, ...more });
    secured.on('error', () => undefined);
    secured.on('end', () => secured.end());
    closing.push(() => secured.destroy());
    return secured;
  }

  test('TLS is between the client and the server; bytes are counted and the address is told', async () => {
    const port = await server({}, (socket) => socket.pipe(socket));
    const { client, pass, over } = await carry(port);
    const secured = tls(client);
    await once(secured, 'secureConnect');
    expect(secured.authorized).toBe(true);
    const big = Buffer.alloc(3_000_000, 'x');
    secured.end(big);
    const back = await everything(secured);
    expect(back.equals(big)).toBe(true);
    await over;
    expect(pass.ends).toEqual([{ kind: 'done', address: '127.0.0.1' }]);
    expect(pass.sentBytes).toBeGreaterThan(3_000_000);
    expect(pass.receivedBytes).toBeGreaterThan(3_000_000);
  });

  test('a server that asks for a second hello gets it, when it names the same host', async () => {
    const port = await server({ ecdhCurve: 'P-521' }, (socket) => socket.end('hello'));
    const { client, over, pass } = await carry(port);
    const secured = tls(client, { ecdhCurve: 'X25519:P-521', minVersion: 'TLSv1.3' });
    expect((await everything(secured)).toString()).toBe('hello');
    await over;
    expect(pass.ends[0]).toMatchObject({ kind: 'done' });
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    '%s passes, and its sessions can be taken up again',
    async (maxVersion) => {
      const port = await server({}, (socket) => socket.end('hello'));
      const first = await carry(port);
      const fresh = tls(first.client, { maxVersion });
      const sessions: Buffer[] = [];
      fresh.on('session', (session) => sessions.push(session));
      expect((await everything(fresh)).toString()).toBe('hello');
      const [session] = sessions;
      if (session === undefined) throw new Error('no session came');
      for (let times = 0; times < 5; times++) {
        const again = await carry(port);
        const resumed = tls(again.client, { maxVersion, session });
        let reused = false;
        resumed.once('secureConnect', () => {
          reused = resumed.isSessionReused();
        });
        expect((await everything(resumed)).toString()).toBe('hello');
        expect(reused).toBe(true);
        await again.over;
      }
      await first.over;
    },
  );
});

describe('what is refused costs the upstream nothing', () => {
  test.each([
    ['another name', inRecords(helloMessage({ name: 'evil.test' }))],
    ['a name below the one asked for', inRecords(helloMessage({ name: `sub.${host}` }))],
    ['no name', inRecords(helloMessage({ name: null }))],
    ['a hidden name', inRecords(helloMessage({ extensions: [[0xfe0d, Buffer.alloc(40)]] }))],
    ['plain HTTP', Buffer.from(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`)],
    ['another name, in records of three bytes', inRecords(helloMessage({ name: 'evil.test' }), 3)],
  ])('%s: neither resolved nor dialled, and said in words of TLS', async (_, bytes) => {
    const upstream = await sink();
    const dns = await new DnsServer(() => ['127.0.0.1']).open();
    closing.push(() => dns.close());
    const { client, pass, over } = await carry(upstream.port, { network: new Network({ resolvers: [dns.address] }) });
    client.end(bytes);
    expect((await everything(client)).equals(accessDenied)).toBe(true);
    await over;
    expect(pass.ends).toMatchObject([{ kind: 'denied' }]);
    expect(upstream.sockets).toHaveLength(0);
    expect(dns.asked).toEqual([]);
    expect(pass.checked).toEqual([]);
  });

  test('what the checkpoint refuses is closed before a byte is read', async () => {
    const upstream = await sink();
    const { client, over } = await carry(upstream.port, { checkpoint: denying });
    expect((await everything(client.end())).equals(accessDenied)).toBe(true);
    await over;
    expect(upstream.sockets).toHaveLength(0);
  });

  test('a hello that never becomes whole is closed when its time is over', async () => {
    const upstream = await sink();
    const { client, pass, over } = await carry(upstream.port, { helloMs: 150 });
    client.write(hello.subarray(0, 100));
    await everything(client);
    await over;
    expect(pass.ends).toMatchObject([{ kind: 'timed_out' }]);
    expect(upstream.sockets).toHaveLength(0);
  });

  test('a client that goes before its hello is whole leaves nothing behind', async () => {
    const upstream = await sink();
    const { client, pass, over } = await carry(upstream.port);
    client.write(hello.subarray(0, 100));
    client.resetAndDestroy();
    await over;
    expect(pass.ends).toMatchObject([{ kind: 'cut' }]);
    expect(upstream.sockets).toHaveLength(0);
  });

  test('a client that goes while its upstream is looked for is not looked for any longer', async () => {
    const dns = await new DnsServer(() => 'silence').open();
    closing.push(() => dns.close());
    const { inner, client, pass, over } = await carry(443, { network: new Network({ resolvers: [dns.address] }) });
    client.write(hello);
    await until(() => dns.asked.length > 0, 'the name is asked for');
    inner.destroy();
    await over;
    expect(pass.ends).toMatchObject([{ kind: 'cut' }]);
  });

  test('a private address is denied, nobody listening is refused: the client sees the difference, and so does the record', async () => {
    const port = await freePort();
    const refused = await carry(port);
    refused.client.write(hello);
    expect((await everything(refused.client)).length).toBe(0);
    expect(refused.client.errored).toMatchObject({ code: 'ECONNRESET' });
    const denied = await carry(port);
    denied.pass.decide = () => ({ kind: 'denied', id: 'private_address', reason: 'loopback' });
    denied.client.write(hello);
    denied.client.once('data', () => denied.client.end());
    expect((await everything(denied.client)).equals(accessDenied)).toBe(true);
    await Promise.all([refused.over, denied.over]);
    expect(refused.pass.ends).toMatchObject([{ kind: 'refused' }]);
    expect(denied.pass.ends).toMatchObject([{ kind: 'denied' }]);
  });

  test('a second hello with another name is not sent on, asked for or not', async () => {
    const retry = Buffer.from(
      '160303005802000054 0303 cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c'.replaceAll(' ', ''),
      'hex',
    );
    for (const asks of [true, false]) {
      const upstream = await sink();
      const { client, pass, over } = await carry(upstream.port);
      client.on('end', () => client.end());
      client.write(hello);
      await until(() => upstream.received.length === hello.length, 'the first hello arrives');
      if (asks) {
        upstream.sockets[0]?.write(Buffer.concat([retry, Buffer.alloc(50)]));
        await once(client, 'data');
      }
      const got = everything(client);
      client.write(Buffer.from([20, 3, 3, 0, 1, 1]));
      client.write(inRecords(helloMessage({ name: 'evil.test' }), 40));
      await got;
      await over;
      expect(pass.ends).toMatchObject([{ kind: 'denied', address: '127.0.0.1' }]);
      expect(upstream.received.includes('evil.test')).toBe(false);
      expect(upstream.received.length).toBeLessThanOrEqual(hello.length + 6);
    }
  });

  test('one right behind the first, in the same segment, is not sent on either', async () => {
    const upstream = await sink();
    const { client, pass, over } = await carry(upstream.port);
    client.on('end', () => client.end());
    client.write(Buffer.concat([hello, inRecords(helloMessage({ name: 'evil.test' }))]));
    await everything(client);
    await over;
    expect(pass.ends).toMatchObject([{ kind: 'denied' }]);
    expect(upstream.received).toHaveLength(0);
  });
});

describe('what moves', () => {
  /** Past the hello: from here on bytes are only bytes. */
  async function moving(): Promise<Carried & { upstream: Sink; far: Socket }> {
    const upstream = await sink();
    const carried = await carry(upstream.port);
    carried.client.write(hello);
    carried.client.write(Buffer.from([23, 3, 3, 0, 1, 0]));
    await until(() => upstream.received.length === hello.length + 6, 'the hello arrives');
    const [far] = upstream.sockets;
    if (far === undefined) throw new Error('nobody came');
    far.write('.');
    await once(carried.client, 'data');
    carried.client.removeAllListeners('data');
    return { ...carried, upstream, far };
  }

  test('a half-close stays one: the other direction goes on', async () => {
    const { client, far, pass, over } = await moving();
    const ended = once(far, 'end');
    client.end();
    await ended;
    expect(far.writable).toBe(true);
    far.end('still here');
    expect((await everything(client)).toString()).toBe('still here');
    await over;
    expect(pass.ends).toMatchObject([{ kind: 'done' }]);
    const other = await moving();
    const heard = once(other.client, 'end');
    other.client.resume();
    other.far.end();
    await heard;
    other.client.end('last words');
    await other.over;
    await until(() => other.upstream.received.includes('last words'), 'the last words arrive');
  });

  test('a reset on one side is a reset on the other', async () => {
    const near = await moving();
    near.client.resetAndDestroy();
    await closed(near.far);
    expect(near.far.errored).toMatchObject({ code: 'ECONNRESET' });
    const far = await moving();
    far.far.resetAndDestroy();
    await closed(far.client.resume());
    expect(far.client.errored).toMatchObject({ code: 'ECONNRESET' });
    await Promise.all([near.over, far.over]);
    expect([near.pass.ends[0]?.kind, far.pass.ends[0]?.kind]).toEqual(['cut', 'cut']);
  });

  test('who does not read is not filled up', async () => {
    const { client, far, pass } = await moving();
    far.pause();
    const chunk = Buffer.alloc(1024 * 1024);
    let written = 0;
    const fill = (): void => {
      while (written < 256 && client.write(chunk)) written++;
    };
    client.on('drain', fill);
    fill();
    let before = -1;
    await until(() => {
      const still = before === pass.sentBytes && pass.sentBytes > 0 && client.writableNeedDrain;
      before = pass.sentBytes;
      return still;
    }, 'it stops');
    expect(pass.sentBytes).toBeLessThan(32 * 1024 * 1024);
  });

  test('a pass that is withdrawn cuts both sides at once', async () => {
    const { client, far, pass, over } = await moving();
    const both = Promise.all([closed(far), closed(client.resume())]);
    pass.withdraw();
    await both;
    await over;
    expect(pass.ends).toEqual([{ kind: 'cut', reason: 'the policy was narrowed', address: '127.0.0.1' }]);
  });

  test('bytes over the bound are not sent', async () => {
    const { client, pass, over, upstream } = await moving();
    pass.sentMaxBytes = pass.sentBytes + 1_000;
    client.write(Buffer.alloc(900, 'a'));
    await until(() => upstream.received.includes('a'.repeat(900)), 'the first 900 arrive');
    client.write(Buffer.alloc(101, 'b'));
    await closed(client.resume());
    await over;
    expect(pass.ends).toMatchObject([{ kind: 'cut' }]);
    expect(upstream.received.includes('bbb')).toBe(false);
  });
});
