import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Runner } from '../src/runner.ts';
import { Bench } from './fixtures/bench.ts';
import { grpcClient } from './fixtures/grpc.ts';
import { egressPolicy, eventually, Inside } from './fixtures/inside.ts';
import { Postgres } from './fixtures/postgres.ts';
import { Repositories } from './fixtures/repositories.ts';
import { here, Servers } from './fixtures/servers.ts';
import { underEachRuntime } from './security/fixtures/host.ts';

/** The clients that people use, as they are in the images, against real servers on this host. npm and git: egress-registries. */
const bench = await Bench.make();
const facts = await bench.engine.describe();
let servers: Servers;
let repositories: Repositories;
let runner: Runner;
let inside: Inside;
let postgres: Postgres | undefined;

beforeAll(async () => {
  const names = here('api.test', 'raw.test', 'plain.test', 'quiet.test', 'pypi.test', 'deb.test');
  repositories = new Repositories();
  [servers, postgres] = await Promise.all([
    Servers.open({ names, answer: (url) => repositories.answer(url) }),
    Postgres.start(),
  ]);
  runner = await Runner.create(bench.engine, bench.dataDir, { network: servers.network() });
  inside = new Inside(await runner.open({ policy: policyFor('node') }));
});
afterAll(async () => {
  await inside.run.close();
  await runner.close();
  await Promise.all([bench.close(), servers.close(), postgres?.stop()]);
  repositories.remove();
});
beforeEach(() => {
  servers.arrived.length = 0;
});

function policyFor(image: string, runtime = 'runc') {
  const [http, https] = [servers.port('http'), servers.port('https')];
  const own = 'addresses: [127.0.0.0/8]';
  const [use, database] =
    postgres === undefined
      ? ['', '']
      : [', db', `, { id: db, host: db.internal, port: 5432, to: "unix:${postgres.socket}" }`];
  const api = 'methods: [GET, POST], path: [/ok/**, /swallow], max_sent: 1MiB';
  return egressPolicy(
    `egress:
  use: [web, packages, echo${use}]
  upstreams: [{ id: echo, host: echo.internal, port: 7, to: "127.0.0.1:${servers.port('echo')}" }${database}]
  profiles:
    web:
      - { id: api, host: [api.test], ports: [${https}], ${api}, ${own} }
      - { id: socket, host: [api.test], ports: [${https}], path: [/socket], websocket: true, ${own} }
      - { id: quiet, host: [quiet.test], ports: [${https}], ${own} }
      - { id: raw, host: [raw.test], ports: [${https}], tls: pass_through, ${own} }
      - { id: plain, host: [plain.test], ports: [${http}], tls: none, ${own} }
    packages:
      - { id: pypi, host: [pypi.test], ports: [${https}], path: [/simple/**, /files/*], ${own} }
      - { id: debian, host: [deb.test], ports: [${http}], tls: none, path: [/debian/**], ${own} }
`,
    { image, runtime },
  );
}

/** The last thing that is on record to have been let through to `host`, and how it ended. */
async function lastOf(host: string) {
  await inside.quiet();
  const decided = (await inside.decided()).findLast((one) => one.host === host && one.kind !== 'name');
  const ended = (await inside.ended()).find(({ id }) => id === decided?.id);
  return { decided, ended };
}

describe('Node', () => {
  const at = (host: string, path: string): string => `https://${host}:${servers.port('https')}${path}`;

  test('fetch, which knows of no proxy, gets answers and refusals, and trusts the run', async () => {
    const said = await inside.node(`
const ok = await fetch('${at('api.test', '/ok/1')}'); console.log(ok.status, await ok.text());
const post = await fetch('${at('api.test', '/swallow')}', { method: 'POST', body: 'x'.repeat(500_000) }); console.log(post.status, await post.text());
const no = await fetch('${at('api.test', '/no')}'); console.log(no.status, no.headers.get('glovebox-egress'), (await no.json()).rule);
await fetch('${at('else.test', '/')}').catch((error) => console.log(error.cause.code));`);
    expect(said).toContain('200 hello from /ok/1\n');
    expect(said).toContain('200 500000 bytes\n');
    expect(said).toMatch(/^403 denied \S+$/m);
    expect(said).toContain('ENOTFOUND');
    expect(servers.arrived).toEqual(['GET api.test /ok/1 1.1', 'POST api.test /swallow 1.1']);
  });

  test('https keeps its connection, and what it asks is judged each time', async () => {
    const said = await inside.node(`
import { Agent, get } from 'node:https';
const agent = new Agent({ keepAlive: true, maxSockets: 1 });
for (const path of ['/ok/1', '/no', '/ok/2']) await new Promise((resolve) => get('${at('api.test', '')}' + path, { agent }, (answer) => {
  console.log(path, answer.statusCode, answer.req.reusedSocket); answer.resume().on('end', resolve); }));
agent.destroy();`);
    expect(said).toContain('/ok/1 200 false\n/no 403 true\n/ok/2 200 true\n');
    expect(servers.arrived).toEqual(['GET api.test /ok/1 1.1', 'GET api.test /ok/2 1.1']);
  });

  test.each([
    ['looked into', 'api.test', '1.1'],
    ['passed through', 'raw.test', '2.0'],
  ])('HTTP/2, many requests at once, %s', async (_, host, version) => {
    const said = await inside.node(`
import { connect } from 'node:http2';
const session = connect('${at(host, '')}', { rejectUnauthorized: ${host !== 'raw.test'} });
const ask = (path) => new Promise((resolve, reject) => { const stream = session.request({ ':path': path }); let status, text = '';
  stream.on('response', (headers) => (status = headers[':status'])).on('data', (data) => (text += data)).on('end', () => resolve(status + ' ' + text.slice(0, 20).trim())).on('error', reject); });
const paths = Array.from({ length: 20 }, (_, n) => '/ok/' + n);
const answers = await Promise.all([...paths, '/no'].map(ask));
console.log(session.alpnProtocol, answers.filter((one, n) => one === '200 hello from ' + paths[n]).length, answers.at(-1));
session.close();`);
    expect(said).toContain(version === '1.1' ? 'h2 20 403 {' : 'h2 20 200 hello from /no');
    const paths = [...Array(20).keys()].map((n) => `GET ${host} /ok/${n} ${version}`);
    expect([...servers.arrived].sort()).toEqual(
      [...paths, ...(version === '1.1' ? [] : [`GET ${host} /no 2.0`])].sort(),
    );
  });

  test('gRPC, where TLS is passed through: messages both ways in turn, how it ended in trailers, a call that is given up', async () => {
    const said = await inside.node(`${grpcClient}
const session = open('${at('raw.test', '')}', ${JSON.stringify(servers.certificate)});
const one = await call(session, '/echo/Say', ['hello']);
console.log('one', one.said, one.status, one.initial['x-asked'], one.trailers['x-messages']);
const talk = await call(session, '/echo/Talk', ['a', 'b', 'c'], { inTurn: true });
console.log('talk', talk.said.join(''), talk.status, talk.trailers['x-messages']);
const large = await call(session, '/echo/Say', ['x'.repeat(700_000)]);
console.log('large', large.said[0].length, large.status);
const failed = await call(session, '/echo/Fail', ['hello']);
console.log('failed', failed.said.length, failed.status, failed.initial['grpc-message']);
const [given, beside] = await Promise.all([call(session, '/echo/Wait', ['hello'], { cancelAfterMs: 50 }), call(session, '/echo/Say', ['beside'])]);
console.log('given up', given.status, 'beside', beside.said, beside.status);
session.close();`);
    expect(said).toContain(`one [ 'HELLO' ] 0 from-inside 1\ntalk ABC 0 3\nlarge 700000 0\nfailed 0 7 no%20way\n`);
    expect(said).toContain("given up undefined beside [ 'BESIDE' ] 0\n");
    await eventually('the server has heard of it', () => servers.grpc.ended.includes('/echo/Wait cancelled'));
    expect(servers.arrived.every((line) => /^POST raw\.test \/echo\/\w+ 2\.0$/.test(line))).toBe(true);
    expect(await lastOf('raw.test')).toMatchObject({ decided: { decision: 'allowed', rule: 'raw' } });
  });

  test('gRPC, where TLS is looked into, ends without a status: that takes a rule that passes it through', async () => {
    const said = await inside.node(`${grpcClient}
const session = open('${at('quiet.test', '')}');
const one = await call(session, '/echo/Say', ['hello']);
console.log('status', one.status);
session.close();`);
    expect(said).toContain('status undefined\n');
  });

  test('WebSocket passes where a rule says so, and is refused where none does', async () => {
    const said = await inside.node(
      `
const speak = (url) => new Promise((resolve) => { const socket = new WebSocket(url);
  socket.onopen = () => socket.send('over and back'); socket.onerror = () => resolve('refused'); socket.onmessage = ({ data }) => { resolve(data); socket.close(); }; });
const at = (host, path) => 'wss://' + host + ':${servers.port('https')}' + path;
console.log([await speak(at('api.test', '/socket')), await speak(at('quiet.test', '/socket')), await speak(at('api.test', '/ok/socket'))].join());`,
      '--no-warnings --experimental-websocket',
    );
    expect(said).toContain('over and back,refused,refused');
    expect(servers.arrived).toEqual(['websocket api.test /socket']);
    expect(await lastOf('quiet.test')).toMatchObject({
      decided: { decision: 'denied', method: 'GET', path: '/socket' },
    });
  });
});

describe('Python', () => {
  test.each(['by name', 'by proxy'])('urllib, %s, gets what is allowed and reads why something is not', async (how) => {
    const script = `python3 - <<'END'
import json, urllib.error, urllib.request
for url in ('https://api.test:${servers.port('https')}/ok/1', 'http://plain.test:${servers.port('http')}/2', 'https://api.test:${servers.port('https')}/no'):
    try: print(urllib.request.urlopen(url, timeout=10).read().decode().strip())
    except urllib.error.HTTPError as error: print(error.code, error.headers['glovebox-egress'], sorted(json.load(error)))
END`;
    const said = how === 'by name' ? await inside.direct(script) : await inside.sh(script);
    expect(said).toContain(`hello from /ok/1\nhello from /2\n403 denied ['asked', 'error', 'hint', 'reason', 'rule']`);
    expect(servers.arrived).toEqual(['GET api.test /ok/1 1.1', 'GET plain.test /2 1.1']);
    const { decided } = await lastOf('plain.test');
    expect(decided?.via).toBe(how === 'by name' ? 'name' : 'proxy');
  });
});

describe('curl', () => {
  test.each(['by name', 'by proxy'])(
    '%s, over HTTP, TLS that is looked into and TLS that is passed through',
    async (how) => {
      const [http, https] = [servers.port('http'), servers.port('https')];
      const script = `curl() { command curl -sS --max-time 10 -w '%{http_code} %{header_json}\\n' "$@" 2>&1 | tr -d '\\n'; echo; }
curl http://plain.test:${http}/1; curl https://api.test:${https}/ok/2; curl --insecure https://raw.test:${https}/3
curl https://api.test:${https}/ok/4 -d 'a body'; curl https://api.test:${https}/no; curl https://raw.test:${https}/5; curl http://else.test:${http}/`;
      const said = (how === 'by name' ? await inside.direct(script) : await inside.sh(script)).split('\n');
      expect(said[0]).toMatch(/^hello from \/1200 /);
      expect(said[1]).toMatch(/^hello from \/ok\/2200 /);
      expect(said[2]).toMatch(/^hello from \/3200 /);
      expect(said[3]).toMatch(/200 /);
      expect(said[4]).toMatch(/403 .*"glovebox-egress":\["denied"\]/);
      expect(said[5], 'nobody has told it to trust that server').toMatch(/SSL certificate problem/);
      expect(said[6]).toMatch(how === 'by name' ? /Could not resolve host/ : /403 .*"glovebox-egress":\["denied"\]/);
      expect(servers.arrived.map((line) => line.replace(/ [\d.]+$/, ''))).toEqual([
        'GET plain.test /1',
        'GET api.test /ok/2',
        'GET raw.test /3',
        'POST api.test /ok/4',
      ]);
      const decided = (await inside.decided()).filter(({ host, kind }) => host === 'api.test' && kind === 'request');
      expect(decided.at(-1)).toMatchObject({ path: '/no', via: how === 'by name' ? 'name' : 'proxy' });
    },
  );
});

/**
 * As Java's HTTP clients and Netty's resolver do it, in Python for want of a small JRE: proxy variables are nothing to them, names are
 * asked for without AI_ADDRCONFIG or of the resolver's port itself, IPv6 is tried where there is an address, HTTP/2 is offered over
 * plain HTTP, connections are kept and used again.
 */
describe('a client that knows of no proxy and keeps its connections', () => {
  const client = (addresses: string): string => `import socket, struct
${addresses}
def opened(host, port):
    for address in addresses_of(host, port):
        try: return socket.create_connection(address, 10)
        except OSError as error: failed = error
    raise failed
pool = {}
def ask(host, port, path):
    s, f = pool.get((host, port)) or (opened(host, port), None)
    f = f or s.makefile('rb'); pool[host, port] = (s, f)
    s.sendall(f'GET {path} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\nConnection: Upgrade, HTTP2-Settings\\r\\nUpgrade: h2c\\r\\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\\r\\n\\r\\n'.encode())
    status, headers = f.readline().split()[1].decode(), {}
    while (line := f.readline().strip()): name, _, value = line.partition(b':'); headers[name.lower()] = value.strip()
    assert b'transfer-encoding' not in headers
    return status, f.read(int(headers[b'content-length'])).decode().strip()
for path in ('/1', '/2', '/3'): print(*ask('plain.test', ${servers.port('http')}, path))
print(len(pool), 'connection')
try: ask('else.test', ${servers.port('http')}, '/')
except OSError as error: print('refused:', error)`;

  test.each([
    [
      'by getaddrinfo',
      `def addresses_of(host, port):
    return [found[4][:2] for found in socket.getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM, 0, 0)]`,
      /refused: .*Name or service not known/,
    ],
    [
      'by a resolver of its own',
      `server = [line.split()[1] for line in open('/etc/resolv.conf') if line.startswith('nameserver')][0]
def answers(host, kind):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.connect((server, 53))
    question = b''.join(bytes([len(label)]) + label.encode() for label in host.split('.')) + bytes([0]) + struct.pack('>HH', kind, 1)
    s.send(struct.pack('>HHHHHH', 7, 0x0100, 1, 0, 0, 0) + question); answer = s.recv(512)
    if answer[3] & 15: raise OSError('NXDOMAIN' if answer[3] & 15 == 3 else 'failed')
    count, = struct.unpack('>H', answer[6:8])
    return [] if count == 0 else [answer[-4:] if kind == 1 else answer[-16:]]
def addresses_of(host, port):
    return [(socket.inet_ntop(family, found), port) for family, kind in ((socket.AF_INET6, 28), (socket.AF_INET, 1)) for found in answers(host, kind)]`,
      /refused: NXDOMAIN/,
    ],
  ])('%s', async (_, addresses, refused) => {
    const said = await inside.sh(`python3 - <<'END'\n${client(addresses)}\nEND`);
    expect(said).toContain('200 hello from /1\n200 hello from /2\n200 hello from /3\n1 connection\n');
    expect(said).toMatch(refused);
    expect(servers.arrived).toEqual(['GET plain.test /1 1.1', 'GET plain.test /2 1.1', 'GET plain.test /3 1.1']);
  });
});

test('openssl speaks TLS with a server that is passed through, and sees its certificate', async () => {
  const said = await inside.direct(
    `printf 'GET /by-hand HTTP/1.1\\r\\nHost: raw.test\\r\\nConnection: close\\r\\n\\r\\n' | openssl s_client -quiet -connect raw.test:${servers.port('https')} -servername raw.test 2>&1`,
  );
  expect(said).toContain('CN = outside');
  expect(said).toContain('hello from /by-hand');
});

underEachRuntime(facts, (runtime) => {
  test('pip and apt-get read an index and a repository, and are refused what the rule does not list', async () => {
    const other = new Inside(await runner.open({ policy: policyFor('python', runtime) }));
    const index = `https://pypi.test:${servers.port('https')}`;
    const quick = '--no-cache-dir --disable-pip-version-check --retries 0 --no-compile --target libs';
    const said =
      await other.sh(`pip install -q ${quick} --index-url ${index}/simple/ demo && PYTHONPATH=libs python3 -c 'import demo; print(demo.said)'
pip install ${quick} --index-url ${index}/private/ demo 2>&1 | tail -2
mkdir -p apt/lists/partial apt/cache/archives/partial && cd apt
echo 'deb [trusted=yes] http://deb.test:${servers.port('http')}/debian stable main' > sources.list
apt="apt-get -q -o Dir::Etc::SourceList=$PWD/sources.list -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=$PWD/lists -o Dir::Cache=$PWD/cache -o APT::Architectures=amd64 -o APT::Architecture=amd64 -o Acquire::Languages=none"
$apt update 2>&1 && $apt download demo 2>&1 && cat demo_1.0_all.deb`);
    await other.run.close();
    expect(said).toContain('a wheel of its own\n');
    expect(said).toMatch(/No matching distribution|403/);
    expect(said).toContain('as good as a package');
    expect(servers.arrived.filter((line) => line.includes('pypi.test'))).toEqual([
      'GET pypi.test /simple/demo/ 1.1',
      'GET pypi.test /files/demo-1.0-py3-none-any.whl 1.1',
    ]);
    expect(servers.arrived).toContain('GET deb.test /debian/dists/stable/main/binary-amd64/Packages 1.1');
    expect(servers.arrived).toContain('GET deb.test /debian/pool/demo_1.0_all.deb 1.1');
  });

  test('a client that sends its request and its end (nc -N) gets the answer, by name and through the proxy', async () => {
    const other = runtime === 'runc' ? inside : new Inside(await runner.open({ policy: policyFor('base', runtime) }));
    const place = `plain.test:${servers.port('http')}`;
    const said = await other.python(`import socket
for at, target in ((('plain.test', ${servers.port('http')}), '/1'), (('127.0.0.1', 3128), 'http://${place}/2')):
    s = socket.create_connection(at, 10); s.sendall(f'GET {target} HTTP/1.1\\r\\nHost: ${place}\\r\\n\\r\\n'.encode()); s.shutdown(socket.SHUT_WR)
    print(b''.join(iter(lambda: s.recv(65536), b'')).decode().split('\\r\\n\\r\\n')[1])`);
    if (other !== inside) await other.run.close();
    expect(said).toContain('hello from /1\n');
    expect(said).toContain('hello from /2\n');
  });
});

test('under gVisor the same clients get the same answers', async (context) => {
  if (!facts.enforces.gvisor) return context.skip('runsc is not a runtime of this engine, or holds no limits');
  const other = new Inside(await runner.open({ policy: policyFor('base', 'runsc') }));
  const [http, https] = [servers.port('http'), servers.port('https')];
  const script = `python3 - <<'END'
import socket, ssl, urllib.error, urllib.request
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
for url, how in (('https://api.test:${https}/ok/1', None), ('http://plain.test:${http}/2', None), ('https://raw.test:${https}/3', context), ('https://api.test:${https}/no', None)):
    try: print(urllib.request.urlopen(url, timeout=10, context=how).read().decode().strip())
    except urllib.error.HTTPError as error: print(error.code, error.headers['glovebox-egress'])
s = socket.create_connection(('echo.internal', 7), 10); s.sendall(b'there and back'); s.shutdown(socket.SHUT_WR)
print(s.recv(100).decode(), s.recv(100))
END`;
  const said = [await other.direct(script), await other.sh(script)];
  await other.run.close();
  for (const one of said)
    expect(one).toContain("hello from /ok/1\nhello from /2\nhello from /3\n403 denied\nthere and back b''\n");
});

describe('plain TCP, through an upstream', () => {
  test('bytes come back as they were, to the last, and an end on one side is no end on the other', async () => {
    const size = 3_000_000;
    const said = await inside.python(`import os, socket, threading
sent = os.urandom(${size}); got = b''
s = socket.create_connection(('echo.internal', 7), 10)
threading.Thread(target=lambda: (s.sendall(sent), s.shutdown(socket.SHUT_WR))).start()
while piece := s.recv(65536): got += piece
print('same' if got == sent else len(got))`);
    expect(said).toContain('same');
    expect(await lastOf('echo.internal')).toMatchObject({
      decided: { kind: 'connection', rule: 'echo', decision: 'allowed' },
      ended: { result: 'done', sentBytes: size, receivedBytes: size },
    });
  });

  test('PostgreSQL answers a query over its unix socket', async (context) => {
    if (postgres === undefined) return context.skip('PostgreSQL (the Debian package) is not installed here');
    const said = await inside.python(`import socket, struct
s = socket.create_connection(('db.internal', 5432), 10); f = s.makefile('rb')
def send(kind, body): s.sendall(kind + struct.pack('>I', len(body) + 4) + body)
def read():
    while True:
        kind, length = f.read(1), struct.unpack('>I', f.read(4))[0]; body = f.read(length - 4)
        if kind in b'DE': print(kind.decode(), body)
        if kind == b'Z': return
send(b'', struct.pack('>I', 196608) + b'user\\0glovebox\\0database\\0postgres\\0\\0'); read()
send(b'Q', b"create temp table t (n int); insert into t values (19), (23); select 'sum ' || sum(n) from t\\0"); read()
send(b'X', b'')`);
    expect(said).toContain('sum 42');
    expect(await lastOf('db.internal')).toMatchObject({ decided: { rule: 'db' }, ended: { result: 'done' } });
  });
});
