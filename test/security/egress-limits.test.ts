import { describe, expect, test } from 'vitest';
import { openEgressBench } from '../fixtures/egress-bench.ts';
import { egressPolicy, eventually, Inside } from '../fixtures/inside.ts';
import { here } from '../fixtures/servers.ts';
import { underEachRuntime } from './fixtures/host.ts';

/** What is under way ends with what allowed it, and takes no more than it was given: asserted at the servers. */
const { facts, servers, runner } = await openEgressBench(here('api.test', 'raw.test', 'plain.test'));
const sentMax = 65_536;

function policyFor(options: { runtime?: string } = {}) {
  const [http, https] = [servers.port('http'), servers.port('https')];
  const own = 'addresses: [127.0.0.0/8]';
  return egressPolicy(
    `egress:
  use: [looked, passed, plain, echo]
  upstreams: [{ id: echo, host: echo.internal, port: 7, to: "127.0.0.1:${servers.port('echo')}" }]
  profiles:
    looked: [{ id: api, host: [api.test], ports: [${https}], methods: [GET, POST], max_sent: 64KiB, max_received: 1MiB, ${own} }]
    passed: [{ id: raw, host: [raw.test], ports: [${https}], tls: pass_through, max_sent: 64KiB, ${own} }]
    plain: [{ id: plain, host: [plain.test], ports: [${http}], tls: none, max_requests: 100, ${own} }]
`,
    options,
  );
}

async function open(options: { runtime?: string } = {}): Promise<Inside> {
  return new Inside(await runner.open({ policy: policyFor(options) }));
}

/** Python clients of every way of being carried. */
const clients = (): string => `import http.client, socket, ssl, sys, threading, time
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
def client(way):
    if way == 'plain': return http.client.HTTPConnection('plain.test', ${servers.port('http')}, timeout=20)
    return http.client.HTTPSConnection(f'{way}.test', ${servers.port('https')}, timeout=20, context=context)
def drip(way):
    while True:
        try:
            c = client(way); c.request('GET', '/drip'); answer = c.getresponse()
            print(way, answer.status, flush=True)
            while piece := answer.read1(): pass
        except Exception as error: print(way, type(error).__name__, flush=True)
        time.sleep(0.05)
`;

describe('bytes', () => {
  test.each([
    ['with a length', 'api', `c.request('POST', '/swallow', b'x' * 10_000_000)`],
    ['in chunks', 'api', `c.request('POST', '/swallow', iter([b'x' * 10_000] * 1000), encode_chunked=True)`],
    ['that is passed through', 'raw', `c.request('POST', '/swallow', b'x' * 10_000_000)`],
  ])('an upload %s beyond its bound does not arrive', async (_, way, send) => {
    const inside = await open();
    const before = servers.received;
    const said = await inside.python(`${clients()}
try:
    c = client('${way}'); ${send}; print('answer', c.getresponse().status)
except Exception as error: print('ended', type(error).__name__)`);
    await inside.run.close();
    expect(said).toMatch(/answer (403|413)|ended /);
    expect(servers.received - before).toBeLessThanOrEqual(sentMax);
    const [end] = await inside.ended();
    expect(end).toMatchObject({
      result: expect.stringMatching(/cut|denied/),
      reason: expect.stringContaining('65536'),
    });
    expect(end?.sentBytes).toBeLessThanOrEqual(sentMax);
  });

  test('requests within the bound add up to as many as a rule grants', async () => {
    const inside = await open();
    const before = servers.arrived.length;
    const said = await inside.python(`${clients()}
c = client('plain'); statuses = []
for n in range(110):
    c.request('GET', f'/{n}'); answer = c.getresponse(); answer.read(); statuses.append(answer.status)
print(statuses.count(200), statuses[100:])`);
    await inside.run.close();
    expect(said).toContain(`100 [${Array(10).fill(403).join(', ')}]`);
    expect(servers.arrived.length - before).toBe(100);
  });
});

describe('time', () => {
  /** Drips of three kinds under way; `ending` has to end those of `which`. */
  async function cutWithinASecond(left: number, ending: () => Promise<unknown>): Promise<void> {
    const started = performance.now();
    await Promise.all([ending(), eventually('the servers are left', () => servers.drips === left)]);
    expect(performance.now() - started).toBeLessThan(1_000);
  }

  underEachRuntime(facts, (runtime) => {
    test('what was let through ends within a second of being taken away, or of its run, and not before', async () => {
      const inside = await open({ runtime });
      await inside.start(
        'drips',
        `unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY\npython3 - <<'END'
${clients()}
for way in ('api', 'raw', 'plain'): threading.Thread(target=drip, args=(way,)).start()
END`,
      );
      await eventually('three are under way', () => servers.drips === 3);
      await cutWithinASecond(2, () => inside.run.narrowEgress(['passed']));
      await cutWithinASecond(1, () => inside.run.narrowEgress(['api']));
      await inside.until('drips', /raw (Conn|SSL|gai)/); // it goes on trying
      expect(servers.drips).toBe(1);
      const total = servers.total;
      let closing: Promise<unknown> | undefined;
      await cutWithinASecond(0, async () => void (closing = inside.run.close()));
      await closing;
      expect(servers.total).toBe(total);
      const ends = await inside.ended();
      expect(ends.filter(({ result }) => result === 'cut').length).toBeGreaterThanOrEqual(3);
    });
  });
});

describe('nothing', () => {
  test.each([
    ['no word of egress', ''],
    ['an empty section', 'egress: {}\n'],
    ['profiles that nobody uses', 'egress: { profiles: { web: [{ id: a, host: [plain.test] }] } }\n'],
    ['an empty list', 'egress: { use: [], profiles: { web: [{ id: a, host: [plain.test] }] } }\n'],
  ])('%s lets nothing out', async (_, text) => {
    const inside = new Inside(await runner.open({ policy: egressPolicy(text) }));
    const before = servers.total;
    const said = await inside.python(`import os, socket
for place in (('plain.test', ${servers.port('http')}), ('127.0.0.1', 3128), ('127.0.0.1', 53), ('127.64.0.1', 443)):
    try: socket.create_connection(place, 5); print('reached', place)
    except OSError as error: print(type(error).__name__)
print([name for name in os.environ if 'proxy' in name.lower()])`);
    await inside.run.close();
    expect(said).not.toContain('reached');
    expect(said).toMatch(/^((gaierror|ConnectionRefusedError)\n){4}\[\]$/m);
    expect(servers.total).toBe(before);
  });
});
