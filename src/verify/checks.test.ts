import { expect, test } from 'vitest';
import { digestOf } from '../digest.ts';
import type { Change, Node } from '../workspace/change-set.ts';
import { classifyChanges } from '../workspace/changes/classify.ts';
import { applyChangeSet } from '../workspace/diff.ts';
import { digestOfChangeSet, digestOfTree } from '../workspace/manifest.ts';
import { Checks } from './checks.ts';
import type { BlobStore } from '../workspace/blobs.ts';

const file = (text: string, mode: 0o644 | 0o755 = 0o644): Node & { kind: 'file' } => ({
  kind: 'file',
  mode,
  digest: digestOf(text),
  sizeBytes: text.length,
});
const directory = { kind: 'directory' } as const;
const gone = { kind: 'deleted' } as const;

const base = new Map<string, Node>([
  ['check.sh', file('check')],
  ['src', directory],
  ['src/a.py', file('a')],
  ['tests', directory],
  ['tests/deep', directory],
  ['tests/deep/test_b.py', file('b')],
  ['tests/test_a.py', file('a test')],
]);

/** No content is looked at here but for what kind of file it is. */
const blobs = { head: async () => Buffer.from('text') } as unknown as BlobStore;

async function checksOf(
  changes: Readonly<Record<string, Change>>,
  inputs: readonly string[] = [],
  reports: readonly string[] = [],
): Promise<Checks> {
  const changeSet = { changes: new Map(Object.entries(changes)) };
  const classified = await classifyChanges(base, changeSet, blobs);
  const snapshot = {
    base: { tree: base, digest: digestOfTree(base), scopeDigest: digestOf('scope'), kind: 'plain' as const },
    changeSet,
    digest: digestOfChangeSet(changeSet),
    scratch: false,
  };
  return Checks.of(snapshot, classified, inputs, reports);
}

/** What stands there, as text. */
function listed(checks: Checks, place: Parameters<Checks['at']>[0]): Record<string, string> {
  const { changeSet, digest } = checks.at(place);
  expect(digest).toBe(digestOfChangeSet(changeSet));
  const tree = applyChangeSet(base, changeSet);
  return Object.fromEntries([...tree].map(([path, node]) => [path, node.kind === 'file' ? node.digest : node.kind]));
}

const baseListed = Object.fromEntries(
  [...base].map(([path, node]) => [path, node.kind === 'file' ? node.digest : node.kind]),
);

test('sources alone say nothing about checks', async () => {
  const checks = await checksOf({ 'src/a.py': file('new') });
  expect([checks.any, checks.touched, checks.tests]).toEqual([false, [], []]);
  expect(listed(checks, 'base')).toEqual(baseListed);
});

test('a new test is one that was added, a changed or removed one is touched, and inputs are what the policy names', async () => {
  const checks = await checksOf(
    {
      'check.sh': file('always right'),
      'src/a.py': file('new'),
      'tests/test_a.py': file('weaker'),
      'tests/test_c.py': file('c test'),
      'tests/deep/test_b.py': gone,
    },
    ['check.sh'],
  );
  expect(checks.touched).toEqual(['check.sh', 'tests/deep/test_b.py', 'tests/test_a.py']);
  expect(checks.tests).toEqual(['tests/test_a.py', 'tests/test_c.py']);
  expect(listed(checks, 'base_checks')).toEqual({ ...baseListed, 'src/a.py': digestOf('new') });
  expect(listed(checks, 'base_with_new_checks')).toEqual({
    ...baseListed,
    'tests/test_a.py': digestOf('weaker'),
    'tests/test_c.py': digestOf('c test'),
  });
});

test('a new file that configures tests is not there for the checks of the base; one that a gate names counts as touched', async () => {
  const changes = { 'tests/conftest.py': file('passes everything'), 'pytest.ini': file('[pytest]') };
  const checks = await checksOf(changes, ['pytest.ini']);
  expect([checks.any, checks.touched]).toEqual([true, ['pytest.ini']]);
  expect(listed(checks, 'base_checks')).toEqual(baseListed);
});

test.each<readonly [string, Readonly<Record<string, Change>>]>([
  [
    'the directory of tests is removed',
    { tests: gone, 'tests/deep': gone, 'tests/deep/test_b.py': gone, 'tests/test_a.py': gone },
  ],
  [
    'a file stands in its place',
    { tests: file('x'), 'tests/deep': gone, 'tests/deep/test_b.py': gone, 'tests/test_a.py': gone },
  ],
  [
    'a link stands in its place',
    {
      tests: { kind: 'symlink', target: 'src' },
      'tests/deep': gone,
      'tests/deep/test_b.py': gone,
      'tests/test_a.py': gone,
    },
  ],
  ['a test is a directory now', { 'tests/test_a.py': directory, 'tests/test_a.py/x': file('x') }],
  ['a test is a link now', { 'tests/test_a.py': { kind: 'symlink', target: '../src/a.py' } }],
])('whatever was done to them, the checks of the base stand where they stood: %s', async (_, changes) => {
  const checks = await checksOf(changes);
  const found = listed(checks, 'base_checks');
  for (const path of ['tests/test_a.py', 'tests/deep/test_b.py']) expect(found[path]).toBe(baseListed[path]);
  listed(checks, 'base_with_new_checks');
});

test('new tests lie in new directories, on the base too', async () => {
  const checks = await checksOf({ 'tests/new': directory, 'tests/new/test_d.py': file('d'), 'src/new': directory });
  expect(listed(checks, 'base_with_new_checks')).toEqual({
    ...baseListed,
    'tests/new': 'directory',
    'tests/new/test_d.py': digestOf('d'),
  });
});

test.each([
  ['by its name', 'out/unit.xml', 'out/unit.xml'],
  ['from its directory', 'out/unit.xml', './out//unit.xml'],
  ['from the top', 'out/unit.xml', '/workspace/out/unit.xml'],
  ['with characters that globs have', 'out/[unit]*.xml', 'out/[unit]*.xml'],
  ['and a link stands where its directory would be', 'out', 'out/unit.xml'],
])('a report that a candidate brings along is none of the base: a gate names it %s', async (_, path, report) => {
  const planted: Change = path === 'out' ? { kind: 'symlink', target: 'src' } : file('<testsuites/>');
  const changes = { 'src/a.py': file('new'), ...(path === 'out' ? {} : { out: directory }), [path]: planted };
  const checks = await checksOf(changes, [], [report]);
  expect([checks.any, checks.touched]).toEqual([true, [path]]);
  expect(listed(checks, 'base_checks')).not.toHaveProperty([path]);
  expect(listed(checks, 'base_checks')['src/a.py']).toBe(digestOf('new'));
  expect((await checksOf(changes, [], ['/tmp/unit.xml'])).touched).toEqual([]);
});
