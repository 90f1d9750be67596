import { describe, expect, test } from 'vitest';
import { isRunnerError } from '../../errors.ts';
import { parseChain, policyFor } from '../policy.ts';

const minimal = 'apiVersion: glovebox/v1\nkind: Policy\nname: p\nimages: [base]\nfiles: {read: ["**"]}\n';

function messageOf([text = '']: readonly string[]): string {
  try {
    policyFor(parseChain([{ text, source: '0.yaml' }]), {});
  } catch (error) {
    if (isRunnerError(error)) return error.message;
    throw error;
  }
  return 'no error';
}

const rule = (text: string): string => `${minimal}egress: {use: [p], profiles: {p: [{id: a, ${text}}]}}\n`;

describe('what cannot be carried out does not load', () => {
  const passed = 'host: [a.example], tls: pass_through';
  const cases: readonly (readonly [string, RegExp])[] = [
    [`${passed}, methods: [GET]`, /p\.0\.methods: cannot be seen in a connection that is passed through/],
    [`${passed}, path: ["/x"]`, /p\.0\.path: cannot be seen/],
    [`${passed}, query: {a: b}`, /p\.0\.query: cannot be seen/],
    [`${passed}, credential: gh`, /p\.0\.credential: cannot be seen/],
    [`${passed}, max_requests: 7`, /p\.0\.max_requests: cannot be seen/],
    [`${passed}, websocket: true`, /p\.0\.websocket: cannot be seen/],
    [`${passed}, allow_encoded_slash: true`, /p\.0\.allow_encoded_slash: cannot be seen/],
    ['host: [a.example], tls: none, credential: gh', /a secret is not sent over a connection without TLS/],
    ['methods: [GET]', /p\.0\.host: is missing/],
    ['host: []', /at least one host/],
    ['host: ["127.0.0.1"]', /an address is no host name/],
    ['host: ["0x7f.1"]', /an address is no host name/],
    ['host: ["2130706433"]', /an address is no host name/],
    ['host: ["*"]', /write a host name/],
    ['host: ["a.*.example"]', /write a host name/],
    ['host: [A.example]', /in lower case/],
    ['host: ["bücher.example"]', /xn--/],
    ['host: [a.example], path: ["/a/../b"]', /write the path alone/],
    ['host: [a.example], path: ["/a%2fb"]', /write the path alone/],
    ['host: [a.example], path: ["/a//b"]', /write the path alone/],
    ['host: [a.example], path: ["/a**b"]', /must stand alone/],
    ['host: [a.example], addresses: ["10.0.0.1"]', /write an address range/],
    ['host: [a.example], query: {"a&b": c}', /plain name of a parameter/],
    ['registry: npm, host: [a.example]', /p\.0\.host: the registry says it/],
    ['registry: npm, methods: [PUT]', /p\.0\.methods: the registry says it/],
    ['registry: cargo', /registry/],
    ['host: [a.example], max_sent: 16', /a size with its unit/],
    ['host: [a.example], credential: gh', /no credential "gh"/],
  ];
  test.each(cases)('%s', (text, message) => {
    expect(messageOf([rule(text)])).toMatch(message);
  });

  const egress = (text: string): string => `${minimal}egress: {${text}}\n`;
  const upstream = (to: string): string =>
    egress(`use: [db], upstreams: [{id: db, host: db.internal, port: 1, to: ${JSON.stringify(to)}}]`);
  const more: readonly (readonly [string, string, RegExp])[] = [
    ['a profile that is not there', egress('use: [q]'), /egress\.use\.0: no egress profile "q"/],
    [
      'a credential of another host',
      `${rule('host: [a.example], credential: gh')}credentials: {gh: {source: "env:X", host: b.example}}\n`,
      /gh is bound to b\.example, which is none of a\.example/,
    ],
    [
      'an upstream like a profile',
      egress(
        'profiles: {db: [{id: a, host: [a.example]}]}, upstreams: [{id: db, host: h.internal, port: 1, to: "h:1"}]',
      ),
      /db is the name of a profile too/,
    ],
    [
      'an upstream with a star',
      egress('upstreams: [{id: db, host: "*.internal", port: 1, to: "h:1"}]'),
      /without a star/,
    ],
    ['the socket of an engine', upstream('unix:/var/run/docker.sock'), /socket of an engine/],
    ['the socket of another engine', upstream('unix:/run/containerd/containerd.sock'), /socket of an engine/],
    ['a relative socket', upstream('unix:run/x.sock'), /absolute path/],
    ['a socket by a detour', upstream('unix:/run/x/../docker.sock'), /absolute path/],
    ['a socket of too long a path', upstream(`unix:/${'x'.repeat(120)}`), /107 bytes/],
    ['an upstream without a port', upstream('db.example'), /host:port/],
    ['an upstream of no port', upstream('db.example:99999'), /host:port/],
    ['observe without leave', egress('mode: observe'), /egress\.mode: observe is not allowed/],
    [
      'a host in two ways',
      egress(
        'use: [p], profiles: {p: [{id: a, host: ["*.a.example"], tls: pass_through}, {id: b, host: [x.a.example]}]}',
      ),
      /a \(tls: pass_through\) and b \(tls: terminate\) speak of the same host and port/,
    ],
    [
      'a host that is an upstream too',
      egress(
        'use: [p, db], profiles: {p: [{id: a, host: [db.internal], ports: [5432]}]}, upstreams: [{id: db, host: db.internal, port: 5432, to: "h:1"}]',
      ),
      /a \(tls: terminate\) and db \(the upstream db\)/,
    ],
    [
      'two upstreams in one place',
      egress(
        'use: [a, b], upstreams: [{id: a, host: h.internal, port: 1, to: "x:1"}, {id: b, host: h.internal, port: 1, to: "y:1"}]',
      ),
      /speak of the same host and port/,
    ],
    [
      'a setup profile that is not there',
      `${minimal}environment: {image: base, setup: [[npm, ci]], egress: [q]}\n`,
      /environment\.egress\.0: no egress profile "q"/,
    ],
    [
      'a source that is none',
      `${minimal}credentials: {gh: {source: "http:x", host: a.example}}\n`,
      /write a reference/,
    ],
    ['a relative file', `${minimal}credentials: {gh: {source: "file:x", host: a.example}}\n`, /write a reference/],
    [
      'a file by a detour',
      `${minimal}credentials: {gh: {source: "file:/x/../y", host: a.example}}\n`,
      /write a reference/,
    ],
    [
      'a command with arguments',
      `${minimal}credentials: {gh: {source: "command:cat /etc/x", host: a.example}}\n`,
      /write a reference/,
    ],
  ];
  test.each(more)('%s', (_, text, message) => {
    expect(messageOf([text])).toMatch(message);
  });
});
