import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf } from '../../digest.ts';
import { newId } from '../../ids.ts';
import { RunDir } from '../../data-dir/run-dir.ts';
import { parsePolicy, standardVerify } from '../../policy/policy.ts';
import { BlobStore } from '../../workspace/blobs.ts';
import type { Change, Node } from '../../workspace/change-set.ts';
import { classifyChanges } from '../../workspace/changes/classify.ts';
import { digestOfChangeSet, digestOfTree } from '../../workspace/manifest.ts';
import { Scope } from '../../workspace/scope/scope.ts';
import { Checks } from '../checks.ts';
import type { Subject } from '../subject.ts';
import type { CommandJudged } from './command.ts';
import { diffQualityGate } from './diff-quality.ts';
import { executionBearingGate } from './execution-bearing.ts';
import { scopeGate } from './scope.ts';
import { secretsGate } from './secrets.ts';
import { testsKeptGate } from './tests-kept.ts';

let directory: string;
let blobs: BlobStore;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'glovebox-gates-'));
  blobs = await BlobStore.open(join(directory, 'blobs'));
});
afterAll(() => rm(directory, { recursive: true }));

const policy = parsePolicy(
  'apiVersion: glovebox/v1\nkind: Policy\nname: p\nimages: [base]\nfiles: {read: ["**"], write: ["**", "!locked/**"]}\n',
  'p',
);

type Written = string | null | Change;

/** `null`: deleted. A path below directories brings them with it. */
async function subjectOf(
  base: Readonly<Record<string, string>>,
  changes: Readonly<Record<string, Written>>,
  over: Partial<Subject> = {},
): Promise<Subject> {
  const tree = new Map<string, Node>();
  for (const [path, text] of Object.entries(base)) await put(tree, path, text);
  const changed = new Map<string, Change>();
  for (const [path, text] of Object.entries(changes)) {
    if (text === null) changed.set(path, { kind: 'deleted' });
    else if (typeof text === 'string') await put(changed, path, text, tree);
    else changed.set(path, text);
  }
  const changeSet = { changes: changed };
  const { digest: scopeDigest } = Scope.compile(policy.policy.files);
  const snapshot = {
    run: newId(),
    policy,
    image: { reference: 'base', id: digestOf('image') },
    base: { tree, digest: digestOfTree(tree), scopeDigest, kind: 'plain' as const },
    changeSet,
    digest: digestOfChangeSet(changeSet),
    scratch: false,
  };
  const classified = await classifyChanges(tree, changeSet, blobs);
  const checks = Checks.of(snapshot, classified, []);
  const dir = new RunDir(snapshot.run, directory);
  const told = { risk: 'low', outcome: 'finished', findings: {} } as const;
  return { dir, snapshot, blobs, rules: standardVerify, classified, checks, ...told, ...over };
}

async function put(
  to: Map<string, Change>,
  path: string,
  text: string,
  known = new Map<string, Node>(),
): Promise<void> {
  const parts = path.split('/').slice(0, -1);
  parts.forEach((_, at) => {
    const above = parts.slice(0, at + 1).join('/');
    if (!known.has(above)) to.set(above, { kind: 'directory' });
  });
  const bytes = Buffer.from(text);
  to.set(path, { kind: 'file', mode: 0o644, digest: await blobs.put(bytes), sizeBytes: bytes.length });
}

const link = (target: string): Change => ({ kind: 'symlink', target });
const key = ['AKIA', 'ABCDEFGHIJKLMNOP'].join('');
const otherKey = ['AKIA', 'PONMLKJIHGFEDCBA'].join('');

const pem = (letter: string): string => `-----BEGIN PRIVATE KEY-----\n${letter.repeat(64)}\n`;

describe('scope', () => {
  test.each<readonly [string, Readonly<Record<string, Written>>, string]>([
    ['what may be written', { 'a.txt': 'new', 'd/b.txt': 'b' }, 'passed'],
    ['what is locked', { 'locked/a.txt': 'new' }, 'failed'],
    ['a link out of the tree', { 'a-link': link('../../etc/passwd') }, 'failed'],
    ["git's own", { '.git/hooks/post-checkout': 'x' }, 'failed'],
    ['another spelling', { 'A.txt': 'x' }, 'failed'],
  ])('%s', async (_, changes, verdict) => {
    expect(scopeGate(await subjectOf({ 'a.txt': 'a' }, changes)).result.verdict).toBe(verdict);
  });

  test('what was left behind, and a run that did not finish, is for a person to look at', async () => {
    const left = scopeGate(await subjectOf({}, { a: 'a' }, { findings: { outside_write_scope: 2, odd_name: 1 } }));
    expect(left.result).toMatchObject({ verdict: 'needs_review', evidence: ['2 × outside write scope'] });
    expect(left.failures).toMatchObject([{ class: 'constraint_violation', attribution: 'agent', where: 'gate scope' }]);
    expect(scopeGate(await subjectOf({}, { a: 'a' }, { outcome: 'cancelled' })).result.verdict).toBe('needs_review');
  });
});

test.each<readonly [string, Readonly<Record<string, string>>, Readonly<Record<string, Written>>, string]>([
  ['nothing', {}, { 'a.py': 'x = 1' }, 'passed'],
  ['a key', {}, { 'a.py': `k = "${key}"` }, 'failed'],
  ['a key behind a megabyte', {}, { 'a.py': `${' '.repeat(1_200_000)}${key}` }, 'failed'],
  ['a key that was there', { 'a.py': `k = "${key}"` }, { 'a.py': `k = "${key}"  # still` }, 'passed'],
  ['another key in its place', { 'a.py': `k = "${key}"` }, { 'a.py': `k = "${otherKey}"` }, 'failed'],
  ['another private key in its place', { 'a.pem': pem('a') }, { 'a.pem': pem('b') }, 'failed'],
  ['a key that goes away', { 'a.py': key }, { 'a.py': null }, 'passed'],
  ['a key in a test', {}, { 'tests/test_a.py': `k = "${key}"` }, 'needs_review'],
  ['a name that secrets have', {}, { id_rsa: 'nothing' }, 'needs_review'],
])('secrets: %s', async (_, base, changes, verdict) => {
  expect((await secretsGate(await subjectOf(base, changes))).result.verdict).toBe(verdict);
});

test.each<readonly [string, Readonly<Record<string, Written>>, string]>([
  ['a source', { 'a.py': 'x' }, 'passed'],
  ['a workflow', { '.github/workflows/ci.yml': 'on: push' }, 'needs_review'],
  ['scripts of a package', { 'package.json': '{"scripts":{"postinstall":"x"}}' }, 'needs_review'],
  ['orders to an agent', { 'AGENTS.md': 'do' }, 'needs_review'],
  ['a hook that is removed', { '.husky/pre-commit': null }, 'needs_review'],
])('what runs by itself: %s', async (_, changes, verdict) => {
  const { result } = executionBearingGate(await subjectOf({ '.husky/pre-commit': 'x' }, changes));
  expect(result.verdict).toBe(verdict);
});

test.each<readonly [string, Readonly<Record<string, Written>>, Partial<typeof standardVerify.diff>, string]>([
  ['a few lines', { 'a.py': 'x\n' }, {}, 'passed'],
  ['too many files', { 'a.py': 'x\n', 'b.py': 'y\n' }, { files: 1 }, 'needs_review'],
  ['too many lines', { 'a.py': 'x\n'.repeat(11) }, { lines: 10 }, 'needs_review'],
  ['bytes', { 'a.bin': '\0\0' }, {}, 'needs_review'],
  ['bytes that are denied', { 'a.bin': '\0\0' }, { binary: 'deny' }, 'failed'],
  ['bytes that are allowed', { 'a.bin': '\0\0' }, { binary: 'allow' }, 'passed'],
  ['what a program made', { 'dist/a.js': 'x' }, {}, 'needs_review'],
])('the quality of a diff: %s', async (_, changes, diff, verdict) => {
  const rules = { ...standardVerify, diff: { ...standardVerify.diff, ...diff } };
  expect((await diffQualityGate(await subjectOf({}, changes, { rules }))).result.verdict).toBe(verdict);
});

describe('tests are kept', () => {
  const before = 'import unittest\nclass A(unittest.TestCase):\n  def test_a(self):\n    self.assertEqual(1, 1)\n';
  test.each<readonly [string, Readonly<Record<string, Written>>, RegExp | undefined]>([
    ['a test is added', { 'tests/test_b.py': before }, undefined],
    ['a test says more', { 'tests/test_a.py': `${before}    self.assertTrue(2)\n` }, undefined],
    ['a test moves', { 'tests/test_a.py': null, 'tests/deep/test_a.py': before }, undefined],
    ['a test moves to where it is none', { 'tests/test_a.py': null, 'src/old.py': before }, /removed/],
    ['a test moves to where nobody starts it', { 'tests/test_a.py': null, 'tests/test_a.py.txt': before }, /removed/],
    ['a test goes', { 'tests/test_a.py': null }, /removed/],
    ['a test becomes a link', { 'tests/test_a.py': link('test_b.py') }, /no longer a file/],
    [
      'a test is skipped',
      { 'tests/test_a.py': before.replace('  def', '  @unittest.skip("x")\n  def') },
      /switch tests off/,
    ],
    ['a case goes', { 'tests/test_a.py': 'import unittest\n' }, /fewer test cases/],
    ['it asserts less', { 'tests/test_a.py': before.replace('self.assertEqual(1, 1)', 'pass') }, /fewer assertions/],
  ])('%s', async (_, changes, evidence) => {
    const { result } = await testsKeptGate(await subjectOf({ 'tests/test_a.py': before }, changes), []);
    expect(result.verdict).toBe(evidence === undefined ? 'passed' : 'needs_review');
    if (evidence !== undefined) expect(result.evidence.join('\n')).toMatch(evidence);
  });

  /** Put together, so that who looks for tests that are switched off here does not find a text. */
  const alone = ['it', 'only'].join('.');

  test.each([
    ['js', 'it("a", () => { expect(1).toBe(1); });', `${alone}("a", () => { expect(1).toBe(1); });`],
    ['js', 'test("a", f)', 'xtest("a", f)'],
    ['js', 'test("a", f)', 'test("a", { skip: true }, f)'],
    ['go', 'func TestA(t *testing.T) { t.Fatal() }', 'func TestA(t *testing.T) { t.Skip("x"); t.Fatal() }'],
    ['java', '@Test void a() { assertEquals(1, 1); }', '@Disabled @Test void a() { assertEquals(1, 1); }'],
    ['rs', '#[test] fn a() { assert!(true) }', '#[test] #[ignore] fn a() { assert!(true) }'],
    ['py', 'def test_a(): assert True', '@pytest.mark.xfail\ndef test_a(): assert True'],
  ])('a mark of %s that switches off: %s', async (ending, was, is) => {
    const path = `tests/a.${ending}`;
    const { result } = await testsKeptGate(await subjectOf({ [path]: was }, { [path]: is }), []);
    expect(result.evidence.join()).toContain('switch tests off');
  });

  test('reports that have fewer tests, or more that are skipped', async () => {
    const tests = (passed: number, skipped: number) => ({
      verdict: 'passed' as const,
      reason: '',
      tests: { passed, failed: 0, skipped, failing: [] },
    });
    const command = (ours: ReturnType<typeof tests>): CommandJudged =>
      ({
        gate: { id: 'unit' },
        said: new Map([
          ['candidate', ours],
          ['base', tests(5, 1)],
        ]),
      }) as unknown as CommandJudged;
    const subject = await subjectOf({}, { 'a.py': 'x' });
    const evidence = async (ours: ReturnType<typeof tests>) =>
      (await testsKeptGate(subject, [command(ours)])).result.evidence;
    expect(await evidence(tests(6, 0))).toEqual([]);
    expect(await evidence(tests(4, 1))).toEqual(['gate unit: 5 tests, and 6 on the base']);
    expect(await evidence(tests(4, 2))).toEqual(['gate unit: 2 tests are skipped, and 1 on the base']);
  });

  test('texts of many megabytes that almost match take no time to speak of', async () => {
    const long = 'it . it . @unittest.@pytest.mark. expect assert'.repeat(100_000);
    const startedMs = performance.now();
    const { result } = await testsKeptGate(await subjectOf({ 'tests/a.js': long }, { 'tests/a.js': `${long} ` }), []);
    expect(result.verdict).toBe('passed');
    expect(performance.now() - startedMs).toBeLessThan(15_000);
  });
});
