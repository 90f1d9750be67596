import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { isRunnerError } from '../../errors.ts';
import { PathRules } from '../decisions/path-rules.ts';
import { parseChain, policyFor } from '../policy.ts';
import { loadPolicyFor } from './repository-layer.ts';
import type { TaskRequest } from './restriction.ts';

const head = (name: string): string => `apiVersion: glovebox/v1\nkind: Policy\nname: ${name}\n`;
const org = (rest: string): string => head('floor') + rest;
const repo = (rest: string): string => head('repo') + rest;
const minimal = 'images: [base]\nfiles: {read: ["**"], write: ["src/**"]}\n';

function load(texts: readonly string[], task: TaskRequest = {}) {
  const chain = parseChain(
    texts.map((text, at) => ({ text, source: at === texts.length - 1 ? 'repo.yaml' : 'org.yaml' })),
  );
  return policyFor(chain, task);
}

function messageOf(texts: readonly string[], task: TaskRequest = {}): string {
  try {
    load(texts, task);
  } catch (error) {
    if (isRunnerError(error)) return error.message;
    throw error;
  }
  return 'no error';
}

describe('a layer that widens does not load, and the error names the line in both', () => {
  const cases: readonly [name: string, above: string, below: string, message: RegExp][] = [
    [
      'a larger number',
      'limits:\n  memory: 1GiB\n',
      `${minimal}limits:\n  memory: 2GiB\n`,
      /^repo\.yaml:7:11: limits\.memory: "2GiB" is more than what org\.yaml:5:11 \(organisation floor\) allows; a lower layer can only narrow$/,
    ],
    [
      'more calls',
      'budget: {max_actions_per_run: 10}\n',
      `${minimal}budget: {max_actions_per_run: 11}\n`,
      /max_actions_per_run: 11 is more than what org\.yaml:4:31/,
    ],
    [
      'no limit where there was one',
      'limits: {idle_timeout: 1m}\n',
      `${minimal}limits: {idle_timeout: none}\n`,
      /idle_timeout: "none" is more than/,
    ],
    [
      'more of a tag',
      'budget: {max_actions_by_tag: {deploy: 1}}\n',
      `${minimal}budget: {max_actions_by_tag: {deploy: 2}}\n`,
      /max_actions_by_tag\.deploy: 2 is more/,
    ],
    [
      'another tool',
      'tools: {allow: [read]}\n',
      `${minimal}tools: {allow: [read, exec]}\n`,
      /repo\.yaml:6:23: tools\.allow\.1: "exec" is not among those of org\.yaml:4:16 \(read\)/,
    ],
    [
      'another image',
      'images: [base]\n',
      'images: [node]\nfiles: {read: ["**"]}\n',
      /images\.0: "node" is not among those of org\.yaml:4:9/,
    ],
    [
      'a weaker runtime',
      'runtime: runsc\n',
      `${minimal}runtime: runc\n`,
      /runtime: runc is weaker than runsc, which org\.yaml:4:10 asks for/,
    ],
    [
      'ignored files',
      'files: {include_ignored: false}\n',
      'images: [base]\nfiles: {read: ["**"], include_ignored: true}\n',
      /include_ignored: true is more/,
    ],
    [
      'more to read',
      'files: {read: ["src/**"]}\n',
      'images: [base]\nfiles: {read: ["**"]}\n',
      /repo\.yaml:5:16: files\.read\.0: "\*\*" is not within read of organisation floor \(org\.yaml:4:15\)/,
    ],
    [
      'more to write',
      'files: {read: ["**"], write: ["docs/**"]}\n',
      minimal,
      /files\.write\.0: "src\/\*\*" is not within write/,
    ],
    [
      'what was to be asked for',
      'files: {read: ["**"], write: ["src/**"], write_ask: ["package.json"]}\n',
      'images: [base]\nfiles: {read: ["**"], write: ["package.json"]}\n',
      /files\.write\.0: "package\.json" is not within write of/,
    ],
    [
      'what was only to be proposed',
      'files: {read: ["**"], propose_only: ["infra/**"]}\n',
      'images: [base]\nfiles: {read: ["**"], write_ask: ["infra/**"]}\n',
      /files\.write_ask\.0: "infra\/\*\*" is not within write and write_ask/,
    ],
    [
      'scratch where nothing was writable',
      'files: {read: ["**"], write: ["src/**"]}\n',
      `images: [base]\nfiles: {read: ["**"], scratch: ["dist/**"]}\n`,
      /files\.scratch\.0/,
    ],
    [
      'a variable with another value',
      'env: {set: {CI: "1"}}\n',
      `${minimal}env: {set: {CI: "0"}}\n`,
      /env\.set\.CI: org\.yaml:4:17 sets it to another value/,
    ],
    [
      'a smaller quorum',
      'approvals: {categories: {deploy: {quorum: 2}}}\n',
      `${minimal}approvals: {categories: {deploy: {quorum: 1}}}\n`,
      /quorum: 1 is fewer than the 2/,
    ],
    [
      'an approval that is never granted',
      'approvals: {categories: {deploy: {effect: deny}}}\n',
      `${minimal}approvals: {categories: {deploy: {effect: ask}}}\n`,
      /effect: org\.yaml:4:34 asks for deny/,
    ],
    [
      'a profile of its own',
      'egress: {profiles: {cache: [{id: c, host: [cache.example]}]}}\n',
      `${minimal}egress: {profiles: {web: [{id: w, host: [example.org]}]}}\n`,
      /profiles\.web: org\.yaml:4:20 says which profiles there are/,
    ],
    [
      'an input',
      'inputs: []\n',
      `${minimal}inputs: [{source: /srv/x, target: /inputs/x}]\n`,
      /inputs\.0: it is not among those of org\.yaml:4:9/,
    ],
    [
      'a command',
      'commands: [{id: no-push, match: {program: git, subcommand: push}, effect: deny, tests: {match: [git push]}}, {id: rest, match: {program: "*"}, effect: allow, tests: {match: [ls]}}]\n',
      `${minimal}commands: [{id: push, match: {program: git}, effect: allow, tests: {match: [git push]}}]\n`,
      /repo\.yaml:6:12: commands\.0: it allows "git push", which org\.yaml:4:12 denies/,
    ],
    [
      'a class',
      'limits: {memory: 1GiB}\n',
      `${minimal}classes: {big: {limits: {memory: 2GiB}}}\n`,
      /repo\.yaml:6:34: limits\.memory: "2GiB" is more than what org\.yaml:4:18/,
    ],
    [
      'a class against its own file',
      '',
      `${minimal}classes: {wide: {files: {write: ["**"]}}}\n`,
      /files\.write\.0: "\*\*" is not within write of repository repo/,
    ],
    [
      'a risk level',
      '',
      `${minimal}limits: {memory: 1GiB}\nrisk: {levels: {high: {limits: {memory: 2GiB}}}}\n`,
      /limits\.memory: "2GiB" is more than/,
    ],
  ];
  test.each(cases)('%s', (_, above, below, message) => {
    expect(messageOf([org(above), repo(below)])).toMatch(message);
  });

  const requests: readonly [string, NonNullable<TaskRequest['intent']>, RegExp][] = [
    [
      'a path',
      { files: { write: ['**'] } },
      /the intent: files\.write\.0: "\*\*" is not within write of repository repo/,
    ],
    ['a tool', { tools: { allow: ['exec'] } }, /the intent: tools\.allow\.0: "exec" is not among/],
    ['a limit', { limits: { memory: '4GiB' } }, /the intent: limits\.memory: "4GiB" is more than the default/],
    [
      'calls',
      { budget: { max_actions_per_run: 51 } },
      /the intent: budget\.max_actions_per_run: 51 is more than the default/,
    ],
    ['a profile', { egress: ['web'] }, /the intent: egress\.0: "web" is not among/],
    ['a typo', JSON.parse('{"limit": {}}'), /the intent: limit: unknown key; did you mean limits\?/],
  ];
  test.each(requests)('a request for more: %s', (_, intent, message) => {
    expect(messageOf([repo(`${minimal}tools: {allow: [read, write]}\n`)], { intent })).toMatch(message);
  });
});

describe('what a layer does not say, it does not bound', () => {
  test('and what no layer says is the default, or nothing', () => {
    const { policy } = load([org('files: {deny: ["**/.env"]}\n'), repo(minimal)]);
    expect(policy.files).toMatchObject({ read: ['**'], write: ['src/**'], deny: ['**/.env'] });
    expect(policy.layers).toEqual(['organisation floor', 'repository repo']);
    expect(policy.limits.memoryBytes).toBe(2 * 1024 ** 3);
  });

  test('but a file without what a run needs is only there to be extended', () => {
    expect(messageOf([org('limits: {memory: 1GiB}\n')])).toMatch(/images: is missing$/);
    expect(messageOf([org('images: [base]\n')])).toMatch(/files\.read: is missing$/);
  });

  test('a class that says write says all of what may be written', () => {
    const policy = repo(
      `images: [base]\nfiles: {read: ["**"], write: ["src/**"], write_ask: ["package.json"], scratch: ["dist/**"]}\nclasses: {look: {files: {write: []}}, work: {}}\n`,
    );
    const look = new PathRules(load([policy], { taskClass: 'look' }).policy.paths);
    expect(['src/a', 'package.json', 'dist/a'].map((path) => look.classOf(path))).toEqual(['read', 'read', 'scratch']);
    const work = new PathRules(load([policy], { taskClass: 'work' }).policy.paths);
    expect(['src/a', 'package.json', 'dist/a'].map((path) => work.classOf(path))).toEqual([
      'write',
      'write_ask',
      'scratch',
    ]);
  });
});

describe('classes, risk and lanes', () => {
  const text = repo(`${minimal}path_sets: {docs: ["docs/**", "!docs/secret/**"]}
egress: {profiles: {cache: [{id: c, host: [cache.example]}], web: [{id: w, host: [example.org]}]}}
approvals: {categories: {diff_review: {}, security_review: {}}}
lanes: {explore: {egress: [cache, web], limits: {wall_clock: 20m}}, commit: {egress: [cache], require_intent: true, models: ["strong-*"]}}
risk:
  levels:
    low: {egress: [cache, web]}
    medium: {egress: [cache, web], approvals: [diff_review], budget: {max_actions_per_run: 40}}
    high: {egress: [cache], approvals: [security_review], runtime: runsc, limits: {wall_clock: 10m}}
  escalators:
    - {id: r-fork, when: {request_source: [fork_pull_request]}, to: high}
    - {id: r-tag, when: {risk_tag: [billing]}, to: critical}
classes:
  look: {lane: explore, files: {write: []}, egress: [web]}
  fix: {lane: explore, risk: medium, egress: [web, cache]}
  ship: {lane: commit, risk: high, egress: [web, cache]}
`);

  test('a run of a policy with classes names one', () => {
    expect(messageOf([text])).toMatch(/has task classes; name one of look, fix, ship/);
    expect(messageOf([text], { taskClass: 'fixx' })).toMatch(/no task class "fixx"; there are: look, fix, ship/);
  });

  test('egress is what class, lane and risk all name', () => {
    expect(load([text], { taskClass: 'look' }).policy.egress.profiles).toEqual(['web']);
    expect(load([text], { taskClass: 'ship' }).policy.egress.profiles).toEqual(['cache']);
    expect(load([text], { taskClass: 'fix', intent: { egress: ['cache'] } }).policy.egress.profiles).toEqual(['cache']);
  });

  test('risk is the highest of class and escalators, and what a level says holds at every higher one', () => {
    const fix = load([text], { taskClass: 'fix' }).policy;
    expect(fix).toMatchObject({
      risk: 'medium',
      runtime: 'runc',
      budget: { maxActionsPerRun: 40 },
      limits: { wallClockMs: 1_200_000 },
    });
    expect(fix.approvals.everyExport).toEqual(['diff_review']);
    const fork = load([text], { taskClass: 'look', intent: { source: 'fork_pull_request' } }).policy;
    expect(fork).toMatchObject({
      risk: 'high',
      runtime: 'runsc',
      budget: { maxActionsPerRun: 40 },
      limits: { wallClockMs: 600_000 },
    });
    expect(fork.approvals.everyExport).toEqual(['diff_review', 'security_review']);
    expect(load([text], { taskClass: 'fix', intent: { risk_tags: ['billing'] } }).policy.risk).toBe('critical');
    expect(load([text], { taskClass: 'ship', risk: 'low' }).policy.risk).toBe('high');
  });

  const unknown: readonly [string, string, RegExp][] = [
    [
      'a path set',
      'files: {read: [$sorces]}\npath_sets: {sources: ["src/**"]}\n',
      /files\.read\.0: no path set \$sorces; did you mean sources\?/,
    ],
    [
      'a lane',
      `${minimal}classes: {a: {lane: comit}}\nlanes: {commit: {}}\n`,
      /classes\.a\.lane: no lane "comit"; did you mean commit\?/,
    ],
    ['a profile', `${minimal}classes: {a: {egress: [web]}}\n`, /classes\.a\.egress\.0: no egress profile "web"/],
    [
      'a category',
      `${minimal}approvals: {triggers: [{category: dep, when: {write_path: ["a"]}}]}\n`,
      /triggers\.0\.category: no category of approvals "dep"/,
    ],
    [
      'a credential',
      `${minimal}egress: {profiles: {p: [{id: a, host: [a.example], credential: gh}]}}\n`,
      /credential: no credential "gh"/,
    ],
    [
      'a lane to hand over to',
      `${minimal}lanes: {a: {hand_over: {to: b, actions_used: 0.5}}}\n`,
      /hand_over\.to: no lane "b"/,
    ],
  ];
  test.each(unknown)('%s that nothing has does not load', (_, rest, message) => {
    expect(messageOf([repo(rest)])).toMatch(message);
  });

  test('an example that a rule does not match does not load, nor one that it must not', () => {
    const rule = (tests: string): string =>
      repo(
        `${minimal}commands: [{id: push, match: {program: git, subcommand: push}, effect: deny, tests: ${tests}}]\n`,
      );
    expect(messageOf([rule('{match: [git pull]}')])).toMatch(
      /commands\.0\.tests\.match\.0: "git pull" is not matched by the rule push/,
    );
    expect(messageOf([rule('{match: [git push], not_match: [sudo git push]}')])).toMatch(
      /not_match\.0: "sudo git push" is matched/,
    );
  });

  test('a policy whose own test fails does not load', () => {
    const tests = 'tests: [{name: docs can be written, given: {write: docs/a.md}, expect: {effect: allow}}]\n';
    expect(messageOf([repo(minimal + tests)])).toBe(
      'repo.yaml:6:9: the test "docs can be written" fails: effect is deny, not allow',
    );
  });
});

describe('a repository says more in .glovebox/policy.yaml', () => {
  test('and what holds is what was committed, not what stands in the work tree', async () => {
    const root = await mkdtemp(join(tmpdir(), 'glovebox-repository-'));
    try {
      const git = (...argv: string[]) =>
        execa('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.org', ...argv], { cwd: root });
      const write = (text: string) => writeFile(join(root, '.glovebox/policy.yaml'), text);
      await git('init', '-q');
      expect((await loadPolicyFor('default', root)).policy.layers).toEqual(['repository default']);
      await mkdir(join(root, '.glovebox'));
      await write(repo('budget: {max_actions_per_run: 7}\n'));
      expect((await loadPolicyFor('default', root)).policy.budget.maxActionsPerRun).toBe(50);
      await git('add', '-A');
      await git('commit', '-qm', 'policy');
      await write(repo('budget: {max_actions_per_run: 9}\n'));
      const { policy } = await loadPolicyFor('default', root);
      expect(policy.budget.maxActionsPerRun).toBe(7);
      expect(policy.layers).toEqual(['organisation default', 'repository repo']);

      await write(repo('budget: {max_actions_per_run: 51}\n'));
      await git('commit', '-qam', 'more');
      await expect(loadPolicyFor('default', root)).rejects.toThrow(
        /^HEAD:\.glovebox\/policy\.yaml:4:31: .* 51 is more than/,
      );
      await write(repo('extends: default\n'));
      await git('commit', '-qam', 'above');
      await expect(loadPolicyFor('default', root)).rejects.toThrow(/extends: what is above/);
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  });
});
