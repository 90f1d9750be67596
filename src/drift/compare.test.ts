import { describe, expect, test } from 'vitest';
import type { DriftKind } from '../policy/language/drift.ts';
import { compareFingerprints } from './compare.ts';
import { inLikelihood, type DriftFinding } from './findings.ts';
import { fingerprintOf, sectionFrom, sectionOf, type SectionName, type Sections } from './fingerprint.ts';

const clockSkewMs = 2000;
const plain: Readonly<Partial<Record<SectionName, Readonly<Record<string, string | number>>>>> = {
  image: { id: 'sha256:a', reference: 'node' },
  packages: { libc6: '2.36-9', jq: '1.6' },
  system_files: { '/etc/hosts': 'sha256:1 644 0:0', '/opt/x': 'sha256:2 644 0:0' },
  tools: { node: '20.11.1 /usr/bin/node', python3: '3.11.2 /usr/bin/python3' },
  users: { agent: '10001:10001' },
  env: { TZ: 'UTC', PATH: '/usr/bin', LANG: 'C.UTF-8' },
  time_zone: { name: 'UTC' },
  clock: { skew_ms: 3 },
  kernel: { release: '5.10' },
  runtime: { name: 'runc' },
  limits: { 'asked.memory_bytes': 2147483648, 'engine.memory_bytes': 2147483648, 'asked.cpus': 2 },
  cpu: { model: 'X', cores: 2 },
  egress: { npm: 'sha256:3' },
  policy: { digest: 'sha256:p', name: 'default' },
  base: { digest: 'sha256:b', commit: 'c1' },
  lockfiles: { 'package-lock.json': 'in_step' },
  mounts: { '/tmp': 'tmpfs rw size=32m' },
  network: { 'engine.networks': 'none' },
  processes: {},
  pressure: { oom_kills: 0, cpu_periods: 100, cpu_throttled_periods: 4 },
};

type Change = Readonly<Partial<Record<SectionName, Readonly<Record<string, string | number | undefined>> | undefined>>>;

function taken(change: Change = {}) {
  const names = [...new Set([...Object.keys(plain), ...Object.keys(change)])] as SectionName[];
  const sections = names.flatMap((name) =>
    name in change && change[name] === undefined
      ? []
      : [[name, sectionFrom({ ...plain[name], ...change[name] })] as const],
  );
  return fingerprintOf('sandbox', new Date(0), Object.fromEntries(sections) as Sections);
}

const compared = (change: Change, from: Change = {}) =>
  compareFingerprints(taken(from), taken(change), { clockSkewMs });
const kindsOf = (change: Change, from: Change = {}) => compared(change, from).findings.map(({ kind }) => kind);

test('an environment differs from itself in nothing', () => {
  expect(compared({})).toEqual({ findings: [], more: {}, unseen: [] });
});

test.each<readonly [string, Change, readonly DriftKind[]]>([
  ['another image', { image: { id: 'sha256:z' } }, ['image']],
  ['another environment of it', { image: { environment: 'sha256:e' } }, ['image']],
  ['another name of the same image', { image: { reference: 'node:20' } }, []],
  ['another version of a package', { packages: { jq: '1.7' } }, ['packages']],
  ['a package that is gone', { packages: { jq: undefined } }, ['packages']],
  ['another version of a tool', { tools: { node: '18.19.0 /usr/bin/node' } }, ['tool_version']],
  ['a file of the system', { system_files: { '/etc/hosts': 'sha256:9 644 0:0' } }, ['system_file']],
  ['a user more', { users: { root2: '0:0' } }, ['system_file']],
  ['a time zone', { env: { TZ: 'Asia/Tokyo' }, time_zone: { name: 'Asia/Tokyo' } }, ['env', 'env']],
  ['a locale', { env: { LANG: 'de_DE.UTF-8' } }, ['env']],
  ['a clock that is off', { clock: { skew_ms: -3_600_000 } }, ['clock']],
  ['a clock that is off by less than is allowed', { clock: { skew_ms: 1900 } }, []],
  ['another kernel', { kernel: { release: '6.1' } }, ['engine']],
  ['another runtime', { runtime: { name: 'runsc' } }, ['engine']],
  [
    'less memory',
    { limits: { 'asked.memory_bytes': 67108864, 'engine.memory_bytes': 67108864 } },
    ['resource_pressure'],
  ],
  ['memory that somebody else has lowered', { limits: { 'engine.memory_bytes': 67108864 } }, ['resource_pressure']],
  ['fewer processors in the machine', { cpu: { cores: 1 } }, ['resource_pressure']],
  ['another processor', { cpu: { model: 'Y' } }, ['engine']],
  ['a rule of egress that is gone', { egress: { npm: undefined } }, ['egress']],
  ['a network', { network: { 'engine.networks': 'bridge' } }, ['egress']],
  ['another policy', { policy: { digest: 'sha256:q' } }, ['policy']],
  ['other files to begin with', { base: { digest: 'sha256:c', commit: 'c2' } }, ['base_moved']],
  ['the same files at another commit', { base: { commit: 'c2' } }, []],
  [
    'a lock file out of step',
    { lockfiles: { 'package-lock.json': 'lodash: 4.17.21 locked, 4.17.20 installed' } },
    ['lockfile'],
  ],
  ['a mount that is read-only', { mounts: { '/tmp': 'tmpfs ro size=32m' } }, ['mount']],
  ['a mount with less room', { mounts: { '/tmp': 'tmpfs rw size=8m' } }, ['resource_pressure']],
  ['a mount', { mounts: { '/data': 'bind rw' } }, ['mount']],
  ['a process that is left', { processes: { 'call c1': 'ended, 2 processes' } }, ['process_left']],
  ['memory that ran out', { pressure: { oom_kills: 2 } }, ['resource_pressure']],
  ['a processor that was held back', { pressure: { cpu_throttled_periods: 80 } }, ['resource_pressure']],
  ['a processor that was held back a little', { pressure: { cpu_throttled_periods: 20 } }, []],
])('%s is told as what it is', (_, change, kinds) => {
  expect(kindsOf(change)).toEqual(kinds);
});

test('the same differences are found the other way round', () => {
  const change: Change = { tools: { node: undefined }, env: { CI: '1' }, mounts: { '/tmp': 'tmpfs ro size=32m' } };
  const there = compared(change).findings.map(({ kind, key }) => `${kind} ${key}`);
  const back = compared({}, change).findings.map(({ kind, key }) => `${kind} ${key}`);
  expect(new Set(back)).toEqual(new Set(there));
});

test('a section that one of them has not looked at is no difference, and is said', () => {
  expect(compared({ packages: undefined })).toEqual({ findings: [], more: {}, unseen: ['packages'] });
});

test('of many differences of a kind the first are told and the others counted', () => {
  const many = Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`p${n}`, '2']));
  const { findings, more } = compared({ packages: many });
  expect([findings.length, more]).toEqual([8, { packages: 22 }]);
});

test('what differs beyond what is kept is told all the same, and what is not kept is never called gone', () => {
  const [a, b] = ['1', '2'].map((last) => {
    const all = new Map(Array.from({ length: 9 }, (_, n) => [`p${n}`, n === 8 ? last : '1']));
    return fingerprintOf('sandbox', new Date(0), { packages: sectionOf(all, 3) });
  });
  const wide = fingerprintOf('sandbox', new Date(0), {
    packages: sectionOf(
      new Map([
        ['p0', '1'],
        ['p7', '1'],
      ]),
    ),
  });
  if (a === undefined || b === undefined) throw new Error('two of them');
  const [found] = compareFingerprints(a, b, { clockSkewMs }).findings;
  expect([found?.kind, found?.key]).toEqual(['packages', '(more)']);
  const kept = compareFingerprints(wide, a, { clockSkewMs }).findings.map(({ key }) => key);
  expect(kept).toEqual(['p1', 'p2']);
});

describe('the likeliest cause goes first', () => {
  test.each<readonly [string, Change, DriftKind]>([
    ['a package that brought another image', { image: { id: 'z' }, packages: { jq: '1.7' } }, 'packages'],
    ['a tool in another image', { image: { id: 'z' }, tools: { node: '18' } }, 'tool_version'],
    ['a tool is a file too', { tools: { node: '18' }, system_files: { '/usr/local/bin/node': 'x' } }, 'tool_version'],
    ['a package has programs', { tools: { node: '18' }, packages: { nodejs: '18' } }, 'packages'],
    ['a limit of another policy', { policy: { digest: 'q' }, limits: { 'asked.cpus': 1 } }, 'resource_pressure'],
    ['a rule of another policy', { policy: { digest: 'q' }, egress: { npm: undefined } }, 'egress'],
    ['another machine', { kernel: { release: '6' }, env: { TZ: 'Asia/Tokyo' } }, 'env'],
    [
      'what ran out before what is otherwise',
      { pressure: { oom_kills: 1 }, packages: { jq: '2' } },
      'resource_pressure',
    ],
    ['another runtime mounts otherwise', { runtime: { name: 'runsc' }, mounts: { '/': 'gofer ro' } }, 'engine'],
    ['an image that its policy names', { policy: { digest: 'q' }, image: { id: 'z' } }, 'image'],
    ['variables of a way out', { egress: { npm: undefined }, env: { HTTP_PROXY: 'x' } }, 'egress'],
  ])('%s', (_, change, first) => {
    expect(kindsOf(change)[0]).toBe(first);
  });

  test('in one order, whatever order they come in', () => {
    const { findings } = compared({
      image: { id: 'z' },
      env: { A: '1', B: '2' },
      tools: { node: '18' },
      clock: { skew_ms: 9000 },
    });
    const again = inLikelihood([...findings].reverse());
    expect(again).toEqual(findings);
    expect(inLikelihood(findings)).toEqual(findings);
  });

  test('what was refused goes before what a file says, and what was done from outside before both values', () => {
    const finding = (kind: DriftKind, source: DriftFinding['source']): DriftFinding => ({
      kind,
      source,
      key: 'k',
      expected: undefined,
      found: 'x',
      text: '',
    });
    const all = [finding('system_file', 'system_files'), finding('mount', 'container'), finding('egress', 'hosts')];
    expect(inLikelihood(all).map(({ source }) => source)).toEqual(['hosts', 'container', 'system_files']);
  });
});

test("what is anybody's text is one line, bounded and escaped", () => {
  const hostile = `evil\u001b[2J\n${'x'.repeat(5000)}`.slice(0, 500);
  const { findings } = compared({ env: { [hostile.slice(0, 200)]: hostile }, processes: { 'call x': hostile } });
  expect(findings).toHaveLength(2);
  for (const { text } of findings) {
    expect(text).not.toMatch(/[\u0000-\u001f]/);
    expect(text.length).toBeLessThan(700);
  }
});

test('names that every object has are entries like any other', () => {
  const evidence = new Map([
    ['constructor', 'a'],
    ['__proto__', 'b'],
  ]);
  const [a, b] = [fingerprintOf('sandbox', new Date(0), { env: sectionOf(evidence) }), taken()];
  expect(() => compareFingerprints(a, b, { clockSkewMs })).not.toThrow();
  expect(compareFingerprints(b, a, { clockSkewMs }).findings.map(({ key }) => key)).toContain('constructor');
});

test.each<readonly [string, Change, string]>([
  [
    'a tool',
    { tools: { node: '18 /usr/bin/node' } },
    'node is 18 instead of 20.11.1: what was written for the one may fail with the other',
  ],
  [
    'a limit',
    { limits: { 'asked.memory_bytes': 67108864 } },
    'memory is 64 MiB instead of 2 GiB: what needs more is slower, or killed',
  ],
  [
    'a time zone',
    { env: { TZ: 'Asia/Tokyo' } },
    'TZ is Asia/Tokyo instead of UTC: dates and times are read and written otherwise',
  ],
  [
    'a clock',
    { clock: { skew_ms: 3_600_000 } },
    'the clock is 60 min ahead: certificates, tokens, timestamps and whatever waits go wrong',
  ],
  [
    'a file that is new',
    { system_files: { '/etc/x': 'sha256:9' } },
    'file /etc/x is new: programs that read it do otherwise',
  ],
  [
    'a lock file',
    { lockfiles: { 'package-lock.json': 'lodash: 4.17.21 locked, 4.17.20 installed' } },
    'package-lock.json: lodash: 4.17.21 locked, 4.17.20 installed: what is installed is not what is locked',
  ],
])('%s is told in one line that says why it matters', (_, change, text) => {
  expect(compared(change).findings[0]?.text).toBe(text);
});
