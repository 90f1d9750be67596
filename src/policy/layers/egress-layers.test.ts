import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isRunnerError } from '../../errors.ts';
import { publicRegistries, type Registries } from '../../registries/registries.ts';
import { EgressRules } from '../decisions/egress-rules.ts';
import { formatPolicyRecord, parsePolicyRecord } from '../policy-record.ts';
import { parseChain, policyFor, recompile } from '../policy.ts';
import type { TaskRequest } from './restriction.ts';

const head = (name: string): string => `apiVersion: glovebox/v1\nkind: Policy\nname: ${name}\n`;
const minimal = 'images: [base]\nfiles: {read: ["**"]}\n';

function load(texts: readonly string[], task: TaskRequest = {}, registries: Registries = publicRegistries) {
  const chain = parseChain(
    texts.map((text, at) => ({
      text: head(at === texts.length - 1 ? 'repo' : `org${at}`) + text,
      source: `${at}.yaml`,
    })),
  );
  return policyFor(chain, task, { registries });
}

function messageOf(texts: readonly string[], task: TaskRequest = {}, registries?: Registries): string {
  try {
    load(texts, task, registries);
  } catch (error) {
    if (isRunnerError(error)) return error.message;
    throw error;
  }
  return 'no error';
}

const rule = (text: string): string => `${minimal}egress: {use: [p], profiles: {p: [{id: a, ${text}}]}}\n`;

describe('an effective policy', () => {
  test('has every field of a rule, as numbers', () => {
    const { policy } = load([rule('host: [a.example]')]);
    expect(policy.egress.rules).toEqual([
      {
        id: 'a',
        profile: 'p',
        host: ['a.example'],
        ports: [443],
        methods: ['GET', 'HEAD'],
        path: ['/**'],
        query: {},
        tls: 'terminate',
        websocket: false,
        allowEncodedSlash: false,
        addresses: [],
        maxSentBytes: 16_384,
        maxReceivedBytes: 1_073_741_824,
        maxRequests: 10_000,
        timeoutMs: 600_000,
      },
    ]);
  });

  test('has other defaults for plain HTTP and for what is passed through', () => {
    expect(load([rule('host: [a.example], tls: none')]).policy.egress.rules[0]?.ports).toEqual([80]);
    expect(load([rule('host: [a.example], tls: pass_through')]).policy.egress.rules[0]?.maxSentBytes).toBe(1_048_576);
  });

  test('has upstreams and profiles that are named, and no others', () => {
    const text = `${minimal}egress: {use: [db], upstreams: [{id: db, host: db.internal, port: 5432, to: "unix:/run/s"}, {id: no, host: no.internal, port: 1, to: "[::1]:2"}], profiles: {p: [{id: a, host: [a.example]}]}}\n`;
    const { egress } = load([text]).policy;
    expect(egress.rules).toEqual([]);
    expect(egress.upstreams).toEqual([
      { id: 'db', host: 'db.internal', port: 5432, to: { kind: 'unix', path: '/run/s' } },
    ]);
    expect(load([text.replace('use: [db]', 'use: [no]')]).policy.egress.upstreams[0]?.to).toEqual({
      kind: 'tcp',
      host: '::1',
      port: 2,
    });
  });

  test('has what setup may reach apart from what runs may', () => {
    const { policy } = load([
      `${minimal}environment: {image: base, setup: [[npm, ci]], egress: [p]}\negress: {use: [], profiles: {p: [{id: a, host: [a.example]}]}}\n`,
    ]);
    expect(policy.egress.rules).toEqual([]);
    expect(policy.environment?.egress?.rules.map(({ id }) => id)).toEqual(['a']);
  });
});

test('a run holds the credentials that its rules name, with every field, and no others', () => {
  const text = `${minimal}egress: {profiles: {p: [{id: a, host: ["*.a.example"], credential: one}], q: [{id: b, host: [b.example], tls: none}]}}
credentials: {one: {source: "env:ONE", host: x.a.example}, two: {source: "vault:kv/two", host: b.example}}
classes: {c: {egress: [p]}, d: {egress: [q]}}
`;
  expect(load([text], { taskClass: 'd' }).policy.credentials).toEqual({});
  expect(load([text], { taskClass: 'c' }).policy.credentials).toEqual({
    one: {
      source: 'env:ONE',
      host: 'x.a.example',
      path: ['/**'],
      methods: ['GET', 'HEAD'],
      header: 'Authorization',
      format: 'Bearer {}',
      ttlMs: 1_800_000,
    },
  });
});

describe('a rule with a registry', () => {
  const mirrors: Registries = {
    npm: [{ url: 'https://nexus.corp.example:8443/repository/npm/' }, { url: 'https://acme.example/', scope: '@acme' }],
    pypi: [{ url: 'https://nexus.corp.example:8443/repository/pypi/simple/' }],
    debian: [{ url: 'http://mirror.corp.example/debian/' }, { url: 'http://mirror.corp.example/debian-security/' }],
  };
  const text = `${minimal}egress: {use: [p], profiles: {p: [{id: npm, registry: npm}, {id: pip, registry: pypi}, {id: deb, registry: debian}]}}\n`;
  const shapes = (registries?: Registries) =>
    load([text], {}, registries).policy.egress.rules.map(
      ({ id, host, ports, path, tls, methods }) =>
        `${id} ${methods.join()} ${tls} ${host.join()}:${ports.join()} ${path.join()}`,
    );

  test('stands for the public ones where nothing else is set up', () => {
    expect(shapes()).toEqual([
      'npm GET,HEAD terminate registry.npmjs.org:443 /**',
      'pip GET,HEAD terminate pypi.org:443 /**',
      'pip.2 GET,HEAD terminate files.pythonhosted.org:443 /**',
      'deb GET,HEAD none deb.debian.org:80 /debian/**,/debian-security/**',
      'deb.2 GET,HEAD none security.debian.org:80 /debian-security/**',
    ]);
  });

  test('stands for the mirrors of this machine, below their paths, in private networks too', () => {
    expect(shapes(mirrors)).toEqual([
      'npm GET,HEAD terminate nexus.corp.example:8443 /repository/npm/**',
      'npm.2 GET,HEAD terminate acme.example:443 /**',
      'pip GET,HEAD terminate nexus.corp.example:8443 /repository/pypi/**',
      'deb GET,HEAD none mirror.corp.example:80 /debian/**,/debian-security/**',
    ]);
    const { egress } = load([text], {}, mirrors).policy;
    const rules = new EgressRules(egress);
    expect(rules.address(egress.rules[0], '10.2.3.4').kind).toBe('allowed');
    expect(rules.address(egress.rules[0], '169.254.169.254').kind).toBe('denied');
    expect(rules.address(load([text]).policy.egress.rules[0], '10.2.3.4').kind).toBe('denied');
  });

  test('is in the digest, in the record of a run, and in what is compiled again', () => {
    const loaded = load([text], {}, mirrors);
    expect(loaded.digest).not.toBe(load([text]).digest);
    expect(loaded.policy.egress.registries).toEqual(mirrors);
    expect(parsePolicyRecord(formatPolicyRecord(loaded), 'record').digest).toBe(loaded.digest);
    expect(recompile(loaded, { risk: 'high' }).policy.egress.rules).toEqual(loaded.policy.egress.rules);
  });

  test.each(['http://10.0.0.5:4873/', 'http://localhost:4873/', 'http://[::1]/'])(
    'is refused where a registry has no name that a sandbox could use: %s',
    (url) => {
      expect(messageOf([text], {}, { ...mirrors, npm: [{ url }] })).toMatch(
        /the npm registry \S+ of this machine has no host name/,
      );
    },
  );
});

describe('of several layers', () => {
  const open = 'egress: {use: [p], profiles: {p: [{id: a, host: [a.example]}], q: [{id: b, host: [b.example]}]}}\n';
  const widenings: readonly (readonly [string, string, string, RegExp])[] = [
    [
      'uses another profile',
      open,
      `${minimal}egress: {use: [q]}\n`,
      /egress\.use\.0: "q" is not among those of 0\.yaml:\d+:\d+ \(p\); a lower layer can only narrow/,
    ],
    [
      'defines a profile',
      open,
      `${minimal}egress: {profiles: {r: [{id: r, host: [r.example]}]}}\n`,
      /says which profiles there are/,
    ],
    [
      'defines an upstream',
      'egress: {upstreams: []}\n',
      `${minimal}egress: {upstreams: [{id: db, host: h.internal, port: 1, to: "h:1"}]}\n`,
      /says which upstreams there are/,
    ],
    [
      'sets up with another profile',
      open,
      `${minimal}environment: {image: base, setup: [[x]], egress: [q]}\n`,
      /environment\.egress\.0: "q" is not among those of 0\.yaml/,
    ],
    [
      'asks for more connections',
      'egress: {max_connections: 8}\n',
      `${minimal}egress: {max_connections: 9}\n`,
      /egress\.max_connections: 9 is more than what 0\.yaml/,
    ],
    [
      'asks for more names',
      'egress: {dns: {max_names: 8}}\n',
      `${minimal}egress: {dns: {max_names: 9}}\n`,
      /egress\.dns\.max_names: 9 is more/,
    ],
    [
      'asks for more unlisted names',
      'egress: {dns: {max_unlisted: 0}}\n',
      `${minimal}egress: {dns: {max_unlisted: 1}}\n`,
      /egress\.dns\.max_unlisted: 1 is more/,
    ],
    [
      'goes on where a run is to stop',
      'egress: {dns: {on_excess: stop_run}}\n',
      `${minimal}egress: {dns: {on_excess: deny}}\n`,
      /deny is weaker than stop_run/,
    ],
    [
      'observes where nobody allows it',
      'egress: {deny: []}\n',
      `${minimal}egress: {mode: observe}\n`,
      /0\.yaml\) has to say/,
    ],
    [
      'allows itself to observe',
      'egress: {deny: []}\n',
      `${minimal}egress: {observe: allowed, mode: observe}\n`,
      /only the topmost file/,
    ],
    [
      'observes where one above enforces',
      'egress: {observe: allowed, mode: enforce}\n',
      `${minimal}egress: {mode: observe}\n`,
      /observe is weaker than enforce/,
    ],
  ];
  test.each(widenings)('a lower one that %s does not load', (_, above, below, message) => {
    expect(messageOf([above, below])).toMatch(message);
  });

  test('the smallest bound, the strictest word, every denial hold', () => {
    const { egress } = load([
      'egress: {observe: allowed, mode: observe, max_connections: 9, dns: {max_names: 5}, deny: [{id: a, host: [a.example]}]}\n',
      'egress: {max_connections: 7, dns: {on_excess: stop_run}}\n',
      `${minimal}egress: {mode: enforce, max_connections: 8, dns: {max_names: 3}, deny: [{id: b, cidr: ["10.0.0.0/8"]}]}\n`.replace(
        '8, dns',
        '6, dns',
      ),
    ]).policy;
    expect(egress).toMatchObject({
      mode: 'enforce',
      maxConnections: 6,
      dns: { maxNames: 3, maxUnlisted: 100, onExcess: 'stop_run' },
    });
    expect(egress.deny.map(({ id }) => id)).toEqual(['a', 'b']);
  });

  test('observe holds where the topmost allows it and nobody enforces; no intent asks for it', () => {
    const allowed = 'egress: {observe: allowed}\n';
    expect(load([allowed, `${minimal}egress: {mode: observe}\n`]).policy.egress.mode).toBe('observe');
    expect(load([allowed, minimal]).policy.egress.mode).toBe('enforce');
    expect(load([`${minimal}egress: {observe: allowed, mode: observe}\n`]).policy.egress.mode).toBe('observe');
    expect(messageOf([allowed, minimal], { intent: JSON.parse('{"mode":"observe"}') as object })).toMatch(
      /mode: unknown key/,
    );
  });

  test('profiles are what files, class and intent all name', () => {
    const classes = `${minimal}classes: {x: {egress: [p, q]}, y: {egress: [q]}, z: {}}\n`;
    const above = open.replace('use: [p]', 'use: [p, q]');
    const profiles = (texts: readonly string[], task: TaskRequest) => load(texts, task).policy.egress.profiles;
    expect(profiles([above, minimal], {})).toEqual(['p', 'q']);
    expect(profiles([above, `${minimal}egress: {use: [q]}\n`], {})).toEqual(['q']);
    expect(profiles([above, minimal], { intent: { egress: ['q'] } })).toEqual(['q']);
    expect(profiles([above, classes], { taskClass: 'x' })).toEqual(['p', 'q']);
    expect(profiles([open, classes], { taskClass: 'x' })).toEqual(['p']);
    expect(profiles([open, classes], { taskClass: 'y' })).toEqual([]);
    expect(profiles([above, classes], { taskClass: 'z' })).toEqual([]);
  });
});

test('narrowing never widens: what a lower layer leaves is allowed by what is above it alone', () => {
  const some = fc.constantFrom(['p', 'q', 'db'], ['p', 'q', 'db'], ['p', 'db'], ['q'], []);
  const hosts = fc.uniqueArray(fc.constantFrom('a.example', 'x.b.example', '**.example'), {
    minLength: 1,
    maxLength: 2,
  });
  const keys = {
    use: some,
    max_connections: fc.constantFrom(1, 100, 256),
    dns: fc.record({ max_names: fc.constantFrom(0, 100, 200), on_excess: fc.constantFrom('deny', 'stop_run') }),
    mode: fc.constantFrom('enforce', 'observe'),
    deny: hosts.map((host) => [{ host }]),
  };
  const whole = fc.record(keys); // a layer bounds what it speaks of
  const layer = fc
    .record(keys)
    .chain((all) => fc.subarray(Object.entries(all)).map((some) => Object.fromEntries(some)));
  const defined = {
    observe: 'allowed',
    profiles: {
      p: [
        { id: 'a', host: ['a.example'] },
        { id: 'b', host: ['*.b.example'] },
      ],
      q: [{ id: 'c', host: ['c.example'], methods: ['POST'] }],
    },
    upstreams: [{ id: 'db', host: 'db.internal', port: 1, to: 'h:1' }],
  };
  const numbered = (says: object, at: number): string =>
    JSON.stringify({
      ...says,
      ...('deny' in says && Array.isArray(says.deny)
        ? { deny: says.deny.map((one: object) => ({ id: `d${at}`, ...one })) }
        : {}),
    });
  const asked = [
    'GET https://a.example/',
    'GET https://x.b.example/',
    'POST https://c.example/',
    'GET https://c.example/',
  ];
  const rank = { allowed: 2, unlisted: 1, denied: 0 } as const;
  let loaded = 0;
  fc.assert(
    fc.property(whole, fc.array(layer, { minLength: 1, maxLength: 2 }), (top, below) => {
      const all = [{ ...defined, ...top }, ...below].map((says, at) => `egress: ${numbered(says, at)}\n`);
      const texts = (count: number): readonly string[] =>
        all.slice(0, count).map((text, at) => (at === count - 1 ? minimal + text : text));
      if (messageOf(texts(all.length)) !== 'no error') return;
      loaded += 1;
      const [above, lower] = [load(texts(1)).policy.egress, load(texts(all.length)).policy.egress];
      const [wide, narrow] = [new EgressRules(above), new EgressRules(lower)];
      for (const one of asked) {
        const [method = '', url = ''] = one.split(' ');
        expect(rank[narrow.decide({ method, url }).kind]).toBeLessThanOrEqual(rank[wide.decide({ method, url }).kind]);
      }
      expect(lower.upstreams.every(({ id }) => above.upstreams.some((other) => other.id === id))).toBe(true);
      expect(lower.maxConnections).toBeLessThanOrEqual(above.maxConnections);
      expect(lower.dns.maxNames).toBeLessThanOrEqual(above.dns.maxNames);
      if (above.mode === 'enforce') expect(lower.mode).toBe('enforce');
      if (above.dns.onExcess === 'stop_run') expect(lower.dns.onExcess).toBe('stop_run');
    }),
    { numRuns: 300 },
  );
  expect(loaded).toBeGreaterThan(20);
});
