import { describe, expect, test } from 'vitest';
import { compileRules, decide } from '../decisions/decide.ts';
import { lintPolicy } from './lint.ts';
import { questionOf } from '../decisions/policy-tests.ts';
import { loadChain, loadPolicy, parseChain, policyFor, shippedPolicies } from '../policy.ts';
import { decisionDiff, reachDiff } from './reach-diff.ts';
import { decisionText, diffText, explainText } from './texts.ts';

/** What a reviewer pastes into a pull request. `vitest -u` writes the files anew; look at them. */
describe('golden pages', () => {
  test.each([
    ['bugfix', undefined],
    ['balanced', 'feature'],
    ['release', 'release'],
    ['default', undefined],
  ])('explain %s %s', async (name, taskClass) => {
    const loaded = await loadPolicy(name, { taskClass });
    await expect(`${explainText(loaded)}\n`).toMatchFileSnapshot(`./golden/explain-${name}.md`);
  });

  test('explain egress integrate', async () => {
    const loaded = policyFor(await loadChain('egress'), { taskClass: 'integrate' }); // with the public registries
    await expect(`${explainText(loaded)}\n`).toMatchFileSnapshot('./golden/explain-egress.md');
  });

  test('why', async () => {
    const asked = [
      { command: 'sudo git -C . push' },
      { command: 'npm test' },
      { write: 'package.json' },
      { write: 'deploy/prod.yaml' },
      { write: 'services/billing/src/tax.ts' },
      { read: '.env' },
      { url: 'GET http://169.254.169.254/latest' },
      { url: 'https://example.org/' },
      { tool: 'upload' },
    ];
    const rules = compileRules((await loadPolicy('balanced', { taskClass: 'feature' })).policy);
    const texts = asked.map((one) => {
      const question = questionOf(one);
      if (question === undefined) throw new Error('no question');
      return decisionText(Object.values(one).join(' '), decide(rules, question), undefined);
    });
    await expect(`${texts.join('\n\n')}\n`).toMatchFileSnapshot('./golden/why.md');
  });

  test.each([
    ['default', 'bugfix'],
    ['bugfix', 'default'],
    ['bugfix', 'dependency-update'],
  ])('diff %s %s', async (before, after) => {
    const chains = await Promise.all([loadChain(before), loadChain(after)]);
    const [a, b] = chains.map((chain) => policyFor(chain, {}).policy);
    if (a === undefined || b === undefined) throw new Error('no policy');
    const compared = {
      class: null,
      there: { before: true, after: true },
      reach: reachDiff(a, b),
      decisions: decisionDiff(chains, a, b, undefined),
    };
    const text = diffText(before, after, [compared]);
    await expect(`${text}\n`).toMatchFileSnapshot(`./golden/diff-${before}-${after}.md`);
  });

  test('a difference in egress is told as reach', () => {
    const text = (rule: string, more: string): string =>
      `apiVersion: glovebox/v1\nkind: Policy\nname: p\nimages: [base]\nfiles: {read: ["**"]}\negress: {observe: allowed, ${more}, profiles: {p: [{id: a, host: [a.example], ${rule}}]}}\n`;
    const policyOf = (one: string) => policyFor(parseChain([{ text: one, source: 'p' }]), {}).policy;
    const before = policyOf(text('max_sent: 1KiB, timeout: 1m', 'use: [p]'));
    const after = policyOf(
      text(
        'methods: [POST], addresses: ["10.0.0.0/8"], max_sent: 2KiB, timeout: 30s',
        'use: [p, db], mode: observe, max_connections: 8, upstreams: [{id: db, host: db.internal, port: 1, to: "h:2"}]',
      ),
    );
    expect(reachDiff(before, after)).toEqual({
      gained: [
        'request POST https://a.example /**',
        'request db.internal:1 -> h:2',
        'reach addresses of 10.0.0.0/8 with a',
        'bytes out with a: 2KiB instead of 1KiB',
        'egress mode observe instead of enforce',
      ],
      lost: [
        'request GET, HEAD https://a.example /**',
        'time of a request with a: 30s instead of 1m',
        'connections at a time: 8 instead of 64',
      ],
      other: [],
    });
  });

  test('a policy does not differ from itself', async () => {
    const { policy } = await loadPolicy('bugfix');
    expect(reachDiff(policy, policy)).toEqual({ gained: [], lost: [], other: [] });
  });
});

describe('lint', () => {
  const head = 'apiVersion: glovebox/v1\nkind: Policy\nname: p\nimages: [base]\n';
  const tests = 'tests: [{name: x, given: {tool: read}, expect: {effect: allow}}]\n';
  const files = 'files: {read: ["**"], deny: ["**/.git/**"]}\n';
  const rule = (id: string, match: string, effect: string, example: string): string =>
    `{id: ${id}, match: ${match}, effect: ${effect}, tests: {match: [${example}]}}`;
  const cases: readonly [string, string, readonly string[]][] = [
    ['a list of which a glob covers another', 'files: {read: ["**", "src/**"], deny: [x]}\n', ['shadowed']],
    ['everything writable and nothing denied', 'files: {read: ["**"], write: ["**"]}\n', ['over_broad']],
    [
      'a rule that a stricter one always beats',
      `${files}commands: [${rule('a', '{program: git}', 'deny', 'git x')}, ${rule('b', '{program: git, subcommand: x}', 'allow', 'git x')}]\n`,
      ['shadowed'],
    ],
    [
      'two rules that match the same',
      `${files}commands: [${rule('a', '{program: git}', 'deny', 'git x')}, ${rule('b', '{program: git}', 'deny', 'git x')}]\n`,
      ['ambiguous'],
    ],
    [
      'allowing what cannot be read',
      `${files}commands: [${rule('a', '{program: "*", opaque: true}', 'allow', "'eval $x'")}]\n`,
      ['over_broad'],
    ],
    [
      'a whole top-level domain',
      `${files}egress: {use: [p], profiles: {p: [{id: a, host: ["**.com"]}]}}\n`,
      ['over_broad'],
    ],
    ['a profile that nothing names', `${files}egress: {profiles: {p: [{id: a, host: [a.example]}]}}\n`, ['unused']],
    ['a credential that no rule names', `${files}credentials: {gh: {source: "env:GH", host: a.example}}\n`, ['unused']],
    [
      'an upstream that nothing names',
      `${files}egress: {upstreams: [{id: db, host: db.internal, port: 1, to: "127.0.0.1:1"}]}\n`,
      ['unused'],
    ],
    ['a lane in which nobody works', `${files}lanes: {l: {}}\n`, ['unused']],
    ['nothing', files, []],
  ];
  test.each(cases)('%s', (_, text, kinds) => {
    const found = lintPolicy(parseChain([{ text: head + text + tests, source: 'p.yaml' }]));
    expect(found.map(({ kind }) => kind)).toEqual(kinds);
    for (const { place, message } of found) expect(`${place}: ${message}`).toMatch(/^p\.yaml:\d+:\d+: \S/);
  });

  const senseless: readonly [string, string, RegExp][] = [
    [
      'a glob that is denied as a whole',
      'files: {read: ["secret/a/**", b], deny: ["secret/**"]}\n',
      /files\.read: secret\/a\/\*\* never matches/,
    ],
    [
      'a path that cannot be seen',
      `${files}egress: {profiles: {p: [{id: a, host: [a.example], tls: pass_through, path: ["/x"]}]}}\n`,
      /egress\.profiles\.p\.0\.path: cannot be seen/,
    ],
    [
      'rules that disagree on TLS',
      `${files}egress: {profiles: {p: [{id: a, host: [a.example]}, {id: b, host: [a.example], tls: pass_through}]}}\n`,
      /b and a speak of the same requests/,
    ],
  ];
  test.each(senseless)('is not left to what cannot hold: %s does not load', (_, text, message) => {
    expect(() => parseChain([{ text: head + text + tests, source: 'p.yaml' }])).toThrow(message);
  });

  test('a policy that proves nothing', () => {
    const found = lintPolicy(parseChain([{ text: head + files, source: 'p.yaml' }]));
    expect(found.map(({ kind }) => kind)).toEqual(['untested']);
  });

  test.each(shippedPolicies)('%s has nothing to say', async (name) => {
    expect(lintPolicy(await loadChain(name))).toEqual([]);
  });
});
