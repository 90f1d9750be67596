import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { DiffView } from '../contract/diff-view.ts';
import type { Draft } from '../journal/entry.ts';
import { denied, ended, entriesOf, intended, opened, run, started } from '../journal/story.fixture.ts';
import { junitOf } from './junit.ts';
import { someVerification } from '../verify/verification.fixture.ts';
import { reportOf, violationRules } from './run-report.ts';
import { sarifOf } from './sarif.ts';

const schemaFile = new URL('../../test/fixtures/sarif-2.1.0.json', import.meta.url);
/** Of the OASIS schema, without its descriptions. Zod takes `uri-reference` for an absolute URL: those are checked apart. */
const schema = JSON.parse(readFileSync(schemaFile, 'utf8'), (key, value: unknown) =>
  key === 'format' && value === 'uri-reference' ? undefined : value,
) as z.core.JSONSchema.JSONSchema;
const Sarif = z.fromJSONSchema(schema, { defaultTarget: 'draft-4' });

const empty: DiffView = {
  policy: 'sha256:0',
  changes: [],
  violations: [],
  findings: [],
  scratch: { files: 0, bytes: 0 },
  ignored: { files: 0, bytes: 0 },
  complete: true,
  patchBytes: 0,
  held: [],
  due: [],
};

const diff: DiffView = {
  ...empty,
  changes: [{ path: 'src/a.ts', status: 'modified', kind: 'file', categories: ['source'], added: 1, removed: 0 }],
  violations: [{ path: 'README.md', kind: 'modified', class: 'read' }],
  findings: [
    { path: 'src/link', kind: 'symlink_escape', effect: 'refused', detail: 'leads to /etc' },
    { path: 'src/odd', kind: 'mode_normalised', effect: 'noted' },
  ],
  held: [{ path: 'package.json', why: 'not_approved', approvals: ['dependencies'] }],
};

const closed = (outcome: 'finished' | 'lost'): Draft => ({
  type: 'run.closed',
  data: { outcome, summary: '', calls: 2, denied: 1, outputBytes: 3, ms: 10 },
});

const failedCommand: Draft = {
  type: 'call.ended',
  data: { callId: 'c2', outcome: { kind: 'exited', code: 3 }, exitCode: 3, ms: 12.5 },
};

const refusedRequest: Draft = {
  type: 'egress.decided',
  data: {
    id: 1,
    kind: 'request',
    via: 'proxy',
    callId: 'c1',
    host: 'evil.example',
    port: 443,
    method: 'POST',
    path: '/x',
    decision: 'denied',
    reason: 'no rule',
  },
};

const story = entriesOf([
  opened,
  started,
  intended('c1'),
  refusedRequest,
  ended('c1'),
  intended('c2', 2),
  failedCommand,
  denied('c3'),
  closed('finished'),
]);

describe('a report', () => {
  test('holds against a run what was denied, refused, held back, done outside the scope or failed', async () => {
    const report = await reportOf(story, diff);
    expect(report).toMatchObject({ run, policy: 'test', outcome: 'finished', changes: ['src/a.ts'] });
    expect(report.violations.map(({ rule, callId, path }) => [rule, callId ?? path])).toEqual([
      ['egress-denied', 'c1'],
      ['command-failed', 'c2'],
      ['call-denied', 'c3'],
      ['change-refused', 'src/link'],
      ['change-outside-scope', 'README.md'],
      ['change-held-back', 'package.json'],
    ]);
    expect(report.calls.map(({ callId, violations }) => [callId, violations.length])).toEqual([
      ['c1', 1],
      ['c2', 1],
      ['c3', 1],
    ]);
  });

  test('of a run that did nothing wrong is empty', async () => {
    const report = await reportOf(entriesOf([opened, started, intended('c1'), ended('c1'), closed('finished')]), empty);
    expect(report.violations).toEqual([]);
  });

  test.each([
    ['has no end', [opened, started]],
    ['was lost', [opened, started, closed('lost')]],
  ])('of a run that %s says so', async (_, drafts) => {
    const report = await reportOf(entriesOf(drafts), undefined);
    expect(report.violations).toMatchObject([{ rule: 'run-not-finished' }]);
  });

  test('an answer of a tool is nobody’s violation, a fault of the runner is one', async () => {
    const verb = (code: string): Draft => ({
      type: 'call.ended',
      data: { callId: 'c1', outcome: { kind: 'failed' }, ms: 1, error: { code, message: 'x' } },
    });
    const of = async (code: string): Promise<number> =>
      (await reportOf(entriesOf([opened, intended('c1'), verb(code), closed('finished')]), empty)).violations.length;
    expect(await of('no_match')).toBe(0);
    expect(await of('not_found')).toBe(0);
    expect(await of('engine_failed')).toBe(1);
  });
});

test('what was verified is in it: gates that are required, with the class of what failed', async () => {
  const gate = { kind: 'command', required: true, evidence: [] } as const;
  const verification = someVerification({
    verdict: 'broken',
    gates: [
      { ...gate, id: 'unit', verdict: 'failed', reason: '1 of 2 tests fail: \\x1b[2J' },
      { ...gate, id: 'types', verdict: 'passed', reason: 'the command ended with 0' },
      { ...gate, id: 'lint', verdict: 'needs_review', reason: 'flaky_unknown' },
      { ...gate, id: 'spell', verdict: 'failed', reason: 'x', required: false },
    ],
    failures: [{ class: 'semantic_defect', attribution: 'agent', retryable: false, where: 'gate unit', evidence: 'x' }],
  });
  const report = await reportOf(story, empty, verification);
  const failure = { class: 'semantic_defect', attribution: 'agent', retryable: false } as const;
  expect(report.violations.filter(({ gate: of }) => of !== undefined)).toEqual([
    { rule: 'gate-failed', gate: 'unit', message: 'gate unit: 1 of 2 tests fail: \\x1b[2J', failure },
    { rule: 'gate-needs-review', gate: 'lint', message: 'gate lint: flaky_unknown' },
  ]);
  expect(report.violations.find(({ callId }) => callId === 'c2')?.failure).toEqual(failure);
  expect(report.failures.map(({ where }) => where)).toEqual([
    'egress evil.example:443',
    'call c2',
    'call c3',
    'gate unit',
  ]);
  const xml = junitOf(report);
  expect(xml).toContain('<property name="verification" value="broken"/>');
  expect(xml).toMatch(/<testcase classname="gates" name="unit"[^>]*>\s*<failure type="gate-failed"/);
  expect(xml).toMatch(/<testcase classname="gates" name="types"[^>]*\/>/);
  expect(Sarif.safeParse(sarifOf(report, '1.2.3')).error).toBeUndefined();
});

test('SARIF keeps to its schema, and says where', async () => {
  const log = sarifOf(await reportOf(story, diff), '1.2.3');
  expect(Sarif.safeParse(log).error).toBeUndefined();
  const [{ results }] = (log as { runs: [{ results: { ruleId: string; locations: unknown[] }[] }] }).runs;
  expect(results.map(({ ruleId }) => ruleId)).toHaveLength(6);
  expect(results[0]).toMatchObject({
    level: 'error',
    locations: [{ physicalLocation: { artifactLocation: { uri: 'journal.ndjson' }, region: { startLine: 4 } } }],
  });
  expect(results[3]).toMatchObject({ locations: [{ physicalLocation: { artifactLocation: { uri: 'src/link' } } }] });
  const refused = { version: '2.1.0', runs: [{ tool: { driver: { name: 'x' } }, results: [{}] }] };
  expect(Sarif.safeParse(refused).success).toBe(false);
});

test('JUnit has a case for each call, one for the changes and one for the run', async () => {
  const xml = junitOf(await reportOf(story, diff));
  const { cases, failures } = parsed(xml);
  expect(cases).toEqual([
    'c1 exec',
    'c2 exec',
    'c3 write',
    'changes are in the write scope and complete',
    'run is closed as finished',
  ]);
  expect(failures).toBe(4);
  expect(xml).toContain('tests="5" failures="4" errors="0" skipped="0"');
});

test('whatever a sandbox calls its files, SARIF and JUnit stay well formed', async () => {
  const text = fc.string({ unit: 'binary', maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(text, text, async (path, detail) => {
      const hostile = { ...empty, findings: [{ path, kind: 'special_file', effect: 'refused' as const, detail }] };
      const report = await reportOf(entriesOf([opened, denied('c1'), closed('finished')]), hostile);
      const log = JSON.parse(JSON.stringify(sarifOf(report, '1'))) as unknown;
      expect(Sarif.safeParse(log).error).toBeUndefined();
      for (const [, uri = ''] of JSON.stringify(log).matchAll(/"uri":"([^"]*)"/g)) {
        expect(uri).toMatch(/^[A-Za-z0-9._~/%-]+$/);
        expect(new URL(uri, 'file:///workspace/').href).toMatch(/^file:\/\/\//);
      }
      const { cases, failures } = parsed(junitOf(report));
      expect([cases.length, failures]).toEqual([3, 2]);
    }),
    { numRuns: 300 },
  );
});

test('docs/ci.md lists every rule with its level', () => {
  const page = readFileSync(new URL('../../docs/ci.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| `([a-z-]+)` \| (error|warning) \|/gm)].map(([, id, level]) => [id, level]);
  expect(rows).toEqual(Object.entries(violationRules).map(([id, { level }]) => [id, level]));
});

/** A reader that takes nothing but well-formed XML of this shape: tags balanced, no bare `<` or `&`, no forbidden character. */
function parsed(xml: string): { cases: string[]; failures: number } {
  expect(xml).not.toMatch(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u);
  const open: string[] = [];
  const cases: string[] = [];
  let failures = 0;
  const rest = xml.replaceAll(
    /<\?xml[^?]*\?>|<(\/?)([a-z]+)((?:\s+[a-z]+="[^"<]*")*)\s*(\/?)>/g,
    (_, close, name, attributes, empties) => {
      if (name === undefined) return '';
      if (close === '/') expect(open.pop()).toBe(name);
      else if (empties !== '/') open.push(String(name));
      if (name === 'testcase' && close !== '/') cases.push(/ name="([^"]*)"/.exec(String(attributes))?.[1] ?? '');
      if (name === 'failure' && close !== '/') failures += 1;
      expect(String(attributes)).not.toMatch(/&(?!(?:amp|lt|gt|quot|apos|#10);)/);
      return '';
    },
  );
  expect(open).toEqual([]);
  expect(rest).not.toMatch(/<|&(?!(?:amp|lt|gt|quot|apos);)/);
  return { cases, failures };
}
