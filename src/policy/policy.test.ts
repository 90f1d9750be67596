import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf } from '../digest.ts';
import { isRunnerError } from '../errors.ts';
import { ToolCall } from '../tools/tool-call.ts';
import { secretGlobs } from '../workspace/scope/scope.ts';
import { runPolicyTests } from './decisions/policy-tests.ts';
import { defaultPolicy, loadChain, loadPolicy, parsePolicy, shippedPolicies } from './policy.ts';
import { deniedVariables } from './language/env.ts';
import { toolNames } from './language/tools.ts';
import { policyJsonSchema, policyReferencePage } from './language/reference-page.ts';

const dayMs = 86_400_000;
const head = `apiVersion: glovebox/v1
kind: Policy
name: test
images: [base]
files:
  read: ["**"]
`;

function messageFor(text: string): string {
  try {
    parsePolicy(text, 'p.yaml');
  } catch (error) {
    if (isRunnerError(error, 'invalid_policy')) return error.message;
    throw error;
  }
  return 'no error';
}

describe('a policy', () => {
  test('needs little, and what it does not say is filled in', () => {
    const { policy, digest, canonical, source, text } = parsePolicy(head, 'p.yaml');
    expect(policy).toEqual({
      apiVersion: 'glovebox/v1',
      kind: 'Policy',
      name: 'test',
      description: '',
      layers: ['repository test'],
      taskClass: null,
      lane: null,
      risk: 'low',
      images: ['base'],
      runtime: 'runc',
      files: { read: ['**'], write: [], scratch: [], deny: [], includeIgnored: false, git: false },
      paths: [
        { layer: 'repository test', read: ['**'], write: [], writeAsk: [], proposeOnly: [], scratch: [], deny: [] },
      ],
      inputs: [],
      limits: {
        memoryBytes: 2 * 1024 ** 3,
        cpus: 2,
        pidsMax: 256,
        openFilesMax: 1024,
        workspaceBytes: 1024 ** 3,
        workspaceFilesMax: 200_000,
        tmpBytes: 256 * 1024 ** 2,
        wallClockMs: 1_800_000,
        commandTimeoutMs: 600_000,
        idleTimeoutMs: 0,
        outputPerCallBytes: 16 * 1024 ** 2,
        replyBytes: 30_000,
        outputPerRunBytes: 256 * 1024 ** 2,
      },
      budget: {
        maxActionsPerRun: 50,
        maxActionsByTag: {},
        maxDeniedActions: 8,
        maxConsecutiveDenials: 0,
        maxApprovalRequests: 5,
        maxParallelActions: 4,
        maxActionsPerMinute: 0,
        cpuSeconds: 0,
        diffFiles: 0,
        diffLines: 0,
        diffBinaryBytes: 0,
      },
      tools: { allow: [...toolNames] },
      env: { set: {} },
      commands: [],
      escalators: [],
      approvals: { categories: {}, triggers: [], everyExport: [] },
      egress: {
        profiles: [],
        rules: [],
        deny: [],
        upstreams: [],
        mode: 'enforce',
        dns: { maxNames: 64, maxUnlisted: 100, onExcess: 'deny' },
        maxConnections: 64,
        registries: {},
      },
      credentials: {},
      models: [],
      requireIntent: false,
      retention: { journalMs: 400 * dayMs, outputMs: 30 * dayMs, diffMs: 90 * dayMs },
    });
    expect({ digest, source, text }).toEqual({ digest: digestOf(canonical), source: 'p.yaml', text: head });
  });

  test('has one digest for one meaning, however it is written', () => {
    const same = `# comment\nkind: 'Policy'\napiVersion: "glovebox/v1"\nfiles: {read: ['**']}\nimages:\n- base\nname: test\nlimits: {memory: 2048MiB, wall_clock: 1800s}\n`;
    expect(parsePolicy(same, 'a').digest).toBe(parsePolicy(head, 'b').digest);
    expect(parsePolicy(`${head}runtime: runsc\n`, 'a').digest).not.toBe(parsePolicy(head, 'b').digest);
  });

  const sizes: readonly [string, string, number][] = [
    ['memory: 512MiB', 'memoryBytes', 512 * 1024 ** 2],
    ['memory: 1.5GiB', 'memoryBytes', 1.5 * 1024 ** 3],
    ['reply_bytes: 4 KiB', 'replyBytes', 4096],
    ['command_timeout: 90s', 'commandTimeoutMs', 90_000],
    ['command_timeout: 250ms', 'commandTimeoutMs', 250],
    ['wall_clock: 2h', 'wallClockMs', 7_200_000],
    ['idle_timeout: 3m', 'idleTimeoutMs', 180_000],
    ['idle_timeout: none', 'idleTimeoutMs', 0],
    ['cpus: 0.5', 'cpus', 0.5],
  ];
  test.each(sizes)('understands %s', (line, key, value) => {
    expect(parsePolicy(`${head}limits:\n  ${line}\n`, 'p').policy.limits).toMatchObject({ [key]: value });
  });
});

describe('what is wrong is told with its place, its key and what to write instead', () => {
  const cases: readonly [string, string, RegExp][] = [
    ['an unknown key', `${head}limit:\n  memory: 1GiB\n`, /^p\.yaml:7:1: limit: unknown key; did you mean limits\?$/],
    [
      'a misspelt limit',
      `${head}limits:\n  memmory: 1GiB\n`,
      /^p\.yaml:8:3: limits\.memmory: unknown key; did you mean memory\?$/,
    ],
    ['a key in camelCase', `${head}limits: {openFiles: 5}\n`, /7:10: limits\.openFiles: .*open_files\?/],
    ['a key like no other', `${head}zzzzzzzzz: 1\n`, /7:1: zzzzzzzzz: unknown key; the keys here are apiVersion, kind/],
    ['a key twice', `${head}name: other\n`, /^p\.yaml:7:1: the same key twice; keep one$/],
    [
      'a size without unit',
      `${head}limits:\n  memory: 512\n`,
      /^p\.yaml:8:11: limits\.memory: write a size with its unit, such as 512MiB/,
    ],
    ['a unit of another kind', `${head}limits:\n  memory: 10m\n`, /8:11: limits\.memory: "10m" is not understood/],
    ['megabytes of a thousand', `${head}limits:\n  memory: 512MB\n`, /"512MB" is not understood: write a size/],
    ['a negative size', `${head}limits:\n  memory: -1GiB\n`, /"-1GiB" is not understood/],
    ['a size out of range', `${head}limits:\n  memory: 1KiB\n`, /1KiB is out of range: from 32MiB/],
    ['a duration without unit', `${head}limits:\n  wall_clock: 30\n`, /8:15: limits\.wall_clock: write a duration/],
    [
      'a number that is text',
      `${head}budget:\n  max_actions_per_run: "50"\n`,
      /8:24: budget\.max_actions_per_run: expected number/,
    ],
    ['no calls at all', `${head}budget:\n  max_actions_per_run: 0\n`, /budget\.max_actions_per_run: Too small/],
    [
      'an unknown tool',
      `${head}tools:\n  allow: [exec, bash]\n`,
      /8:17: tools\.allow\.1: no tool "bash"; there are: exec,/,
    ],
    ['no tool', `${head}tools:\n  allow: []\n`, /no tool at all is allowed/],
    ['an unknown runtime', `${head}runtime: kata\n`, /7:10: runtime: .*"runc"/],
    ['another version', head.replace('v1', 'v2'), /^p\.yaml:1:13: apiVersion: must be glovebox\/v1$/],
    ['no files', head.slice(0, head.indexOf('files')), /files\.read: is missing/],
    ['no read list', `${head.slice(0, head.indexOf('  read'))}  write: []\n`, /files\.read: is missing/],
    [
      'a glob out of the workspace',
      `${head}  write: ["../x"]\n`,
      /7:11: files\.write\.0: the glob "\.\.\/x" has a segment '\.\.'/,
    ],
    ['an absolute glob', `${head}  write: ["/etc/**"]\n`, /starts with a slash/],
    ['a list that only excludes', `${head}  write: ["!a"]\n`, /matches nothing/],
    ['the same glob twice', `${head}  write: [a, b, a]\n`, /7:17: files\.write\.2: the same glob twice/],
    [
      'a rule that can never match',
      `${head}  write: [a]\n  deny: [a]\n`,
      /7:11: files\.write\.0: "a" is in deny too, so it can never match/,
    ],
    [
      'a secret in the environment',
      `${head}env:\n  set: {GH_TOKEN: abc}\n`,
      /8:19: env\.set\.GH_TOKEN: GH_TOKEN may not be set \(\*TOKEN\*\)/,
    ],
    ['a preloaded library', `${head}env:\n  set: {ld_preload: abc}\n`, /may not be set \(LD_\*\)/],
    ['a variable that is none', `${head}env:\n  set: {"A B": abc}\n`, /no name for a variable/],
    [
      'a value that YAML takes for a number',
      `${head}env:\n  set: {PORT: 80}\n`,
      /env\.set\.PORT: write the value as text, in quotes/,
    ],
    [
      'an image that is none',
      head.replace('base', '"-v /:/host"'),
      /4:10: images\.0: write the name or the digest of an image/,
    ],
    ['an empty file', '', /^p\.yaml: is empty/],
    ['only comments', '# nothing\n', /^p\.yaml: is empty/],
    ['a list', '- a\n', /is not a list of keys and values/],
    ['two documents', `${head}---\n${head}`, /7:1: a second document/],
    ['an anchor', head.replace('test', '&a test'), /3:10: anchors/],
    ['an alias', `${head}description: *a\n`, /7:14: /],
    ['a merge', `${head}<<: {runtime: runsc}\n`, /7:1: <<: unknown key/],
    ['a tag', `${head}description: !!binary aGk=\n`, /7:23: tags/],
    ['an unknown tag', `${head}description: !python/object x\n`, /7:14: /],
    ['YAML 1.1', `%YAML 1.1\n---\n${head}`, /remove the %YAML line/],
    ['a key that is a list', `${head}? [a, b]\n: 1\n`, /^p\.yaml:7:/],
    [
      'an input by a relative path',
      `${head}inputs: [{source: srv, target: /inputs/x}]\n`,
      /inputs\.0\.source: write an/,
    ],
    [
      'an input by a path with ..',
      `${head}inputs: [{source: /srv/../etc, target: /inputs/x}]\n`,
      /7:19: inputs\.0\.source: write an absolute path/,
    ],
    [
      'an input anywhere but below /inputs',
      `${head}inputs: [{source: /srv, target: /workspace}]\n`,
      /7:33: inputs\.0\.target: write \/inputs\/ and a name/,
    ],
    [
      'two inputs at one place',
      `${head}inputs: [{source: /a, target: /inputs/x}, {source: /b, target: /inputs/x}]\n`,
      /inputs\.1\.target: the same target twice/,
    ],
    [
      'an input that is writable',
      `${head}inputs: [{source: /a, target: /inputs/x, write: true}]\n`,
      /write: unknown key/,
    ],
    [
      'an environment on an image that is not one of its own',
      `${head}environment: {image: other, setup: [[a]]}\n`,
      /environment\.image: "other" is not one of images/,
    ],
    [
      'an environment without a command',
      `${head}environment: {image: base, setup: []}\n`,
      /environment\.setup: say at least one command/,
    ],
    [
      'an environment that asks for a network',
      `${head}environment: {image: base, setup: [[a]], network: true}\n`,
      /network/,
    ],
    ['what is not YAML', `${head}files: [`, /^p\.yaml:7:\d+: /],
    ['a prototype', `${head}__proto__: {runtime: runsc}\n`, /__proto__: unknown key|__proto__/],
    ['a file too long', `${head}#${'x'.repeat(70_000)}`, /^p\.yaml: is longer than 65536 bytes$/],
  ];
  test.each(cases)('%s', (_, text, message) => {
    expect(messageFor(text)).toMatch(message);
  });

  test('several at once, each on its line', () => {
    const lines = messageFor(`${head}limits: {memory: 5, cpu: 2}\nbudjet: {}\n`).split('\n');
    expect(lines).toHaveLength(3);
    for (const line of lines) expect(line).toMatch(/^p\.yaml:\d+:\d+: /);
  });

  test('a bomb costs nothing', () => {
    const bomb = ['a: &a [x,x,x,x,x,x,x,x,x]'];
    for (const [name, before] of ['ba', 'cb', 'dc', 'ed', 'fe', 'gf', 'hg', 'ih']) {
      bomb.push(`${name}: &${name} [${Array.from({ length: 9 }, () => `*${before}`).join(',')}]`);
    }
    const startMs = performance.now();
    expect(messageFor(bomb.join('\n'))).toMatch(/anchors|aliases/);
    expect(messageFor('['.repeat(60_000))).toMatch(/^p\.yaml/);
    expect(messageFor(`${head}x: ${'{a: '.repeat(2000)}1${'}'.repeat(2000)}\n`)).toMatch(/^p\.yaml/);
    expect(performance.now() - startMs).toBeLessThan(5000);
  });

  test('whatever the bytes are: a policy, or invalid_policy with a place', () => {
    const anything = fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.mixedCase(fc.constant(head)));
    fc.assert(
      fc.property(anything, fc.nat(head.length), (noise, at) => {
        const message = messageFor(head.slice(0, at) + noise + head.slice(at));
        expect(message === 'no error' || message.startsWith('p.yaml')).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});

describe('policy files', () => {
  let root: string;
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'glovebox-policy-'));
  });
  afterAll(async () => {
    await rm(root, { recursive: true, force: true });
  });

  test('are read by path, or by the name of a shipped one', async () => {
    await writeFile(join(root, 'mine.yaml'), head);
    expect((await loadPolicy(join(root, 'mine.yaml'))).policy.name).toBe('test');
    expect((await loadPolicy('locked-down')).policy.name).toBe('locked-down');
    expect((await defaultPolicy()).policy.name).toBe('default');
  });

  test('that cannot be read, or are too long, are no policy', async () => {
    await expect(loadPolicy(join(root, 'none.yaml'))).rejects.toMatchObject({ code: 'invalid_policy' });
    await expect(loadPolicy('nosuch')).rejects.toThrow(/shipped ones are default, docs-only, locked-down, org-floor/);
    await writeFile(join(root, 'long.yaml'), `${head}#${'x'.repeat(70_000)}`);
    await expect(loadPolicy(join(root, 'long.yaml'))).rejects.toThrow(/is longer than/);
    await expect(loadPolicy(root)).rejects.toMatchObject({ code: 'invalid_policy' });
  });

  test('that are shipped all load, under their own names, and keep secrets and repositories out', async () => {
    const names = (await readdir(new URL('../../sandbox-policies/', import.meta.url))).filter((name) =>
      name.endsWith('.yaml'),
    );
    expect(names.toSorted()).toEqual(shippedPolicies.map((name) => `${name}.yaml`).toSorted());
    for (const name of shippedPolicies) {
      const chain = await loadChain(name);
      const { file } = chain.at(-1) ?? {};
      expect(file?.name).toBe(name);
      expect(file?.description).not.toBe('');
      const denied = new Set(chain.flatMap((one) => one.file.files?.deny ?? []));
      expect(denied).toEqual(new Set(['**/.git/**', ...secretGlobs]));
    }
  });

  test.each(shippedPolicies)('that are shipped prove themselves: the tests of %s pass', async (name) => {
    const chain = await loadChain(name);
    const tests = runPolicyTests(chain);
    expect(tests.filter(({ differences }) => differences.length > 0)).toEqual([]);
    expect(tests.length).toBeGreaterThanOrEqual(5);
  });

  test('that is the default one says every limit in words: they are the defaults', async () => {
    const { policy } = await defaultPolicy();
    const filledIn = parsePolicy(head, 'p').policy;
    expect(policy.limits).toEqual(filledIn.limits);
    expect(policy.budget).toEqual(filledIn.budget);
  });
});

describe('the lists of a policy', () => {
  test('of tools are those that exist', () => {
    const real = ToolCall.options.map((option) => option.shape.tool.value);
    expect(new Set<string>(toolNames)).toEqual(new Set<string>(real));
  });
});

describe('the pages', () => {
  const page = (name: string): Promise<string> => readFile(new URL(`../../docs/${name}`, import.meta.url), 'utf8');

  test('on every key, and the JSON Schema for editors, are those of the schema (make docs)', async () => {
    expect(await page('policy-reference.md')).toBe(policyReferencePage());
    expect(JSON.parse(await page('policy.schema.json'))).toEqual(JSON.parse(JSON.stringify(policyJsonSchema())));
  });

  test('explain every key: none is without a description', () => {
    const rows = policyReferencePage()
      .split('\n')
      .filter((line) => line.startsWith('| `'));
    expect(rows.length).toBeGreaterThan(100);
    for (const row of rows) expect(row).toMatch(/^\| `[\w.[\]]+` \| .* ?\| \S.* \|$/);
  });

  test('name the variables that may not be set, and every tool', async () => {
    const text = await page('policy.md');
    for (const name of [...deniedVariables, ...toolNames]) expect(text).toContain(`\`${name}\``);
  });
});
