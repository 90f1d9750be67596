import { buffer } from 'node:stream/consumers';
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { EffectiveCredential } from '../policy/layers/effective-egress.ts';
import { Credentials, type Outgoing } from './credentials.ts';
import { CredentialRefusal } from './refusal.ts';

const token = 'tok-0123456789-abcdef';
const gh: EffectiveCredential = {
  source: 'env:GH',
  host: 'api.example.org',
  path: ['/repos/**'],
  methods: ['GET', 'POST'],
  header: 'Authorization',
  format: 'Bearer {}',
  ttlMs: 30 * 60_000,
};
const key: EffectiveCredential = {
  ...gh,
  source: 'env:KEY',
  host: 'llm.example.org',
  path: ['/**'],
  methods: ['POST'],
  header: 'X-Api-Key',
  format: '{}',
};

function opened(
  env: Record<string, string> = { GH: token, KEY: 'key-9876543210' },
  credentials: Record<string, EffectiveCredential> = { gh, 'llm-key': key },
) {
  const clock = { nowMs: 0 };
  const held = Credentials.open({ credentials, commands: {}, env, nowMs: () => clock.nowMs });
  const { GLOVEBOX_CREDENTIAL_GH: placeholder = '', GLOVEBOX_CREDENTIAL_LLM_KEY: other = '' } = held.environment();
  return { held, env, clock, placeholder, other };
}

const asked = (url: string, headers: Outgoing['headers'] = [], more: Partial<Outgoing> = {}): Outgoing => ({
  rule: { id: 'r', credential: 'gh' },
  method: 'GET',
  url: new URL(url),
  headers,
  ...more,
});
const inside = 'https://api.example.org/repos/a';
const like = (pattern: RegExp): string => expect.stringMatching(pattern) as string;
const basic = (pair: string) => `Basic ${Buffer.from(pair).toString('base64')}`;

describe('a credential', () => {
  test('is attached where the rule says so, and nothing of the client that says who it is goes along', async () => {
    const { held } = opened();
    const { headers } = await held.prepare(
      asked(inside, [
        ['Accept', 'application/json'],
        ['AUTHORIZATION', 'Bearer of-an-attacker'],
        ['Cookie', 'session=1'],
        ['proxy-authorization', basic('a:b')],
        ['x-api-key', 'mine'],
        ['Range', 'bytes=0-3'],
        ['Accept-Encoding', 'gzip'],
      ]),
    );
    expect(headers).toEqual([
      ['Accept', 'application/json'],
      ['Accept-Encoding', 'identity'],
      ['Authorization', `Bearer ${token}`],
    ]);
  });

  test('goes into the header and the form that the policy says', async () => {
    const { held } = opened();
    const request = asked('https://llm.example.org/v1', [['x-api-key', 'mine']], {
      rule: { id: 'r', credential: 'llm-key' },
      method: 'POST',
    });
    expect((await held.prepare(request)).headers).toContainEqual(['X-Api-Key', 'key-9876543210']);
  });

  test.each([
    ['another host', asked('https://evil.example.org/repos/a'), /for api\.example\.org only/],
    ['a host that ends like it', asked('https://xapi.example.org/repos/a'), /for api\.example\.org only/],
    ['another path', asked('https://api.example.org/user'), /for \/repos\/\*\* only/],
    ['a path that reads in two ways', asked('https://api.example.org/repos/%2e%2e%2fuser'), /for no such URL/],
    ['another method', asked(inside, [], { method: 'DELETE' }), /for GET, POST only/],
    ['a connection that others can read', asked('http://api.example.org/repos/a'), /for https:\/\/ only/],
  ])('does not go with %s', async (_, request, why) => {
    const { held } = opened();
    await expect(held.prepare(request)).rejects.toMatchObject({
      kind: 'denied',
      rule: 'credentials.gh',
      reason: like(why),
    });
  });

  test('is not asked for before it is needed, and then once for all who need it', async () => {
    const { held, env } = opened({});
    env['GH'] = token;
    const all = await Promise.all([1, 2, 3].map(() => held.prepare(asked(inside))));
    expect(all.map(({ headers }) => headers.at(-1))).toEqual(
      Array.from({ length: 3 }, () => ['Authorization', `Bearer ${token}`]),
    );
  });

  test('is used for its ttl; then, or a while after a 401, the source is asked again', async () => {
    const { held, env, clock } = opened();
    const sent = async () => {
      const { headers, carried } = await held.prepare(asked(inside));
      return { value: headers.at(-1)?.[1], carried };
    };
    await sent();
    env['GH'] = 'second-value-123';
    clock.nowMs = 29 * 60_000;
    const before = await sent();
    expect(before.value).toBe(`Bearer ${token}`);
    before.carried?.response(401, []);
    expect((await sent()).value).toBe('Bearer second-value-123');
    env['GH'] = 'third-value-1234';
    (await sent()).carried?.response(401, []); // just asked: not again so soon
    expect((await sent()).value).toBe('Bearer second-value-123');
    clock.nowMs += 31 * 60_000;
    expect((await sent()).value).toBe('Bearer third-value-1234');
  });

  test('that its source does not give is a broken request, and the source has some rest', async () => {
    const { held, env, clock } = opened({});
    await expect(held.prepare(asked(inside))).rejects.toMatchObject({ kind: 'broken', reason: like(/env:GH/) });
    env['GH'] = token;
    await expect(held.prepare(asked(inside))).rejects.toMatchObject({ kind: 'broken' });
    clock.nowMs = 6_000;
    await expect(held.prepare(asked(inside))).resolves.toBeDefined();
  });

  test('that is revoked is sent no more, and what carries it is cut before revoke returns', async () => {
    const { held } = opened();
    const [open, over] = [await held.prepare(asked(inside)), await held.prepare(asked(inside))];
    over.carried?.end();
    const waiting = held.prepare(asked(inside));
    expect(held.revoke('gh')).toBe(1);
    expect(open.carried?.signal.reason).toBeInstanceOf(CredentialRefusal);
    expect(over.carried?.signal.aborted).toBe(false);
    await expect(waiting).rejects.toMatchObject({ kind: 'denied', reason: like(/revoked/) });
    await expect(held.prepare(asked(inside))).rejects.toMatchObject({ kind: 'denied', reason: like(/revoked/) });
    expect(held.revoked).toEqual(['gh']);
    expect(() => held.revoke('none')).toThrow(/gh, llm-key/);
  });

  test('whose name looks like another one inside does not open', () => {
    expect(() => opened({}, { 'a-b': gh, a_b: gh })).toThrow(/one variable inside/);
  });
});

describe('a placeholder', () => {
  test('is all that there is inside', () => {
    const { held, placeholder } = opened();
    expect(placeholder).toMatch(/^glovebox-credential-gh-[0-9a-f]{32}$/);
    expect(JSON.stringify(held.environment())).not.toContain(token);
    expect(inspect(held, { depth: 9, showHidden: true })).not.toContain(token);
  });

  test.each([
    ['as it is', (text: string) => `token ${text}`, `token ${token}`],
    ['as the password of Basic', (text: string) => basic(`x:${text}`), basic(`x:${token}`)],
    ['as the user of Basic', (text: string) => basic(`${text}:`).replace('Basic', 'basic'), basic(`${token}:`)],
  ])('is replaced where its credential belongs: %s', async (_, written, sent) => {
    const { held, placeholder } = opened();
    const headers = [
      ['Authorization', written(placeholder)],
      ['Cookie', 'a=b'],
    ] as const;
    expect((await held.prepare(asked(inside, headers))).headers).toEqual([
      ['Authorization', sent],
      ['Accept-Encoding', 'identity'],
    ]);
  });

  const elsewhere: readonly (readonly [string, (own: string, other: string) => Outgoing])[] = [
    ['to another host', (own) => asked('https://evil.example.org/', [['Authorization', own]], { rule: { id: 'r' } })],
    [
      'in Basic to another host',
      (own) => asked('https://evil.example.org/', [['Authorization', basic(`a:${own}`)]], { rule: { id: 'r' } }),
    ],
    ['where it is only observed', (own) => asked('https://evil.example.org/', [['X-Y', own]], { rule: undefined })],
    [
      'over plain HTTP',
      (own) => asked('http://api.example.org/repos/a', [['Authorization', own]], { rule: { id: 'r' } }),
    ],
    [
      'with another path',
      (own) => asked('https://api.example.org/user', [['Authorization', own]], { rule: { id: 'r' } }),
    ],
    ['with another method', (own) => asked(inside, [['Authorization', own]], { method: 'PUT', rule: { id: 'r' } })],
    ['in a header that services show', (own) => asked(inside, [['User-Agent', own]])],
    ['in the name of a header', (own) => asked(inside, [[own, 'x']])],
    ['in the path', (own) => asked(`${inside}/${own}`)],
    ['in the query', (own) => asked(`${inside}?t=${own.replace('-', '%2D')}`)],
    ['where no rule names its credential', (own) => asked(inside, [['Authorization', own]], { rule: { id: 'r' } })],
    ['that it is bound to, but only observed', (own) => asked(inside, [['Authorization', own]], { rule: undefined })],
    ['of another credential', (_, other) => asked(inside, [['Authorization', other]])],
  ];
  test.each(elsewhere)('is refused %s, and the refusal names it', async (_, make) => {
    const { held, placeholder, other } = opened();
    const request = make(placeholder, other);
    const refusal: unknown = await held.prepare(request).catch((error: unknown) => error);
    expect(refusal).toMatchObject({
      kind: 'denied',
      rule: like(/^credentials\.(gh|llm-key)$/),
    });
    expect((refusal as CredentialRefusal).reason).toMatch(/placeholder/);
  });

  test('that belongs to no credential of the run is text like any other', async () => {
    const { held } = opened();
    const headers = [['Authorization', 'glovebox-credential-gh-0000']] as const;
    expect(await held.prepare(asked('https://evil.example.org/', headers, { rule: { id: 'r' } }))).toEqual({ headers });
  });
});

describe('what comes back', () => {
  const answerOf = async (request = asked(inside)) => {
    const { held } = opened();
    const { carried } = await held.prepare(request);
    if (carried === undefined) throw new Error('nothing is searched');
    return { held, carried };
  };

  test('shows the secret neither in headers nor in the body, and keeps its length', async () => {
    const { carried } = await answerOf();
    const text = JSON.stringify({ got: `Bearer ${token}`, basic: basic(`me:${token}`) });
    const { headers, body } = carried.response(200, [
      ['X-Echo', `Bearer ${token}`],
      ['Content-Length', `${text.length}`],
    ]);
    expect(headers).toEqual([
      ['X-Echo', `Bearer ${'*'.repeat(token.length)}`],
      ['Content-Length', `${text.length}`],
    ]);
    body.end(text);
    const out = (await buffer(body)).toString();
    expect(out).toHaveLength(text.length);
    expect(out).not.toContain(token);
    expect(Buffer.from(/Basic ([^"]+)/.exec(out)?.[1] ?? '', 'base64').toString()).not.toContain(token.slice(2, -2));
  });

  test('starts no session for the client where a credential has spoken for it', async () => {
    const { carried } = await answerOf();
    expect(
      carried.response(200, [
        ['Set-Cookie', 'session=1'],
        ['X', 'y'],
      ]).headers,
    ).toEqual([['X', 'y']]);
  });

  test('in an encoding that was not asked for is refused', async () => {
    const { carried } = await answerOf();
    expect(() => carried.response(200, [['content-encoding', 'gzip']])).toThrow(CredentialRefusal);
    expect(() => carried.response(200, [['content-encoding', 'identity']])).not.toThrow();
    expect(() => carried.response(304, [['content-encoding', 'gzip']])).not.toThrow();
  });

  test('is searched on every later request to that host, with or without the credential', async () => {
    const { held } = opened();
    const echo = asked('https://api.example.org/echo', [['Accept-Encoding', 'gzip']], { rule: { id: 'r' } });
    expect(await held.prepare(echo)).toEqual({ headers: echo.headers });
    await held.prepare(asked(inside));
    const { headers, carried } = await held.prepare(echo);
    expect(headers).toEqual([['Accept-Encoding', 'identity']]);
    expect(carried?.credential).toBeUndefined();
    expect(carried?.response(200, [['X', token]]).headers).toEqual([['X', '*'.repeat(token.length)]]);
  });
});
