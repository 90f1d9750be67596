import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { Deadline } from '../src/deadline.ts';
import type { RunnerError } from '../src/errors.ts';
import { newId } from '../src/ids.ts';
import type { Gateway, GatewayEvents, InnerConnection, Peer } from '../src/sandbox/gateway/gateway.ts';
import { Boxes, type Box } from './fixtures/box.ts';
import { cuttable, ways } from './fixtures/cuttable-engine.ts';
import { underEachRuntime } from './security/fixtures/host.ts';

/** The loopback of a real sandbox, with real programs in it, seen from outside through its gateway. */
const boxes = await Boxes.make('python');
const facts = await boxes.engine.describe();

afterAll(async () => {
  await boxes.close();
});

const mebibyte = 1024 * 1024;

interface Wires {
  readonly gateway: Gateway;
  /** Those that came, in order. */
  readonly come: InnerConnection[];
  readonly datagrams: { readonly bytes: Buffer; readonly peer: Peer }[];
  readonly lost: RunnerError[];
}

underEachRuntime(facts, (runtime) => {
  let box: Box;
  let open: Gateway[] = [];

  beforeAll(async () => {
    box = await boxes.open({ runtime, egress: true });
  });
  afterEach(async () => {
    await Promise.all(open.map((gateway) => gateway.close()));
    open = [];
  });

  const wires = async (serve: (inner: InnerConnection) => void = () => undefined): Promise<Wires> => {
    const come: InnerConnection[] = [];
    const datagrams: Wires['datagrams'] = [];
    const lost: RunnerError[] = [];
    const events: GatewayEvents = {
      connection: (inner) => {
        come.push(inner);
        serve(inner);
      },
      datagram: (listener, bytes, peer) => {
        datagrams.push({ bytes, peer });
        gateway.answer(listener, peer, Buffer.concat([Buffer.from('re: '), bytes]));
      },
      lost: (reason) => lost.push(reason),
    };
    const gateway = await box.sandbox.openGateway(events);
    open.push(gateway);
    return { gateway, come, datagrams, lost };
  };

  const python = (script: string): Promise<string> =>
    box.output(['python3', '-c', `import socket, struct, sys\n${script}`]);

  test('a program inside has its bytes echoed, whole and in order, and each side ends by itself', async () => {
    const { gateway, come } = await wires((inner) => inner.pipe(inner));
    await gateway.listen('tcp', '127.64.0.1', 443);
    const said = await python(`
import hashlib, os, threading
s = socket.create_connection(('127.64.0.1', 443))
data = os.urandom(8 << 20)
threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR))).start()
got = b''.join(iter(lambda: s.recv(1 << 20), b''))
print(got == data, len(got))`);
    expect(said).toBe(`True ${8 * mebibyte}\n`);
    expect(come).toHaveLength(1);
  });

  test('bytes that a program sends arrive after it has closed, and nothing more than it sent', async () => {
    const received: Promise<string>[] = [];
    const { gateway } = await wires((inner) => {
      const hash = createHash('sha256');
      let bytes = 0;
      inner.on('data', (part: Buffer) => {
        hash.update(part);
        bytes += part.length;
      });
      received.push(once(inner, 'end').then(() => `${bytes} ${hash.digest('hex')}`));
      inner.end();
    });
    await gateway.listen('tcp', '127.64.0.1', 80);
    const sent = await python(`
import hashlib, os
data = os.urandom(3000001)
s = socket.create_connection(('127.64.0.1', 80)); s.sendall(data); s.close()
print(len(data), hashlib.sha256(data).hexdigest())`);
    expect(`${await received[0]}\n`).toBe(sent);
  });

  test('a slow reader inside is waited for, and holds up nobody else', async () => {
    const { gateway, come } = await wires();
    await gateway.listen('tcp', '127.64.0.1', 80);
    const call = await box.sandbox.start(newId(), {
      command: {
        kind: 'argv',
        argv: [
          'python3',
          '-c',
          `
import socket, time, sys
slow = socket.create_connection(('127.64.0.1', 80))
quick = socket.create_connection(('127.64.0.1', 80))
print(quick.recv(100).decode(), flush=True)
n = 0
while True:
    got = len(slow.recv(1 << 20)); n += got
    if not got: break
print(n)`,
        ],
      },
    });
    while (come.length < 2) await sleep(5);
    const [slow, quick] = come;
    slow?.end(Buffer.alloc(4 * mebibyte));
    quick?.end('quick');
    expect((await call.ended).outcome).toEqual({ kind: 'exited', code: 0 });
    expect((await call.output.read(0, 1000)).bytes.toString()).toBe(`quick\n${4 * mebibyte}\n`);
  });

  test('a reset is a reset, from either side', async () => {
    const { gateway, come } = await wires((inner) => {
      if (come.length === 1) inner.once('data', () => inner.reset());
    });
    await gateway.listen('tcp', '127.64.0.1', 80);
    const said = await python(`
s = socket.create_connection(('127.64.0.1', 80)); s.sendall(b'reset me')
try: print(s.recv(100))
except ConnectionResetError: print('reset')
t = socket.create_connection(('127.64.0.1', 80)); t.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
t.close()`);
    expect(said).toBe('reset\n');
    const [, second] = come;
    const closed = Deadline.run(5_000, 'the reset', () => new Promise((resolve) => second?.once('close', resolve)));
    if (second?.destroyed === false) await closed;
    else void closed.catch(() => undefined);
    expect(second?.errored).toMatchObject({ code: 'ECONNRESET' });
  });

  test('datagrams are heard and answered', async () => {
    const { gateway, datagrams } = await wires();
    await gateway.listen('udp', '127.0.0.1', 53);
    const said = await python(`
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(5)
for n in range(3):
    u.sendto(b'question %d' % n, ('127.0.0.1', 53)); print(u.recvfrom(4096)[0].decode())`);
    expect(said).toBe('re: question 0\nre: question 1\nre: question 2\n');
    expect(datagrams).toHaveLength(3);
  });

  test('what listens inside is reached, and what does not is refused', async () => {
    const { gateway } = await wires();
    const server = await box.sandbox.start(newId(), {
      command: { kind: 'argv', argv: ['python3', '-m', 'http.server', '--bind', '127.0.0.1', '3000'] },
      cwd: '/etc',
    });
    const ready = async (): Promise<InnerConnection> => {
      for (;;) {
        try {
          return await gateway.connect('127.0.0.1', 3000);
        } catch (error) {
          expect(error).toMatchObject({ code: 'ECONNREFUSED' });
          await sleep(20);
        }
      }
    };
    const inner = await Deadline.run(10_000, 'the server inside', ready);
    inner.write('GET /hostname HTTP/1.0\r\n\r\n');
    const parts: Buffer[] = [];
    for await (const part of inner) parts.push(part as Buffer);
    expect(Buffer.concat(parts).toString()).toMatch(/^HTTP\/1\.0 200 OK[^]*\r\n\r\nglovebox\n$/);
    server.kill();
    await server.gone;
  });

  test('an address is had once, is free once it is let go, and only on loopback', async () => {
    const { gateway } = await wires();
    const first = await gateway.listen('tcp', '127.64.0.9', 8080);
    await expect(gateway.listen('tcp', '127.64.0.9', 8080)).rejects.toMatchObject({ code: 'EADDRINUSE' });
    gateway.unlisten(first);
    await gateway.listen('tcp', '127.64.0.9', 8080);
    await gateway.close();
    expect(await python(`s = socket.socket(); s.bind(('127.64.0.9', 8080)); print('free')`)).toBe('free\n');
  });

  test('tools cannot see, signal or end the gateway', async () => {
    const { gateway, lost } = await wires((inner) => inner.end('there'));
    await gateway.listen('tcp', '127.64.0.1', 80);
    await box.run('kill -KILL -1; for p in /proc/[0-9]*; do kill -KILL "${p#/proc/}"; done 2>/dev/null; true');
    expect(await python(`print(socket.create_connection(('127.64.0.1', 80)).recv(10))`)).toBe("b'there'\n");
    expect(lost).toEqual([]);
  });

  test('300 connections at once: 256 are carried, the others are reset, and all is well afterwards', async () => {
    const { gateway, come } = await wires((inner) => inner.pipe(inner));
    await gateway.listen('tcp', '127.64.0.1', 80);
    const said = await python(`
import time
all = []
for n in range(300):
    try: s = socket.create_connection(('127.64.0.1', 80), 10); all.append(s)
    except OSError: pass
fine = 0
for s in all:
    try:
        s.sendall(b'x'); fine += s.recv(1) == b'x'
    except OSError: pass
print(fine)
for s in all: s.close()`);
    expect(Number(said)).toBe(256);
    while (come.some((inner) => !inner.destroyed)) await sleep(5);
    expect(await python(`s = socket.create_connection(('127.64.0.1', 80)); s.sendall(b'y'); print(s.recv(1))`)).toBe(
      "b'y'\n",
    );
  });

  test('carries bytes as fast as a stream does, both ways', async () => {
    const bytes = (runtime === 'runc' ? 64 : 8) * mebibyte;
    const blob = randomBytes(mebibyte);
    const { gateway } = await wires((inner) => {
      let read = 0;
      inner.on('data', (part: Buffer) => {
        read += part.length;
        if (read === bytes) send(inner, blob, bytes);
      });
    });
    await gateway.listen('tcp', '127.64.0.1', 80);
    const said = await python(`
import time
s = socket.create_connection(('127.64.0.1', 80)); block = bytes(1 << 20)
start = time.monotonic()
for n in range(${bytes / mebibyte}): s.sendall(block)
out = time.monotonic(); n = 0
while n < ${bytes}: n += len(s.recv(1 << 20))
end = time.monotonic()
print(${bytes} / (out - start) / 1e6, ${bytes} / (end - out) / 1e6)`);
    const [out, back] = said.trim().split(' ').map(Number);
    // A bound for a busy machine; bench/ has what a quiet one does.
    expect(Math.min(out ?? 0, back ?? 0)).toBeGreaterThan(runtime === 'runc' ? 20 : 1);
  });
});

function send(inner: InnerConnection, blob: Buffer, bytes: number): void {
  let sent = 0;
  const more = (): void => {
    while (sent < bytes) {
      sent += blob.length;
      if (!inner.write(blob)) return void inner.once('drain', more);
    }
  };
  more();
}

test.each(ways)(
  'over the %s stream, a gateway whose stream is cut is lost with all its connections, and the next one has its ports',
  async (way) => {
    const { engine, cut } = cuttable(boxes.engine, way);
    const box = await boxes.open({ engine, egress: true });
    const lost: RunnerError[] = [];
    const come: InnerConnection[] = [];
    const events: GatewayEvents = {
      connection: (inner) => come.push(inner),
      datagram: () => undefined,
      lost: (reason) => {
        lost.push(reason);
        next ??= box.sandbox.openGateway(events);
      },
    };
    let next: Promise<Gateway> | undefined;
    const gateway = await box.sandbox.openGateway(events);
    await gateway.listen('tcp', '127.64.0.1', 443);
    const script = `
import socket
s = socket.create_connection(('127.64.0.1', 443))
try: print(s.recv(1))
except ConnectionResetError: print('reset')`;
    const call = await box.sandbox.start(newId(), { command: { kind: 'argv', argv: ['python3', '-c', script] } });
    while (come.length === 0) await sleep(5);
    cut();
    expect((await call.ended).outcome).toEqual({ kind: 'exited', code: 0 });
    expect((await call.output.read(0, 100)).bytes.toString()).toBe('reset\n');
    expect([lost.length, come[0]?.destroyed]).toEqual([1, true]);
    await expect(gateway.listen('tcp', '127.64.0.1', 80)).rejects.toMatchObject({ code: 'sandbox_lost' });
    await (await next)?.listen('tcp', '127.64.0.1', 443);
    await box.close();
    expect(lost).toHaveLength(2);
  },
);
