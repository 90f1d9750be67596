import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Bench } from '../fixtures/bench.ts';
import { egressPolicy, Inside } from '../fixtures/inside.ts';
import { compile, script, underEachRuntime } from './fixtures/host.ts';
import { inPython, metadata, rows, Siege } from './fixtures/siege.ts';
import { hostAddresses, Wire } from './fixtures/wire.ts';

/** What is not allowed does not arrive: asserted at the servers, which listen on every address of this host, and in the record. */
const bench = await Bench.make();
const facts = await bench.engine.describe();
const isRoot = process.getuid?.() === 0;

let siege: Siege;

beforeAll(async () => {
  siege = await Siege.open(bench);
});
afterAll(async () => {
  await siege.close();
  await bench.close();
});

describe('around the fence', () => {
  if (!isRoot) test('nothing leaves', (context) => context.skip('capturing packets on this host needs root'));
  else
    underEachRuntime(facts, (runtime) => {
      test('TCP, UDP, ICMP, raw, packets, IPv6 and own resolvers reach nobody, though names are let out', async () => {
        const wire = await Wire.open(await compile('capture.c'), bench.folder);
        const listed = `egress: { use: [a], profiles: { a: [{ id: a, host: [only.test], ports: [${wire.port}], tls: pass_through }] } }\n`;
        const other = new Inside(await siege.runner.open({ policy: egressPolicy(listed, { runtime }) }));
        try {
          const tag = `glovebox-${randomBytes(8).toString('hex')}`;
          const outside = ['198.51.100.2', '2001:db8::1', '169.254.169.254', 'fd00:ec2::254', '10.0.0.1'];
          const addresses = [...hostAddresses(), ...outside];
          const attack = `import sys\nsys.argv[1:] = ['${tag}', '${wire.port}', '${JSON.stringify(addresses)}']
${script('attempt.py').toString()}\n${script('reach.py').toString()}`;
          const { results } = await other.json<{ results: Record<string, string> }>(attack);
          await wire.settle();
          expect(wire.arrivals()).toEqual([]);
          const worked = Object.keys(results).filter((name) => results[name] === 'ok');
          // Of a loopback address it is the sandbox's own; there the fence listens for names.
          expect(worked.filter((name) => !/^(127\.|::1 |ff02::1%lo|resolver 127\.0\.0\.1$)/.test(name))).toEqual([]);
          expect(await other.decided()).toMatchObject([{ kind: 'name', host: `${tag}.evil.test`, decision: 'denied' }]);
        } finally {
          await other.run.close();
          await wire.close();
        }
      });

      test('an address that stands for a name is nobody before the name was asked for, nor is one of another run', async () => {
        const policy = egressPolicy('egress: { use: [a], profiles: { a: [{ id: a, host: [only.test] }] } }\n', {
          runtime,
        });
        const other = new Inside(await siege.runner.open({ policy }));
        const answers = await other.json<string[]>(`import json, socket
def reach(n, port):
    try: socket.create_connection((f'127.64.{n // 250}.{n % 250 + 1}', port), 2); return 'reached'
    except OSError as error: return type(error).__name__
print(json.dumps(sorted({reach(n, port) for n in range(400) for port in (443, ${siege.servers.port('https')})})))`);
        expect(answers).toEqual(['ConnectionRefusedError']);
        expect(await other.sh('echo 127.64.0.1 raw.test >> /etc/hosts; getent hosts raw.test || echo nobody')).toMatch(
          /(Permission denied|Read-only)[^]*nobody/,
        );
        expect(
          await other.sh('unset http_proxy; echo | timeout 5 openssl s_client -connect 127.64.0.1:443 2>&1'),
        ).toMatch(/refused/);
        await other.run.close();
      });
    });
});

describe('at the proxy', () => {
  const connects = (): string[] => {
    const [http, https] = [siege.servers.port('http'), siege.servers.port('https')];
    const addresses = [
      '127.0.0.1',
      '[::1]',
      '[::ffff:127.0.0.1]',
      '[::ffff:7f00:1]',
      '[64:ff9b::7f00:1]',
      '[2002:7f00:1::]',
    ];
    const spellings = [
      '[::]',
      '0.0.0.0',
      '0',
      '0x7f.1',
      '0x7f000001',
      '2130706433',
      '0177.0.0.1',
      '127.1',
      '127.0.0.1.',
      'localhost',
    ];
    const services = [
      'metadata.google.internal:80',
      ...metadata.map((one) => (one.includes(':') ? `[${one}]:80` : `${one}:80`)),
    ];
    const odd = [
      `raw.test.:${https}`,
      `raw\u00e3\u0080\u0082test:${https}`,
      `raw%2etest:${https}`,
      `raw_.test:${https}`,
    ];
    const users = [`raw.test@evil.test:${https}`, `evil@raw.test:${https}`, `raw.test:${https}@evil.test:${https}`];
    const more = [
      `raw.test#.evil.test:${https}`,
      `raw.test:0${https}`,
      `raw.test:+${https}`,
      `raw.test:${https}/`,
      'raw.test',
      'raw.test:',
    ];
    const ports = [
      'raw.test:22',
      `raw.test:${http}`,
      'raw.test:99999',
      '127.0.0.1:3128',
      'localhost:3128',
      `http://raw.test:${https}`,
    ];
    const bare = [...addresses, ...spellings, 'evil.test', 'sub.raw.test', 'xraw.test'].map(
      (host) => `${host}:${https}`,
    );
    return [...bare, ...services, ...odd, ...users, ...more, ...ports];
  };

  test('CONNECT takes the names and ports of rules as they are spelled, and nothing else', async () => {
    const targets = connects();
    const lines = targets.map((target) => `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
    const { answers, denied, connections } = await siege.attacked<string[]>(rows(lines, 'place=proxy'));
    const passed = targets.filter((_, n) => !/^HTTP\/1\.1 4\d\d /.test(answers[n] ?? ''));
    expect(passed).toEqual([]);
    expect(denied).toHaveLength(targets.length);
    expect(connections).toBe(0);
    const honest = `CONNECT raw.test:${siege.servers.port('https')} HTTP/1.1\r\nHost: raw.test\r\n\r\n`;
    expect((await siege.attacked<string[]>(rows([honest], 'place=proxy'))).answers).toEqual([
      'HTTP/1.1 200 Connection established',
    ]);
  });

  test('requests in absolute form are read strictly; other forms, versions and protocols are none', async () => {
    const port = siege.servers.port('http');
    const hosts = [`127.0.0.1:${port}`, `[::ffff:127.0.0.1]:${port}`, `2130706433:${port}`, `user@plain.test:${port}`];
    const odd = [
      `plain.test.:${port}`,
      `plain%2etest:${port}`,
      `plain.test:${port}@evil.test`,
      `plain.test:${port}\\@evil.test`,
    ];
    const urls = [...hosts, ...odd, 'evil.test', '169.254.169.254', `plain.test:22`].map(
      (host) => `http://${host}/ok/1`,
    );
    const get = (url: string, host = url.split('/')[2]): string =>
      `GET ${url} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
    const own = `http://plain.test:${port}/ok/1`;
    const secure = `https://api.test:${siege.servers.port('https')}/ok/1`;
    const forms = [
      get(secure),
      get('/ok/1', 'plain.test'),
      get(`//plain.test:${port}/ok/1`, 'plain.test'),
      get(own, 'evil.test'),
    ];
    const double = `GET ${own} HTTP/1.1\r\nHost: plain.test:${port}\r\nHost: evil.test\r\n\r\n`;
    const protocols = [
      `GET ${own}\r\n\r\n`,
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      `connect raw.test:${siege.servers.port('https')} HTTP/1.1\r\n\r\n`,
    ];
    const list = [...urls.map((url) => get(url)), ...forms, double, ...protocols, '\u0016\u0003\u0001\u0002\u0000'];
    const { answers, denied, connections } = await siege.attacked<string[]>(rows(list, 'place=proxy'));
    expect(list.filter((_, n) => !/^HTTP\/1\.1 [45]\d\d /.test(answers[n] ?? ''))).toEqual([]);
    expect(denied.length).toBeGreaterThanOrEqual(list.length - 1);
    expect(connections).toBe(0);
    const honest = await siege.attacked<string[]>(rows([get(own)], 'place=proxy'));
    expect([honest.answers, honest.connections]).toEqual([['HTTP/1.1 200 OK'], 1]);
  });

  test('a tunnel is judged as the connection that it is: no other name, no plain text, no second way', async () => {
    const raw = `raw.test:${siege.servers.port('https')}`;
    const api = `api.test:${siege.servers.port('https')}`;
    const { answers, denied, connections } = await siege.attacked<string[]>(`print(json.dumps(first_lines([
  said('GET /ok/1 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n', place=proxy, tunnel='${raw}', name='front.test', tls=True),
  said('GET /ok/1 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n', place=proxy, tunnel='${raw}', name=None, tls=True),
  said('GET /ok/1 HTTP/1.1\\r\\nHost: ${raw}\\r\\n\\r\\n', place=proxy, tunnel='${raw}'),
  said('GET http://raw.test/ HTTP/1.1\\r\\nHost: raw.test\\r\\n\\r\\n', place=proxy, tunnel='${raw}'),
  said('SSH-2.0-x\\r\\n', place=proxy, tunnel='${raw}'),
  said('GET /ok/1 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n', place=proxy, tunnel='${api}', name='front.test', tls=True),
  said('CONNECT ${raw} HTTP/1.1\\r\\nHost: ${raw}\\r\\n\\r\\n', place=proxy, tunnel='${api}', name='api.test', tls=True),
  said('GET /ok/1 HTTP/1.1\\r\\nHost: ${api}\\r\\n\\r\\n', place=proxy, tunnel='${api}'),
])))`);
    expect(answers.filter((answer) => / 200 /.test(answer))).toEqual([]);
    expect(denied).toHaveLength(8);
    expect(connections).toBe(0);
  });
});

test('a policy that observes lets nobody reach this host, its networks or a metadata service either', async () => {
  const policy = egressPolicy('egress: { observe: allowed, mode: observe }\n', { image: 'node' });
  const watched = new Siege(siege.servers, siege.runner, new Inside(await siege.runner.open({ policy })));
  const [http, https] = [siege.servers.port('http'), siege.servers.port('https')];
  const hosts = [...hostAddresses(), '10.0.0.1', '0.0.0.0', '::ffff:127.0.0.1', ...metadata];
  const literal = hosts.map((host) => (host.includes(':') ? `[${host}]` : host));
  const ports = [...literal, 'api.test', 'raw.test', 'plain.test'].map((host) => `${host}:${https}`);
  const tunnels = await watched.attacked<string[]>(`print(json.dumps(first_lines([
  said('GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n', place=proxy, tunnel=one, name=one.rsplit(':', 1)[0].strip('[]'), tls=True) for one in ${inPython(ports)}])))`);
  expect(tunnels.answers.filter((answer) => answer.includes(' 200 '))).toEqual([]);
  const gets = [...literal, 'plain.test'].map(
    (host) => `GET http://${host}:${http}/ HTTP/1.1\r\nHost: ${host}:${http}\r\nConnection: close\r\n\r\n`,
  );
  const plain = await watched.attacked<string[]>(rows(gets, 'place=proxy'));
  expect(plain.answers.filter((answer) => !/^HTTP\/1\.1 4\d\d /.test(answer))).toEqual([]);
  await watched.inside.run.close();
  expect([tunnels.connections, plain.connections]).toEqual([0, 0]);
  expect(tunnels.denied.length + plain.denied.length).toBe(ports.length + gets.length);
});
