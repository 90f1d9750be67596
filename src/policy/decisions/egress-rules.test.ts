import { describe, expect, test } from 'vitest';
import { parsePolicy } from '../policy.ts';
import { EgressRules } from './egress-rules.ts';

const head = 'apiVersion: glovebox/v1\nkind: Policy\nname: net\nimages: [base]\nfiles: {read: ["**"]}\n';
const { policy } = parsePolicy(
  `${head}
egress:
  use: [web, db]
  deny:
    - {id: d-range, cidr: ["192.0.2.0/24", "203.0.113.7/32", "2606:4700::/32"], reason: not that one}
    - {id: d-host, host: ["**.drop.example", sub.star.example], reason: known drop point}
  profiles:
    web:
      - {id: api, host: [api.example], path: ["/v1/**", "/exact", "/dir/"], methods: [GET, POST]}
      - {id: socket, host: [api.example], path: ["/live"], websocket: true}
      - {id: npm, host: [npm.example], allow_encoded_slash: true, path: ["/@acme/**", "/@acme*"]}
      - {id: star, host: ["**.star.example"], ports: [443, 8443]}
      - {id: closed, host: [closed.example, "*.closed.example"], tls: pass_through}
      - {id: plain, host: [plain.example], tls: none}
      - {id: refs, host: [git.example], path: ["/**/info/refs"], query: {service: git-upload-pack}}
      - {id: pack, host: [git.example], methods: [POST], path: ["/**/git-upload-pack"]}
      - {id: list, host: [list.example], query: {state: open, page: "*"}}
      - {id: inner, host: [inner.example], addresses: ["10.1.0.0/16", "127.0.0.1/32", "169.254.0.0/16", "64:ff9b::/96", "::ffff:0:0/96"]}
      - {id: secret, host: [secret.example], credential: gh}
  upstreams: [{id: db, host: db.internal, port: 5432, to: "127.0.0.1:15432"}, {id: other, host: other.internal, port: 1, to: "h:1"}]
credentials: {gh: {source: "env:GH", host: secret.example}}
approvals: {categories: {secrets: {}}, triggers: [{category: secrets, when: {credential: [gh]}}]}
`,
  'p',
);
const rules = new EgressRules(policy.egress);

function text(decision: ReturnType<EgressRules[keyof Pick<EgressRules, 'decide' | 'name' | 'connection'>]>): string {
  switch (decision.kind) {
    case 'allowed':
    case 'pass_through':
      return `${decision.kind} ${decision.rule.id}`;
    case 'denied':
    case 'unlisted':
      return `${decision.kind} ${decision.id}`;
    case 'listed':
      return `listed ${decision.ports.join(',')}${decision.suffix ? ' by suffix' : ''}`;
    case 'upstream':
      return `upstream ${decision.upstream.id}`;
    default:
      return decision.kind;
  }
}

const names: readonly (readonly [string, string])[] = [
  ['api.example', 'listed 443'],
  ['API.example.', 'listed 443'],
  ['a.star.example', 'listed 443,8443 by suffix'],
  ['sub.star.example', 'denied d-host'],
  ['star.example', 'unlisted egress.profiles'],
  ['closed.example', 'listed 443'],
  ['x.closed.example', 'listed 443 by suffix'],
  ['plain.example', 'listed 80'],
  ['db.internal', 'listed 5432'],
  ['other.internal', 'unlisted egress.profiles'], // defined, and not named by `use`
  ['secret-in-a-name.evil.example', 'unlisted egress.profiles'],
  ['x.drop.example', 'denied d-host'],
  ['metadata.google.internal', 'denied egress.address'],
  ['169.254.169.254', 'denied egress.address'],
  ['8.8.8.8', 'unlisted egress.profiles'],
  ['192.0.2.1', 'denied d-range'],
  ['api。example', 'denied egress.ambiguous'],
  ['', 'denied egress.ambiguous'],
];
test.each(names)('the name %j is %s', (name, expected) => {
  expect(text(rules.name(name))).toBe(expected);
});

const connections: readonly (readonly [string, number, string])[] = [
  ['api.example', 443, 'terminate'],
  ['api.example', 80, 'unlisted egress.profiles'],
  ['api.example', 22, 'unlisted egress.profiles'],
  ['closed.example', 443, 'pass_through closed'],
  ['plain.example', 80, 'plain'],
  ['plain.example', 443, 'unlisted egress.profiles'],
  ['db.internal', 5432, 'upstream db'],
  ['db.internal', 443, 'unlisted egress.profiles'],
  ['x.drop.example', 443, 'denied d-host'],
  ['10.0.0.1', 443, 'denied egress.address'],
  ['203.0.113.7', 443, 'denied d-range'],
  ['[::ffff:127.0.0.1]', 443, 'denied egress.address'],
  ['8.8.8.8', 443, 'unlisted egress.profiles'],
  ['evil.example', 443, 'unlisted egress.profiles'],
];
test.each(connections)('a connection to %s, port %d, is %s', (host, port, expected) => {
  expect(text(rules.connection({ host, port }))).toBe(expected);
});

const requests: readonly (readonly [string, string])[] = [
  ['GET https://api.example/v1', 'allowed api'],
  ['POST https://api.example/v1/x?anything=1', 'allowed api'],
  ['GET https://api.example/v1/', 'allowed api'],
  ['GET https://api.example/%76%31/x', 'allowed api'],
  ['GET https://api.example/V1/x', 'unlisted egress.profiles'],
  ['GET https://api.example/v1x', 'unlisted egress.profiles'],
  ['GET https://api.example/exact', 'allowed api'],
  ['GET https://api.example/exact/', 'unlisted egress.profiles'],
  ['GET https://api.example/dir/', 'allowed api'],
  ['GET https://api.example/dir', 'unlisted egress.profiles'],
  ['GET https://api.example/', 'unlisted egress.profiles'],
  ['PUT https://api.example/v1/x', 'unlisted egress.profiles'],
  ['get https://api.example/v1/x', 'unlisted egress.profiles'],
  ['CONNECT https://api.example/v1/x', 'unlisted egress.profiles'],
  ['TRACE https://api.example/v1/x', 'unlisted egress.profiles'],
  ['GET http://api.example/v1/x', 'unlisted egress.profiles'],
  ['GET https://api.example:8443/v1/x', 'unlisted egress.profiles'],
  ['GET https://api.example/v1/../admin', 'denied egress.ambiguous'],
  ['GET https://api.example/v1/%2e%2e/admin', 'denied egress.ambiguous'],
  ['GET https://api.example/v1%2fx', 'unlisted egress.profiles'],
  ['GET https://npm.example/@acme%2fpkg', 'allowed npm'],
  ['GET https://npm.example/@acme/pkg', 'allowed npm'],
  ['GET https://npm.example/@other%2fpkg', 'unlisted egress.profiles'],
  ['GET https://npm.example/@acme%2f..%2f..%2fadmin', 'denied egress.ambiguous'],
  ['GET https://a.star.example:8443/x', 'allowed star'],
  ['GET https://closed.example/anything', 'allowed closed'],
  ['GET http://plain.example/x', 'allowed plain'],
  ['GET https://plain.example/x', 'unlisted egress.profiles'],
  ['GET https://git.example/a/b.git/info/refs?service=git-upload-pack', 'allowed refs'],
  ['GET https://git.example/a/b.git/info/refs', 'unlisted egress.profiles'],
  ['GET https://git.example/a/b.git/info/refs?service=git-receive-pack', 'unlisted egress.profiles'],
  [
    'GET https://git.example/a/b.git/info/refs?service=git-upload-pack&service=git-receive-pack',
    'unlisted egress.profiles',
  ],
  [
    'GET https://git.example/a/b.git/info/refs?service=git-receive-pack&service=git-upload-pack',
    'unlisted egress.profiles',
  ],
  [
    'GET https://git.example/a/b.git/info/refs?service=git-upload-pack;service=git-receive-pack',
    'unlisted egress.profiles',
  ],
  ['GET https://git.example/a/b.git/info/refs?x=1&service=git-upload-pack', 'unlisted egress.profiles'],
  [
    'GET https://git.example/a/b.git/info/refs?%73ervice=git-receive-pack&service=git-upload-pack',
    'unlisted egress.profiles',
  ],
  ['GET https://git.example/a/b.git/info/refs?service=git-upload-pack&', 'unlisted egress.profiles'],
  ['POST https://git.example/a/b.git/git-upload-pack', 'allowed pack'],
  ['POST https://git.example/a/b.git/git-receive-pack', 'unlisted egress.profiles'],
  ['GET https://list.example/?state=open', 'allowed list'],
  ['GET https://list.example/?page=7&state=open', 'allowed list'],
  ['GET https://list.example/?page=7', 'unlisted egress.profiles'],
  ['GET https://list.example/?state=closed', 'unlisted egress.profiles'],
  ['GET https://list.example/?state=open&q=x', 'unlisted egress.profiles'],
  ['GET https://secret.example/', 'denied approvals.secrets'],
  ['GET https://db.internal:5432/', 'unlisted egress.profiles'],
  ['GET https://api.example@evil.example/v1', 'denied egress.ambiguous'],
  ['GET http://169.254.169.254/latest', 'denied egress.address'],
  ['GET http://0xa9fea9fe/latest', 'denied egress.address'],
  ['GET http://2130706433/', 'denied egress.address'],
  ['GET http://0177.0.0.1/', 'denied egress.address'],
  ['GET http://127.1/', 'denied egress.address'],
  ['GET http://[::]/', 'denied egress.address'],
  ['GET http://0.0.0.0/', 'denied egress.address'],
  ['GET http://[::ffff:127.0.0.1]/', 'denied egress.address'],
  ['GET http://[64:ff9b::7f00:1]/', 'denied egress.address'],
  ['GET http://[2002:7f00:1::]/', 'denied egress.address'],
];
test.each(requests)('%s is %s', (asked, expected) => {
  const [method = '', url = ''] = asked.split(' ');
  expect(text(rules.decide({ method, url }))).toBe(expected);
});

describe('a WebSocket', () => {
  test('is opened where a rule says so, and nowhere else', () => {
    const ask = (url: string): string => text(rules.decide({ method: 'GET', url, websocket: true }));
    expect(ask('https://api.example/live')).toBe('allowed socket');
    expect(ask('https://api.example/v1/live')).toBe('unlisted egress.profiles');
  });
});

const addresses: readonly (readonly [string | undefined, string, string])[] = [
  [undefined, '8.8.8.8', 'allowed'],
  [undefined, '2606:4701::1', 'allowed'],
  [undefined, '10.1.2.3', 'egress.address'],
  ['inner', '10.1.2.3', 'allowed, named'],
  ['inner', '8.8.8.8', 'allowed'],
  ['inner', '10.2.0.1', 'egress.address'],
  ['inner', '127.0.0.1', 'allowed, named'],
  ['inner', '127.0.0.2', 'egress.address'],
  ['inner', '::1', 'egress.address'],
  ['inner', '169.254.1.1', 'allowed, named'],
  ['inner', '169.254.169.254', 'egress.address'], // metadata: whatever a rule names
  ['inner', '64:ff9b::8.8.8.8', 'allowed, named'],
  ['inner', '64:ff9b::10.2.0.1', 'egress.address'], // what it carries is asked for too
  ['inner', '64:ff9b::10.1.0.1', 'allowed, named'],
  ['inner', '::ffff:169.254.169.254', 'egress.address'],
  ['inner', '::ffff:192.0.2.1', 'd-range'], // a denial always wins
  ['api', '::ffff:8.8.8.8', 'egress.address'],
  ['api', '203.0.113.7', 'd-range'],
  ['api', '2606:4700::1', 'd-range'],
  ['api', '0.0.0.0', 'egress.address'],
  ['api', 'fe80::1%eth0', 'egress.address'],
  ['api', 'api.example', 'egress.address'],
  ['api', '', 'egress.address'],
];
test.each(addresses)('with the rule %s, the address %s is %s', (id, ip, expected) => {
  const rule = policy.egress.rules.find((one) => one.id === id);
  const found = rules.address(rule, ip);
  expect(found.kind === 'allowed' ? `allowed${found.named ? ', named' : ''}` : found.id).toBe(expected);
});

describe('a hint', () => {
  test('names what the same host is open for', () => {
    const hint = rules.hint({ host: 'git.example', port: 443 });
    expect(hint).toContain('GET, HEAD https://git.example /**/info/refs?service=git-upload-pack');
    expect(hint).toContain('adds a rule for git.example:443');
    expect(hint).not.toContain('api.example');
  });

  test('is short, whatever is asked for', () => {
    expect(rules.hint({ host: 'x'.repeat(100_000) }).length).toBeLessThan(2000);
    expect(rules.hint({ host: 'x.drop.example' })).toBe('No profile can allow it. Do without it.');
  });
});

test('a decision takes microseconds with some hundred rules', () => {
  const [first] = policy.egress.rules;
  if (first === undefined) throw new Error('no rule');
  const many = Array.from({ length: 256 }, (_, at) => ({ ...first, id: `r${at}`, host: [`h${at}.example`] }));
  const large = new EgressRules({ ...policy.egress, rules: many });
  const ask = (): string => text(large.decide({ method: 'GET', url: 'https://h255.example/v1/a/b/c' }));
  for (let i = 0; i < 500; i++) ask();
  const started = performance.now();
  for (let i = 0; i < 500; i++) ask();
  expect((performance.now() - started) / 500).toBeLessThan(1);
});
