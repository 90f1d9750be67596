import { expect, test } from 'vitest';
import { openEgressBench } from '../fixtures/egress-bench.ts';
import { egressPolicy, Inside } from '../fixtures/inside.ts';
import { here } from '../fixtures/servers.ts';
import { underEachRuntime } from './fixtures/host.ts';

/** Clients that never come to the point: what they are held in is bounded, and what becomes of them is told and on record. */
const { facts, servers, runner } = await openEgressBench(here('api.test', 'raw.test', 'plain.test'));
async function open(runtime: string): Promise<Inside> {
  const [http, https] = [servers.port('http'), servers.port('https')];
  const own = 'addresses: [127.0.0.0/8]';
  const text = `egress:
  use: [web]
  profiles:
    web:
      - { id: api, host: [api.test], ports: [${https}], ${own} }
      - { id: raw, host: [raw.test], ports: [${https}], tls: pass_through, ${own} }
      - { id: plain, host: [plain.test], ports: [${http}], tls: none, ${own} }
`;
  return new Inside(await runner.open({ policy: egressPolicy(text, { runtime }) }));
}

/** Of each way in: what comes before the head, and what the head begins with. */
const ways = (): string => `import concurrent.futures, json, socket, ssl, time
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
def plain(): return socket.create_connection(('plain.test', ${servers.port('http')}), 10)
def proxy(): return socket.create_connection(('127.0.0.1', 3128), 10)
def api(): return context.wrap_socket(socket.create_connection(('api.test', ${servers.port('https')}), 10), server_hostname='api.test')
def tls(): return socket.create_connection(('api.test', ${servers.port('https')}), 10)
def raw(): return socket.create_connection(('raw.test', ${servers.port('https')}), 10)
head = b'GET /head HTTP/1.1\\r\\nHost: plain.test\\r\\nX: '
hello = b'\\x16\\x03\\x01\\x3f\\x00\\x01\\x00\\x3e\\xfc\\x03\\x03'
`;

async function dripped(runtime: string): Promise<void> {
  const inside = await open(runtime);
  const said = await inside.json<Record<string, readonly [number, string]>>(`${ways()}
def drip(way):
    s = globals()[way](); s.settimeout(0.25); start = time.monotonic(); got = b''; begun = hello if way in ('tls', 'raw') else head
    try:
        s.sendall(begun)
        while time.monotonic() - start < 40:
            try:
                piece = s.recv(4096)
                if not piece: break
                got += piece
            except (TimeoutError, ssl.SSLWantReadError): s.sendall(b'y')
    except OSError as error: got = got or type(error).__name__.encode()
    return [time.monotonic() - start, got.decode('latin-1')]
names = ('plain', 'proxy', 'api', 'tls', 'raw')
with concurrent.futures.ThreadPoolExecutor(5) as pool: print(json.dumps(dict(zip(names, pool.map(drip, names)))))`);
  for (const way of ['plain', 'proxy', 'api']) expect(said[way]?.[1]).toMatch(/^HTTP\/1\.1 408 [^]*"denied"/);
  for (const way of ['tls', 'raw']) expect(said[way]?.[1]).not.toMatch(/^HTTP/);
  for (const [seconds] of Object.values(said)) expect(seconds).toBeLessThan(30);
  await inside.quiet();
  const decided = await inside.decided();
  const refused = decided.filter(({ decision, kind }) => decision === 'denied' && kind !== 'name');
  expect(refused.map(({ host }) => host).sort()).toEqual(['api.test', 'api.test', 'plain.test', 'proxy']);
  for (const { reason } of refused)
    expect(reason).toMatch(/was not whole 10000 ms after|did not come to its end in time/);
  // What is passed through was let through, as a connection, before it said for whom.
  expect(await inside.ended()).toMatchObject([{ result: 'timed_out', sentBytes: 0 }]);
  await inside.run.close();
}

test('a head that comes byte by byte is ended in time, told why where HTTP is spoken, and nothing of it arrives', async () => {
  const before = servers.total;
  // Both at once: it is waiting.
  await Promise.all((facts.enforces.gvisor ? ['runc', 'runsc'] : ['runc']).map(dripped));
  expect(servers.total).toBe(before);
});

underEachRuntime(facts, (runtime) => {
  test('a head of a gigabyte is refused where it is too long, in bounded memory, and on record', async () => {
    const [inside, before] = [await open(runtime), servers.total];
    const memory = process.memoryUsage.rss();
    const said = await inside.json<Record<string, readonly [number, string]>>(`${ways()}
def pour(way):
    s = globals()[way](); s.settimeout(20); sent = 0; got = b''; more = b'y' * 65536
    try:
        s.sendall(head)
        while sent < 2 ** 30: sent += s.send(more)
    except OSError: pass
    try:
        while piece := s.recv(4096): got += piece
    except OSError: pass
    return [sent, got.decode('latin-1')]
names = ('plain', 'proxy', 'api')
with concurrent.futures.ThreadPoolExecutor(3) as pool: print(json.dumps(dict(zip(names, pool.map(pour, names)))))`);
    // What buffers of the kernel inside hold comes to some of it.
    for (const [sent] of Object.values(said)) expect(sent).toBeLessThan(16_000_000);
    expect(process.memoryUsage.rss() - memory).toBeLessThan(100_000_000);
    const decided = (await inside.decided()).filter(({ decision }) => decision === 'denied');
    await inside.run.close();
    expect(decided.map(({ reason }) => reason)).toEqual(Array(3).fill('the head is longer than 65536 bytes'));
    expect(servers.total).toBe(before);
  });
});
