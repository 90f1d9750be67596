import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Bench } from '../fixtures/bench.ts';
import { underEachRuntime } from './fixtures/host.ts';
import { inPython, metadatas, rows, Siege, specials } from './fixtures/siege.ts';

/** Requests that are something else than they seem: nothing arrives of what is not allowed, and each is on record. */
const bench = await Bench.make();
const facts = await bench.engine.describe();
let siege: Siege;

afterAll(() => bench.close());

const plain = (): string => `plain.test:${siege.servers.port('http')}`;
const api = (): string => `api.test:${siege.servers.port('https')}`;
const toPlain = (): string => `place=('plain.test', ${siege.servers.port('http')})`;
const toApi = (name = 'api.test'): string =>
  `place=('api.test', ${siege.servers.port('https')}), name=${name === '' ? 'None' : `'${name}'`}, tls=True`;

/** A request as bytes; `head` are whole lines. */
function request(line: string, host: string, head: readonly string[] = [], body = ''): string {
  return `${[line, `Host: ${host}`, 'Connection: close', ...head].join('\r\n')}\r\n\r\n${body}`;
}

underEachRuntime(facts, (runtime) => {
  beforeAll(async () => {
    siege = await Siege.open(bench, { runtime });
  });
  afterAll(() => siege.close());

  describe('another host than the one that was asked for, in TLS that is looked into', () => {
    test.each(['front.test', 'evil.test', 'raw.test', ''])('SNI %j ends before a request', async (name) => {
      const what = rows([request('GET /ok/1 HTTP/1.1', api())], toApi(name));
      const { answers, denied, connections } = await siege.attacked<string[]>(what);
      expect(answers[0]).not.toMatch(/^HTTP/);
      expect(denied).toHaveLength(1);
      expect(connections).toBe(0);
    });

    test('a Host that is not the name of the connection is refused, though it may be reached itself', async () => {
      const front = `front.test:${siege.servers.port('https')}`;
      const list = [
        ...[front, 'front.test', 'evil.test', `${api()}.`, `x@${api()}`, '', '127.0.0.1', `${api()},${front}`].map(
          (host) => request('GET /ok/1 HTTP/1.1', host),
        ),
        request(`GET https://${front}/ok/1 HTTP/1.1`, api()),
        request(`GET https://${front}/ok/1 HTTP/1.1`, front),
        request('GET /ok/1 HTTP/1.1', api(), [`Host: ${front}`]),
        request('GET /ok/1 HTTP/1.1', front, [`Host: ${api()}`]),
        'GET /ok/1 HTTP/1.1\r\nConnection: close\r\n\r\n',
      ];
      const { answers, denied, connections } = await siege.attacked<string[]>(rows(list, toApi()));
      expect(answers.filter((answer) => !/^HTTP\/1\.1 4\d\d /.test(answer))).toEqual([]);
      expect(denied).toHaveLength(list.length);
      expect(connections).toBe(0);
      const honest = rows([request('GET /ok/1 HTTP/1.1', api())], toApi());
      expect((await siege.attacked<string[]>(honest)).arrived).toEqual(['GET api.test /ok/1 1.1']);
    });

    test('nor one in :authority, while other streams of the connection pass', async () => {
      const [before, decided] = [siege.servers.arrived.length, (await siege.inside.decided()).length];
      const said = await siege.inside.node(`
import { connect } from 'node:http2';
const session = connect('https://${api()}');
const ask = (headers) => new Promise((resolve) => { const stream = session.request({ ':path': '/ok/h2', ...headers });
  stream.on('response', (answer) => resolve(answer[':status'])).on('error', (error) => resolve(error.code)).resume(); });
const port = ${siege.servers.port('https')};
console.log((await Promise.all([ask({}), ask({ ':authority': 'front.test:' + port }), ask({ ':authority': 'evil.test' }), ask({ host: 'front.test:' + port }),
  ask({ ':scheme': 'http' }), ask({ ':path': '/no' }), ask({ ':method': 'PUT' }), ask({ ':path': '/ok/%2e%2e/no' }), ask({ ':path': '*' }), ask({})])).join());
session.close();`);
      expect(said).toMatch(/^200(,4\d\d){7},ERR_HTTP2_STREAM_ERROR,200$/m);
      expect(siege.servers.arrived.slice(before)).toEqual(['GET api.test /ok/h2 1.1', 'GET api.test /ok/h2 1.1']);
      const denied = (await siege.inside.decided()).slice(decided).filter((one) => one.decision === 'denied');
      expect(denied).toHaveLength(7); // the `*` of a GET is no request to the library: a stream's error
    });
  });

  describe('another request than the one that is judged', () => {
    test('a path that could be read in two ways, a method that the rule does not name', async () => {
      const paths = [
        '/no',
        '/okay',
        '/ok/../no',
        '/ok/%2e%2e/no',
        '/ok/..%2fno',
        '/ok/.%2e/no',
        '/ok\\..\\no',
        '//no',
        '/ok//../no',
      ];
      const odd = [
        '/ok/;/../no',
        '/OK/1',
        '/ok/%00',
        '/ok/%',
        '/ok/%2',
        '/ok/a%5c..%5cno',
        `http://${plain()}/ok/1`,
        'ok/1',
        '*',
        '/ok/\u00e9',
      ];
      const methods = ['PUT', 'DELETE', 'PATCH', 'TRACE', 'OPTIONS', 'PROPFIND', 'get', 'CONNECT'];
      const list = [...paths, ...odd].map((path) => request(`GET ${path} HTTP/1.1`, plain()));
      list.push(...methods.map((method) => request(`${method} /ok/1 HTTP/1.1`, plain())));
      const { answers, denied, connections } = await siege.attacked<string[]>(rows(list, toPlain()));
      expect(list.filter((_, n) => !/^HTTP\/1\.1 4\d\d /.test(answers[n] ?? ''))).toEqual([]);
      expect(denied).toHaveLength(list.length);
      expect(connections).toBe(0);
    });

    test('one after the other on one connection, in one packet: each is judged by itself', async () => {
      const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: ${plain()}\r\n\r\n`;
      const all = [
        get('/ok/first'),
        get('/no/second'),
        get('/ok/third'),
        request('GET /no/fourth HTTP/1.1', plain()),
      ].join('');
      const { answers, denied, arrived } = await siege.attacked<string[]>(
        `print(json.dumps([said(${inPython(all)}, whole=True, ${toPlain()})]))`,
      );
      expect(answers.join('').match(/HTTP\/1\.1 \d+/g)).toEqual([
        'HTTP/1.1 200',
        'HTTP/1.1 403',
        'HTTP/1.1 200',
        'HTTP/1.1 403',
      ]);
      expect(arrived).toEqual(['GET plain.test /ok/first 1.1', 'GET plain.test /ok/third 1.1']);
      expect(denied).toHaveLength(2);
    });

    test.each([
      ['plain', toPlain, plain],
      ['within TLS', () => toApi(), api],
    ])('hidden in the body of another one, %s', async (_, where, host) => {
      const hidden = `GET /ok/smuggled HTTP/1.1\r\nHost: ${host()}\r\n\r\n`;
      const post = (head: readonly string[], body: string): string => request('GET /ok/1 HTTP/1.1', host(), head, body);
      const length = `Content-Length: ${hidden.length}`;
      const list = [
        post([length, 'Transfer-Encoding: chunked'], `0\r\n\r\n${hidden}`),
        post(['Transfer-Encoding: chunked', 'Content-Length: 0'], `0\r\n\r\n${hidden}`),
        post(['Content-Length: 0', length], hidden),
        post(['Content-Length: 0, 5'], hidden),
        post(['Content-Length: +0'], hidden),
        post(['Content-Length: -1'], hidden),
        post(['Content-Length: 0x0'], hidden),
        post(['Content-Length : 0'], hidden),
        post(['Transfer-Encoding: xchunked'], `0\r\n\r\n${hidden}`),
        post(['Transfer-Encoding: chunked, identity'], `0\r\n\r\n${hidden}`),
        post(['Transfer-Encoding: chunked', 'Transfer-Encoding: identity'], `0\r\n\r\n${hidden}`),
        post(['Transfer-Encoding:\u000bchunked'], `0\r\n\r\n${hidden}`),
        post(['Transfer-Encoding : chunked'], `0\r\n\r\n${hidden}`),
        post(['X: y', ' Transfer-Encoding: chunked'], `0\r\n\r\n${hidden}`),
        post(['Transfer-Encoding: chunked'], `0x0\r\n\r\n${hidden}`),
        post(['Transfer-Encoding: chunked'], `00000000000000000\r\n\r\n${hidden}`),
        post(['Transfer-Encoding: chunked'], `1;\n\r\nx0\r\n\r\n${hidden}`),
        post(['Transfer-Encoding: chunked'], `-1\r\n${hidden}`),
        post([`X: y\n${length}`], hidden),
        post([`X: y\r${length}`], hidden),
        post([`X: y\u0000`], hidden),
        `GET /ok/1 HTTP/1.1\nHost: ${host()}\nContent-Length: 0\n\n${hidden}`,
        `GET /ok/1 HTTP/1.1 HTTP/1.1\r\nHost: ${host()}\r\nContent-Length: 0\r\n\r\n`,
        `GET /ok/1\tHTTP/1.1\r\nHost: ${host()}\r\nContent-Length: 0\r\n\r\n`,
        `GET /ok/1 HTTP/1.0\r\nHost: ${host()}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${hidden}`,
      ];
      const { answers, arrived } = await siege.attacked<string[]>(rows(list, where()));
      // Some are one request whose connection is over then; none is two, and none is passed on as it was written.
      expect(arrived.filter((line) => line.includes('smuggled'))).toEqual([]);
      expect(arrived.length).toBeLessThanOrEqual(answers.filter((answer) => answer.startsWith('HTTP/1.1 200')).length);
      expect(answers.filter((answer) => /^HTTP\/1\.1 4\d\d /.test(answer)).length).toBeGreaterThan(list.length / 2);
      const upgrade = [
        'Upgrade: websocket',
        'Connection: Upgrade',
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
      ];
      const socket = await siege.attacked<string[]>(
        rows([`GET /ok/1 HTTP/1.1\r\nHost: ${host()}\r\n${upgrade.join('\r\n')}\r\n\r\n${hidden}`], where()),
      );
      expect(socket).toMatchObject({ answers: ['HTTP/1.1 403 Forbidden'], arrived: [], connections: 0 });
    });

    test.each(['by name', 'by proxy'])('where a redirect leads, %s, is asked for as anything else', async (how) => {
      const http = siege.servers.port('http');
      const places = [
        `http://127.0.0.1:${http}/ok/r`,
        'http://169.254.169.254/latest/meta-data/',
        'http://evil.test/ok/r',
      ];
      places.push(`http://[::ffff:127.0.0.1]:${http}/ok/r`, `http://${plain()}/no/r`, `https://${api()}/no/r`);
      const before = siege.servers.arrived.length;
      const decided = (await siege.inside.decided()).length;
      const follow = `python3 - <<'END'
import json, urllib.request
def ask(place):
    try: return urllib.request.urlopen('http://${plain()}/to?' + place, timeout=10).status
    except Exception as error: return str(error)
print(json.dumps([ask(place) for place in ${inPython(places)}]))
END`;
      const said = how === 'by name' ? await siege.inside.direct(follow) : await siege.inside.sh(follow);
      expect(said).not.toMatch(/\b200\b/);
      const arrived = siege.servers.arrived.slice(before);
      expect(arrived).toEqual(places.map((place) => `GET plain.test /to?${place} 1.1`));
      const denied = (await siege.inside.decided()).slice(decided).filter(({ decision }) => decision === 'denied');
      // Without a proxy an address is nothing that the fence could hear of; 127.0.0.1 is asked for without one always.
      expect(denied).toHaveLength(how === 'by name' ? 3 : places.length - 1);
    });
  });

  test('a name that has a special address, in any spelling, or one of this host, is not dialled', async () => {
    const hosts = [...Object.keys(specials), ...Object.keys(metadatas)];
    const { answers, denied, connections } = await siege.attacked<
      [number, string][]
    >(`import urllib.error, urllib.request
def ask(host):
    try: return [urllib.request.urlopen(f'http://{host}:${siege.servers.port('http')}/', timeout=10).status, '']
    except urllib.error.HTTPError as error: return [error.code, json.load(error)['reason']]
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
with concurrent.futures.ThreadPoolExecutor(8) as pool: print(json.dumps(list(pool.map(ask, ${inPython(hosts)}))))`);
    expect(hosts.filter((_, n) => answers[n]?.[0] !== 403)).toEqual([]);
    expect(answers.filter(([, reason]) => !reason.includes('.test is '))).toEqual([]);
    expect(denied).toHaveLength(hosts.length);
    expect(denied).toEqual(hosts.map(() => expect.objectContaining({ result: 'denied', sentBytes: 0 }) as unknown));
    expect(connections).toBe(0);
  });
});
