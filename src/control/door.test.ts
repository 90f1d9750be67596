import { mkdir, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RunnerError } from '../errors.ts';
import type { Controlled, RunState } from './controlled.ts';
import { DoorClient } from './door-client.ts';
import { Door } from './door.ts';
import { Forwarding } from './forwarding.ts';
import { SocketPlace } from './socket-place.ts';

/** A run with one port inside: an echo that answers the end with a last word. */
class OpenRun implements Controlled {
  readonly id = '0123456789abcdefghjkmnpqrs';
  readonly without: string[] = [];
  readonly revoked: string[] = [];
  inside: Server | undefined;

  state(): RunState {
    return {
      run: this.id,
      policy: 'p',
      egress: { rules: ['npm', 'gh'].filter((id) => !this.without.includes(id)), without: this.without },
      credentials: { names: ['token'], revoked: this.revoked },
    };
  }
  async narrowEgress(without: readonly string[]): Promise<RunState> {
    if (without.includes('unknown')) throw new RunnerError('invalid_request', 'this run has no rule unknown');
    this.without.push(...without);
    return this.state();
  }
  async revokeCredential(name: string): Promise<RunState> {
    this.revoked.push(name);
    return this.state();
  }
  async forward(port: number): Promise<Duplex> {
    const address = this.inside?.address() as AddressInfo | undefined;
    if (port !== 3000 || address === undefined)
      throw new RunnerError('invalid_request', `nothing listens on port ${port} inside`);
    const socket = connect({ port: address.port, host: '127.0.0.1', allowHalfOpen: true });
    return new Promise((resolve, reject) => socket.on('error', reject).on('connect', () => resolve(socket)));
  }
}

let folder: string;
let run: OpenRun;
let door: Door;
let place: SocketPlace;
const clients: DoorClient[] = [];
const inner: Socket[] = [];

beforeEach(async () => {
  // Longer than the address of a socket may be.
  folder = join(await mkdtemp(join(tmpdir(), 'glovebox-door-')), 'd'.repeat(150));
  await mkdir(folder);
  run = new OpenRun();
  run.inside = createServer({ allowHalfOpen: true }, (socket) => {
    inner.push(socket.on('error', () => undefined));
    socket.pipe(socket, { end: false });
    socket.on('end', () => socket.end('bye'));
  });
  await new Promise<void>((resolve) => run.inside?.listen(0, '127.0.0.1', resolve));
  place = SocketPlace.open(folder);
  door = await Door.open(folder, run);
});

afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
  await door.close();
  place.close();
  for (const socket of inner.splice(0)) socket.destroy();
  run.inside?.close();
  await rm(join(folder, '..'), { recursive: true });
});

async function enter(): Promise<DoorClient> {
  const client = await DoorClient.open({ id: run.id, path: folder });
  clients.push(client);
  return client;
}

describe('the door of a run', () => {
  test('is a socket that is ours alone, and gone when the run is', async () => {
    const { mode } = await stat(join(folder, 'control.sock'));
    expect(mode & 0o777).toBe(0o600);
    await door.close();
    await expect(stat(join(folder, 'control.sock'))).rejects.toThrow(/ENOENT/);
    await expect(enter()).rejects.toMatchObject({ code: 'run_not_open' });
  });

  test('takes away what it is told to, and says how the run stands', async () => {
    const client = await enter();
    expect((await client.narrow(['npm'])).egress).toEqual({ rules: ['gh'], without: ['npm'] });
    expect((await client.revoke('token')).credentials.revoked).toEqual(['token']);
    expect(await client.state()).toEqual(run.state());
  });

  test('answers what it does not do with the codes that the run has for it', async () => {
    const client = await enter();
    await expect(client.narrow(['unknown'])).rejects.toMatchObject({
      code: 'invalid_request',
      message: like(/no rule/),
    });
    await expect(client.connect(4000)).rejects.toMatchObject({ code: 'invalid_request' });
    await expect(client.narrow([])).rejects.toMatchObject({ code: 'invalid_request' });
  });

  test.each([
    ['GET', '/', '', 400],
    ['POST', '/narrow', '{"without": ["npm"], "more": 1}', 400],
    ['POST', '/narrow', 'not JSON', 400],
    ['POST', '/revoke', '{"credential": ""}', 400],
    ['POST', '/narrow', 'x'.repeat(100_000), 413],
    ['PUT', '/state', '', 400],
  ])('does nothing for what it does not understand: %s %s', async (method, path, body, status) => {
    const client = await enter();
    const answered = await new Promise<number>((resolve, reject) => {
      const asked = request({ method, path, createConnection: () => byHand() });
      asked.on('error', reject).on('response', (response) => resolve(response.resume().statusCode ?? 0));
      asked.end(body);
    });
    expect(answered).toBe(status);
    expect(await client.state()).toEqual(run.state());
    expect(run.without).toEqual([]);
  });

  test.each(['127.0.0.1:0', '127.0.0.1:65536', '10.0.0.1:80', 'localhost:3000', '[::1]:3000'])(
    'leads to no other place than a port of the loopback inside: %j',
    async (place) => {
      const socket = byHand();
      socket.write(`CONNECT ${place} HTTP/1.1\r\nHost: x\r\n\r\n`);
      expect(await text(socket)).not.toMatch(/^HTTP\/1\.1 200/);
    },
  );

  test('replaces the one that a dead process has left, but asks nothing that is no socket of ours', async () => {
    await door.close();
    await writeFile(join(folder, 'control.sock'), '');
    await expect(enter()).rejects.toMatchObject({ code: 'data_dir_unusable' });
    door = await Door.open(folder, run);
    await expect(enter()).resolves.toBeDefined();
    await door.close();
    await symlink('/nowhere', join(folder, 'control.sock'));
    await expect(enter()).rejects.toMatchObject({ code: 'data_dir_unusable' });
  });

  test('tells who waits for it that the run has ended', async () => {
    const client = await enter();
    const ended = client.ended(new AbortController().signal);
    await door.close();
    await ended;
  });

  test('does not keep who waits longer than they want', async () => {
    const client = await enter();
    const waiting = new AbortController();
    const ended = client.ended(waiting.signal);
    waiting.abort();
    await ended;
  });

  function byHand(): Socket {
    return connect({ path: place.path, allowHalfOpen: true }).on('error', () => undefined);
  }
});

describe('a tunnel', () => {
  test('carries bytes and ends as they come, both ways', async () => {
    const tunnel = await (await enter()).connect(3000);
    const sent = Buffer.alloc(3_000_000, 'glovebox');
    const got = buffer(tunnel);
    tunnel.end(sent);
    expect(Buffer.concat([sent, Buffer.from('bye')]).equals(await got)).toBe(true);
  });

  test('breaks with the side that breaks', async () => {
    const tunnel = await (await enter()).connect(3000);
    const over = endOf(tunnel);
    tunnel.write('x');
    await new Promise((resolve) => tunnel.once('data', resolve));
    for (const socket of inner) socket.resetAndDestroy();
    await over;
  });

  test('is cut when the run closes', async () => {
    const tunnel = await (await enter()).connect(3000);
    const over = endOf(tunnel.resume());
    await door.close();
    await over;
  });

  /** Whichever the kernel tells of a unix socket whose other end has gone. */
  function endOf(tunnel: Duplex): Promise<unknown> {
    return new Promise((resolve) => tunnel.on('end', resolve).on('error', resolve).on('close', resolve));
  }
});

describe('a forwarded port', () => {
  test('is reached on both loopback addresses, by many at once, until it is closed', async () => {
    const client = await enter();
    const forwarding = await Forwarding.open({ port: 3000, hostPort: 0, connect: (port) => client.connect(port) });
    const answers = await Promise.all(
      Array.from({ length: 30 }, async (_, at) => {
        const socket = connect({ port: forwarding.hostPort, host: '127.0.0.1', allowHalfOpen: true });
        socket.end(`${at} `);
        return text(socket);
      }),
    );
    expect(answers).toEqual(Array.from({ length: 30 }, (_, at) => `${at} bye`));
    const idle = connect({ port: forwarding.hostPort, host: '127.0.0.1' }).on('error', () => undefined);
    const closed = new Promise((resolve) => idle.on('close', resolve));
    await new Promise((resolve) => idle.once('connect', resolve));
    await forwarding.close();
    await closed;
    await expect(Forwarding.open({ port: 3000, hostPort: 70_000, connect: () => client.connect(1) })).rejects.toThrow();
  });

  test('closes a connection that cannot be made inside, and says why', async () => {
    const client = await enter();
    const refused: unknown[] = [];
    const forwarding = await Forwarding.open({
      port: 4000,
      hostPort: 0,
      connect: (port) => client.connect(port),
      onRefused: (error) => refused.push(error),
    });
    const socket = connect({ port: forwarding.hostPort, host: '127.0.0.1' }).on('error', () => undefined);
    await new Promise((resolve) => socket.on('close', resolve));
    expect(refused).toMatchObject([{ code: 'invalid_request' }]);
    await forwarding.close();
  });

  test('that is taken here is refused, and the message says what to do', async () => {
    const first = await Forwarding.open({ port: 3000, hostPort: 0, connect: () => run.forward(3000) });
    const second = Forwarding.open({ port: 3000, hostPort: first.hostPort, connect: () => run.forward(3000) });
    await expect(second).rejects.toMatchObject({ code: 'invalid_request', message: like(/name another one/) });
    await first.close();
  });
});

const like = (pattern: RegExp): string => expect.stringMatching(pattern) as string;
