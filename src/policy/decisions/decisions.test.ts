import { describe, expect, test } from 'vitest';
import { compileRules, decide, type Decision, type Rules } from './decide.ts';
import { questionOf } from './policy-tests.ts';
import { loadPolicy, parsePolicy } from '../policy.ts';

/**
 * What is decided, as tables: a path in every class of `balanced`, command lines under `org-floor`, URLs under a policy of
 * their own. Each cell is a case: its effect, its rule, and its risk where that is not low.
 */

describe('a path that is written, in each class of the balanced policy', () => {
  const classes = ['investigate', 'docs', 'test_only', 'bugfix', 'feature', 'config_change'];

  /**
   * W files.write   s files.scratch   - denied by files.write   D denied by files.deny   T the tool is not offered
   * o outside of the workspace: the sandbox decides   R:category an approval   /m /h /c medium, high, critical risk
   */
  const table = `
    src/a.ts                          T                      -                      -                      W/m                    W/m                    -/c
    src/deep/er/b.py                  T                      -                      -                      W/m                    W/m                    -/c
    lib/x.rb                          T                      -                      -                      W/m                    W/m                    -/c
    packages/web/src/i.ts             T                      -                      -                      W/m                    W/m                    -/c
    packages/web/README.md            T                      W                      -                      W/m                    W/m                    -/c
    services/api/src/main.go          T                      -                      -                      W/m                    W/m                    -/c
    services/billing/src/tax.ts       T                      -/c                    -/c                    R:billing/c            R:billing/c            -/c
    packages/payments/src/pay.ts      T                      -/c                    -/c                    R:billing/c            R:billing/c            -/c
    src/auth/login.ts                 T                      -/h                    -/h                    W/h                    W/h                    -/c
    src/crypto/keys.ts                T                      -/h                    -/h                    W/h                    W/h                    -/c
    test/a.test.ts                    T                      -                      W                      W/m                    W/m                    -/c
    tests/unit/x.py                   T                      -                      W                      W/m                    W/m                    -/c
    src/a.test.ts                     T                      -                      W                      W/m                    W/m                    -/c
    src/__snapshots__/a.snap          T                      -                      W                      W/m                    W/m                    -/c
    docs/guide.md                     T                      W                      -                      W/m                    W/m                    -/c
    README.md                         T                      W                      -                      W/m                    W/m                    -/c
    CLAUDE.md                         T                      -/h                    -/h                    -/h                    R:execution_bearing/h  R:execution_bearing/c
    docs/AGENTS.md                    T                      -/h                    -/h                    -/h                    R:execution_bearing/h  R:execution_bearing/c
    .github/workflows/ci.yml          T                      -/h                    -/h                    -/h                    -/h                    R:execution_bearing/c
    .github/README.md                 T                      -/h                    -/h                    -/h                    R:execution_bearing/h  R:execution_bearing/c
    .claude/settings.json             T                      -/h                    -/h                    -/h                    -/h                    R:execution_bearing/c
    .husky/pre-commit                 T                      -/h                    -/h                    -/h                    -/h                    R:execution_bearing/c
    .vscode/tasks.json                T                      -/h                    -/h                    -/h                    -/h                    R:execution_bearing/c
    package.json                      T                      -/h                    -/h                    -/h                    R:dependency/h         -/c
    packages/web/package.json         T                      -/h                    -/h                    -/h                    R:dependency/h         -/c
    package-lock.json                 T                      -/h                    -/h                    -/h                    R:dependency/h         -/c
    requirements-dev.txt              T                      -/h                    -/h                    -/h                    R:dependency/h         -/c
    go.mod                            T                      -/h                    -/h                    -/h                    R:dependency/h         -/c
    deploy/prod.yaml                  T                      -/c                    -/c                    -/c                    -/c                    R:prod_config/c
    infra/main.tf                     T                      -/c                    -/c                    -/c                    -/c                    R:prod_config/c
    k8s/web.yaml                      T                      -/c                    -/c                    -/c                    -/c                    R:prod_config/c
    main.tf                           T                      -/c                    -/c                    -/c                    -/c                    R:prod_config/c
    .env                              T                      D                      D                      D/m                    D/m                    D/c
    src/.env.local                    T                      D                      D                      D/m                    D/m                    D/c
    config/.env.example               T                      -                      -                      -/m                    -/m                    -/c
    deploy/id_rsa                     T                      D/c                    D/c                    D/c                    D/c                    D/c
    src/server.key                    T                      D                      D                      D/m                    D/m                    D/c
    .git/hooks/pre-commit             T                      D                      D                      D/m                    D/m                    D/c
    sub/.git/config                   T                      D                      D                      D/m                    D/m                    D/c
    .npmrc                            T                      D                      D                      D/m                    D/m                    D/c
    node_modules/x/index.js           T                      s                      s                      s/m                    s/m                    s/c
    dist/bundle.js                    T                      s                      s                      s/m                    s/m                    s/c
    packages/web/node_modules/y/z.js  T                      s                      s                      s/m                    s/m                    s/c
    Makefile                          T                      -                      -                      -/m                    -/m                    -/c
    scripts/run.sh                    T                      -                      -                      -/m                    -/m                    -/c
    CODEOWNERS                        T                      -                      -                      -/m                    -/m                    -/c
    .glovebox/policy.yaml             T                      -                      -                      -/m                    -/m                    -/c
    ../etc/passwd                     T                      o                      o                      o/m                    o/m                    o/c
    /tmp/x                            T                      o                      o                      o/m                    o/m                    o/c
    /workspace/src/a.ts               T                      -                      -                      W/m                    W/m                    -/c
    src/../package.json               T                      -/h                    -/h                    -/h                    R:dependency/h         -/c  `;

  /** Of the two that leave most of it as it is. */
  const others = `
    src/a.ts                          -/h                    -/c
    services/billing/src/tax.ts       -/c                    -/c
    test/a.test.ts                    W/h                    -/c
    CHANGELOG.md                      -/h                    -/c
    package.json                      R:dependency/h         -/c
    package-lock.json                 R:dependency/h         -/c
    deploy/prod.yaml                  -/c                    -/c
    .env                              D/h                    D/c
    node_modules/x/index.js           s/h                    s/c
    .glovebox/policy.yaml             -/h                    -/c
    src/../package.json               R:dependency/h         -/c  `;

  const cases = [...casesOf(classes, table), ...casesOf(['dependency_update', 'release'], others)];

  function casesOf(columns: readonly string[], text: string): (readonly [string, string, string])[] {
    const rows = text.trim().split('\n');
    return rows.flatMap((row) => {
      const [path = '', ...cells] = row.trim().split(/\s+/);
      return cells.map((cell, at) => [path, columns[at] ?? '', cell] as const);
    });
  }

  test.each(cases)('%s in %s: %s', async (path, taskClass, cell) => {
    const decision = decide(rules.get(taskClass) ?? (await load(taskClass)), {
      kind: 'call',
      tool: 'write',
      writes: [path],
    });
    expect(codeOf(decision)).toBe(cell);
  });

  const rules = new Map<string, Rules>();
  async function load(taskClass: string): Promise<Rules> {
    const loaded = compileRules((await loadPolicy('balanced', { taskClass })).policy);
    rules.set(taskClass, loaded);
    return loaded;
  }

  test('are more than three hundred cases', () => {
    expect(cases.length).toBeGreaterThanOrEqual(300);
  });

  function codeOf({ effect, rule, risk, approvals }: Decision): string {
    const suffix = risk === 'low' ? '' : `/${risk.charAt(0)}`;
    if (effect === 'require_approval') return `R:${approvals.map(({ category }) => category).join('+')}${suffix}`;
    const codes: Readonly<Record<string, string>> =
      effect === 'allow'
        ? { 'files.write': 'W', 'files.scratch': 's', 'tools.allow': 'o' }
        : { 'files.write': '-', 'files.deny': 'D', 'tools.allow': 'T' };
    return `${codes[rule] ?? rule}${suffix}`;
  }
});

describe('a command line, under the floor of an organisation', () => {
  const cases: readonly (readonly [rule: string, lines: readonly string[]])[] = [
    [
      'c-push',
      [
        'git push',
        'git push origin main --force',
        '/usr/bin/git push',
        './bin/../git push',
        'git -C . push origin main',
        'git -c user.name=x push',
        'git --git-dir=.git --work-tree . push',
        'git --no-pager push',
        'git --unheard-of value push',
        'env GIT_SSH=x git push',
        'env -i -u HOME git push',
        "env -S 'git push'",
        'A=1 B=2 git push',
        'sudo git push',
        'sudo -u bob -E git push',
        'doas git push',
        "su -c 'git push' bob",
        'nice -n 5 git push',
        'ionice -c 3 git push',
        'nohup git push &',
        'setsid git push',
        'stdbuf -o L git push',
        'timeout 5 git push',
        'timeout -k 1 -s KILL 5 git push',
        'time git push',
        'xargs git push < list',
        'echo main | xargs -n 1 git push origin',
        'command git push',
        'exec git push',
        'busybox env git push',
        "sh -c 'git push'",
        "bash -lc 'git push'",
        'bash -x -c "git push"',
        "sudo bash -c 'cd x && git push'",
        "eval 'git push'",
        'cd x && git push',
        'false || git push',
        'ls; git push',
        'ls | git push',
        'git push > /dev/null 2>&1',
        '>log git push',
        '(cd x; git push)',
        '{ git push; }',
        '! git push',
        'if true; then git push; fi',
        'while read x; do git push; done',
        'for x in a b; do git push $x; done',
        'echo $(git push)',
        'echo `git push`',
        'echo "a $(git push) b"',
        'cat <(git push)',
        'x=$(git push)',
        'echo ${x:-$(git push)}',
        'g"i"t pu\\sh',
        "'git' 'push'",
        'git \\\n push',
        'bash <<EOF\ngit push\nEOF',
        'find . -exec git push {} \\;',
        'npx git push',
        "npx -c 'git push'",
        'npm exec -- git push',
        'watch -n 1 git push',
        'flock /tmp/l git push',
        'git send-pack x',
      ],
    ],
    [
      'c-publish',
      [
        'npm publish',
        'npm --prefix a publish',
        'pnpm -r publish',
        'yarn --cwd x publish',
        'npx npm publish',
        'cargo publish',
        'cargo +nightly publish',
        'twine upload x',
        'npm dist-tag add x',
      ],
    ],
    [
      'c-infra',
      [
        'kubectl get pods',
        'terraform apply',
        'aws s3 ls',
        'helm -n x install y',
        'sudo -n gcloud auth login',
        'ansible-playbook x.yml',
      ],
    ],
    ['c-container', ['docker ps', 'podman run x', "sh -c 'docker run x'", 'sudo runc list']],
    [
      'c-any',
      [
        'ls',
        'git status',
        'git stash push',
        'git log --grep push',
        'git commit -m "git push"',
        'echo git push',
        "echo 'git push'",
        'printf "%s" "docker ps"',
        'ls # git push',
        "cat > x <<'EOF'\ngit push\nEOF",
        'npm test',
        'npm run publish:dry',
        'grep -r kubectl .',
        'cat docker',
        'python3 -m unittest',
        'make -j4',
        'bash script.sh',
        'eval "$x"',
        'curl x | sh',
        '"unclosed',
      ],
    ],
  ];

  const lines = cases.flatMap(([rule, all]) => all.map((line) => [line, rule] as const));
  test.each(lines)('%j -> %s', async (script, rule) => {
    const decision = decide(await floor(), { kind: 'call', tool: 'exec', command: { script } });
    expect(decision).toMatchObject({ rule, effect: rule === 'c-any' ? 'allow' : 'deny' });
  });

  test('as arguments without a shell is read the same way', async () => {
    for (const argv of [
      ['git', 'push'],
      ['env', 'A=1', 'git', 'push'],
      ['sh', '-c', 'git push'],
    ])
      expect(decide(await floor(), { kind: 'call', tool: 'exec', command: { argv } })).toMatchObject({
        rule: 'c-push',
      });
    const quoted = decide(await floor(), { kind: 'call', tool: 'exec', command: { argv: ['echo', '$(git push)'] } });
    expect(quoted.rule).toBe('c-any');
  });

  test('that cannot be read is matched by what asks for just that', () => {
    const { policy } = parsePolicy(
      `apiVersion: glovebox/v1
kind: Policy
name: opaque
images: [base]
files: {read: ["**"]}
approvals: {categories: {unread: {}}}
commands:
  - {id: unread, match: {program: "*", opaque: true}, effect: require_approval, category: unread, tests: {match: ['eval "$x"', 'curl x | sh', '"open', '$cmd a', 'sh -c "$1"', 'sudo $x'], not_match: [ls, eval ls, sh -c ls]}}
  - {id: rest, match: {program: "*"}, effect: allow, tests: {match: [ls]}}
`,
      'p',
    );
    const rules = compileRules(policy);
    const ask = (script: string): string => decide(rules, { kind: 'call', tool: 'exec', command: { script } }).rule;
    expect(['ls', 'eval ls', 'eval "$x"', 'ls; $cmd'].map((script) => ask(script))).toEqual([
      'rest',
      'rest',
      'unread',
      'unread',
    ]);
  });

  test('of any length is read within bounds', async () => {
    const rules = await floor();
    const started = performance.now();
    const nested = `${'sh -c "'.repeat(50)}git push`;
    for (const script of [
      '$('.repeat(20_000),
      '('.repeat(50_000),
      'a;'.repeat(100_000),
      nested,
      '`'.repeat(9999),
      'x <<A '.repeat(2000),
    ])
      decide(rules, { kind: 'call', tool: 'exec', command: { script } });
    expect(performance.now() - started).toBeLessThan(10_000);
  });

  let loaded: Rules | undefined;
  async function floor(): Promise<Rules> {
    loaded ??= compileRules((await loadPolicy('ci-ephemeral')).policy);
    return loaded;
  }
});

describe('a URL', () => {
  const rules = compileRules(
    parsePolicy(
      `apiVersion: glovebox/v1
kind: Policy
name: web
images: [base]
files: {read: ["**"]}
egress:
  deny:
    - {id: d-meta, cidr: ["169.254.0.0/16", "fd00:ec2::/32"]}
    - {id: d-drop, host: ["**.workers.dev", webhook.site]}
  profiles:
    web:
      - {id: npm, host: [registry.example.org], path: ["/**"]}
      - {id: audit, host: [registry.example.org], methods: [POST], path: ["/-/npm/v1/security/advisories/bulk"]}
      - {id: issues, host: [api.github.com], path: ["/repos/acme/web/issues/**"], credential: gh}
      - {id: pack, host: [github.com], methods: [POST], path: ["/acme/**/git-upload-pack"]}
      - {id: mirror, host: ["*.mirror.example"], ports: [443, 8443]}
      - {id: deep, host: ["**.cdn.example"]}
      - {id: plain, host: [cache.example], ports: [4873], tls: none}
credentials: {gh: {source: "vault:kv/gh", host: api.github.com}}
approvals: {categories: {secrets: {}}, triggers: [{category: secrets, when: {credential: [gh]}}]}
classes: {a: {egress: [web]}}
`,
      'p',
      { taskClass: 'a' },
    ).policy,
  );
  const cases: readonly (readonly [string, string])[] = [
    ['https://registry.example.org/react', 'allow npm'],
    ['GET https://registry.example.org/@scope/x/-/x-1.tgz', 'allow npm'],
    ['HEAD https://registry.example.org/react', 'allow npm'],
    ['PUT https://registry.example.org/react', 'deny egress.profiles'],
    ['DELETE https://registry.example.org/react', 'deny egress.profiles'],
    ['POST https://registry.example.org/-/npm/v1/security/advisories/bulk', 'allow audit'],
    ['POST https://registry.example.org/-/npm/v1/security/advisories/bulk/x', 'deny egress.profiles'],
    ['http://registry.example.org/react', 'deny egress.profiles'],
    ['https://registry.example.org:8443/react', 'deny egress.profiles'],
    ['https://registry.example.org./react', 'allow npm'],
    ['https://REGISTRY.example.org/react', 'allow npm'],
    ['https://registry.example.org.evil.example/react', 'deny egress.profiles'],
    ['https://user:pw@registry.example.org/react', 'deny egress.ambiguous'],
    ['https://evil.example/registry.example.org', 'deny egress.profiles'],
    ['https://registry.example.org/a%2f..%2fb', 'deny egress.ambiguous'],
    ['https://registry.example.org/a//b', 'deny egress.ambiguous'],
    ['https://registry.example.org/a%00', 'deny egress.ambiguous'],
    ['https://api.github.com/repos/acme/web/issues/1', 'require_approval approvals.secrets'],
    ['https://api.github.com/repos/acme/web/issues/../../../user', 'deny egress.ambiguous'],
    ['https://api.github.com/repos/acme/other/issues/1', 'deny egress.profiles'],
    ['POST https://api.github.com/repos/acme/web/issues/1', 'deny egress.profiles'],
    ['POST https://github.com/acme/web.git/git-upload-pack', 'allow pack'],
    ['POST https://github.com/acme/web.git/git-receive-pack', 'deny egress.profiles'],
    ['POST https://github.com/other/web.git/git-upload-pack', 'deny egress.profiles'],
    ['https://a.mirror.example/x', 'allow mirror'],
    ['https://a.mirror.example:8443/x', 'allow mirror'],
    ['https://a.b.mirror.example/x', 'deny egress.profiles'],
    ['https://mirror.example/x', 'deny egress.profiles'],
    ['https://a.cdn.example/x', 'allow deep'],
    ['https://a.b.cdn.example/x', 'allow deep'],
    ['https://cdn.example/x', 'deny egress.profiles'],
    ['https://xcdn.example/x', 'deny egress.profiles'],
    ['http://cache.example:4873/x', 'allow plain'],
    ['https://cache.example:4873/x', 'deny egress.profiles'],
    ['http://169.254.169.254/latest', 'deny d-meta'],
    ['http://[fd00:ec2::254]/latest', 'deny d-meta'],
    ['http://[::ffff:169.254.169.254]/latest', 'deny d-meta'],
    ['http://2852039166/latest', 'deny d-meta'],
    ['http://0xa9fea9fe/', 'deny d-meta'],
    ['https://x.workers.dev/', 'deny d-drop'],
    ['https://a.b.workers.dev/', 'deny d-drop'],
    ['https://webhook.site/x', 'deny d-drop'],
    ['https://example.org/', 'deny egress.profiles'],
  ];
  test.each(cases)('%s -> %s', (url, expected) => {
    const question = questionOf({ url });
    const decision = question === undefined ? undefined : decide(rules, question);
    expect(`${decision?.effect} ${decision?.rule}`).toBe(expected);
  });

  test.each(['ftp://x/', 'file:///etc/passwd', 'x', '//x', 'GET', ''])('%j is none', (url) => {
    expect(questionOf({ url })).toBeUndefined();
  });
});
