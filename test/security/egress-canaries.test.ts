import { randomBytes } from 'node:crypto';
import { Resolver } from 'node:dns/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DnsServer } from '../../src/egress/names/dns-server.fixture.ts';
import { Network } from '../../src/egress/outside/network.ts';
import { Runner } from '../../src/runner.ts';
import { Bench } from '../fixtures/bench.ts';
import { egressPolicy, Inside } from '../fixtures/inside.ts';
import { Servers } from '../fixtures/servers.ts';
import { compile, underEachRuntime } from './fixtures/host.ts';
import { Wire } from './fixtures/wire.ts';

/** A name is a message. 1,000 of them, and what of that is seen on any interface of this host, by its resolver and its servers. */
const budget = 40;
const isRoot = process.getuid?.() === 0;
const bench = await Bench.make();
const facts = await bench.engine.describe();
let servers: Servers;
let dns: DnsServer;
let runner: Runner;

beforeAll(async () => {
  const isOurs = (name: string): boolean => name.endsWith('.allowed.test');
  [servers, dns] = await Promise.all([
    Servers.open({ names: { 'x.allowed.test': [] } }),
    new DnsServer((name, type) => (isOurs(name) ? (type === 'A' ? ['127.0.0.1'] : []) : 'NXDOMAIN')).open(),
  ]);
  runner = await Runner.create(bench.engine, bench.dataDir, { network: new Network({ resolvers: [dns.address] }) });
});
afterAll(async () => {
  await runner.close();
  await Promise.all([bench.close(), servers.close()]);
  dns.close();
});

function newTag(): string {
  return `glovebox-${randomBytes(8).toString('hex')}`;
}

/** 500 names of nobody's and 500 below a suffix that is allowed, by lookup and by proxy, a few of each in odd types. */
const telling = (tag: string, port: number): string => `import concurrent.futures, socket, struct
tag, port = '${tag}', ${port}
def look(name):
    try: return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0][4]
    except OSError: return None
def txt(name):
    labels = b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\\0'
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.sendto(struct.pack('>6H', 7, 0x100, 1, 0, 0, 0) + labels + struct.pack('>2H', 16, 1), ('127.0.0.1', 53)); s.recv(600)
def ask(place, target, host):
    with socket.create_connection(place, 10) as s:
        s.sendall(f'GET {target} HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n'.encode())
        return s.recv(100)[9:12].decode()
def lookup(n, suffix):
    name = f'{tag}-l{n}.{suffix}'
    if n % 10 == 0: txt(name)
    address = look(name)
    if address is None: return 'no name'
    try: return ask(address, '/', f'{name}:{port}')
    except OSError as error: return 'closed'
def proxied(n, suffix):
    name = f'{tag}-p{n}.{suffix}:{port}'
    return ask(('127.0.0.1', 3128), f'http://{name}/', name)
work = [(how, n, suffix) for n in range(250) for how in (lookup, proxied) for suffix in ('evil.test', 'allowed.test')]
with concurrent.futures.ThreadPoolExecutor(8) as pool: said = list(pool.map(lambda one: one[0](*one[1:]), work))
import collections
print(len(work), sorted(collections.Counter(f'{suffix} {what}' for (_, _, suffix), what in zip(work, said)).items()))`;

test('what is captured sees a lookup that this host makes', async (context) => {
  if (!isRoot) return context.skip('capturing packets on this host needs root');
  const wire = await Wire.open(await compile('capture.c'), bench.folder);
  const tag = newTag();
  const resolver = new Resolver();
  resolver.setServers([dns.address]);
  await resolver.resolve4(`${tag}-host.allowed.test`);
  await wire.settle();
  expect(wire.arrivals()).toContain(`tag ${tag}-host`);
  await wire.close();
});

underEachRuntime(facts, (runtime) =>
  test('of 1,000 names as many are heard of outside as the policy grants', async () => {
    const wire = isRoot ? await Wire.open(await compile('capture.c'), bench.folder) : undefined;
    dns.asked.length = servers.arrived.length = 0;
    const rule = `{ id: wide, host: ["**.allowed.test"], ports: [${servers.port('http')}], tls: none, addresses: [127.0.0.0/8] }`;
    const policy = egressPolicy(
      `egress: { use: [wide], dns: { max_names: ${budget} }, profiles: { wide: [${rule}] } }\n`,
      { runtime },
    );
    const inside = new Inside(await runner.open({ policy }));
    const tag = newTag();
    const said = await inside.python(telling(tag, servers.port('http')));
    await wire?.settle();
    await inside.run.close();
    await wire?.close();

    expect(said).toContain(`1000 [('allowed.test 200', ${budget})`);
    expect(said).toMatch(/\('evil\.test 403', 250\), \('evil\.test no name', 250\)/);
    const labels = (lines: readonly string[]) =>
      new Set(lines.flatMap((line) => line.match(/glovebox-[0-9a-f]+-\w+/) ?? []));
    const asked = labels(dns.asked);
    expect(asked.size).toBe(budget);
    expect(dns.asked.filter((line) => !/\.allowed\.test (A|AAAA)$/.test(line))).toEqual([]);
    expect(labels(servers.arrived)).toEqual(asked);
    if (wire !== undefined) expect(labels(wire.arrivals())).toEqual(asked);
    const decided = await inside.decided();
    expect(labels(decided.filter(({ decision }) => decision === 'allowed').map(({ host }) => host))).toEqual(asked);
    expect(decided.length).toBeLessThan(1_000);
  }),
);
