import { describe, expect, test } from 'vitest';
import { filesToRepeat, judge, linesOf, type Report } from './verdict.ts';

type State = 'passed' | 'failed' | 'skipped';

const file = (name: string, tests: Readonly<Record<string, State>>, error?: string): Report['files'][number] => ({
  file: name,
  tests: Object.entries(tests).map(([name, state]) => ({ name, state })),
  ...(error === undefined ? {} : { error }),
});
const report = (...files: Report['files']): Report => ({ files, errors: [] });
const verdictOf = (first: Report, again: Readonly<Record<string, Report | undefined>> = {}): readonly string[] =>
  linesOf(judge(first, new Map(Object.entries(again))));

const green = file('green.test.ts', { holds: 'passed', 'holds too': 'passed', 'is not for here': 'skipped' });
const red = file('red.test.ts', { waits: 'failed', stays: 'passed' });

describe('which files are repeated', () => {
  test.each<[string, Report, readonly string[]]>([
    ['none where all passed', report(green), []],
    ['what had a failing test', report(green, red), ['red.test.ts']],
    ['what could not be imported', report(file('broken.test.ts', {}, 'no such module')), ['broken.test.ts']],
    ['up to three', report(red, { ...red, file: 'b' }, { ...red, file: 'c' }), ['red.test.ts', 'b', 'c']],
    ['none of four', report(red, { ...red, file: 'b' }, { ...red, file: 'c' }, { ...red, file: 'd' }), []],
    ['none after an error outside of every test', { ...report(red), errors: ['a worker died'] }, []],
  ])('%s', (_, first, expected) => {
    expect(filesToRepeat(first)).toEqual(expected);
  });
});

describe('what a run comes to', () => {
  test.each<[string, Report, Readonly<Record<string, Report | undefined>>, readonly string[]]>([
    ['counts what passed, failed and was skipped', report(green, red), {}, ['3 passed, 1 failed, 1 skipped']],
    [
      'names what passed only alone, and counts it as passed',
      report(green, red),
      { 'red.test.ts': report(file('red.test.ts', { waits: 'passed', stays: 'passed' })) },
      ['1 test passed only when run alone: red.test.ts > waits', '4 passed, 0 failed, 1 skipped'],
    ],
    [
      'names what of a file passed alone, and fails what failed twice',
      report(file('red.test.ts', { waits: 'failed', leaves: 'failed', stays: 'passed' })),
      { 'red.test.ts': report(file('red.test.ts', { waits: 'failed', leaves: 'passed', stays: 'passed' })) },
      ['1 test passed only when run alone: red.test.ts > leaves', '2 passed, 1 failed, 0 skipped'],
    ],
    [
      'fails what passed at first and failed alone',
      report(red),
      { 'red.test.ts': report(file('red.test.ts', { waits: 'passed', stays: 'failed' })) },
      ['1 test passed only when run alone: red.test.ts > waits', '1 passed, 1 failed, 0 skipped'],
    ],
    [
      'names a file whose hook failed, and counts its tests once they have run',
      report(file('red.test.ts', { waits: 'skipped', stays: 'skipped' }, 'the hook timed out')),
      { 'red.test.ts': report(file('red.test.ts', { waits: 'passed', stays: 'passed' })) },
      ['1 test passed only when run alone: red.test.ts', '2 passed, 0 failed, 0 skipped'],
    ],
    [
      'fails a file that fails outside of its tests both times',
      report(file('red.test.ts', { stays: 'passed' }, 'the hook timed out')),
      { 'red.test.ts': report(file('red.test.ts', { stays: 'passed' }, 'the hook timed out')) },
      ['1 passed, 1 failed, 0 skipped'],
    ],
    [
      'fails what was skipped when it was repeated',
      report(red),
      { 'red.test.ts': report(file('red.test.ts', { waits: 'skipped', stays: 'passed' })) },
      ["red.test.ts was run again, and 'waits' did not run", '1 passed, 1 failed, 0 skipped'],
    ],
    [
      'fails what left nothing when it was repeated',
      report(red),
      { 'red.test.ts': undefined },
      ['red.test.ts was run again, and left no report', '1 passed, 1 failed, 0 skipped'],
    ],
    [
      'fails where fewer tests were there when it was repeated',
      report(red),
      { 'red.test.ts': report(file('red.test.ts', { stays: 'passed' })) },
      ["red.test.ts was run again, and 'waits' did not run", '1 passed, 1 failed, 0 skipped'],
    ],
    [
      'fails where an error was outside of the tests that were repeated',
      report(red),
      { 'red.test.ts': { ...report(file('red.test.ts', { waits: 'passed', stays: 'passed' })), errors: ['late'] } },
      ['red.test.ts was run again, and an error was outside of its tests: late', '1 passed, 1 failed, 0 skipped'],
    ],
    [
      'fails for an error outside of every test, though each of them passed',
      { ...report(green), errors: ['a worker died'] },
      {},
      ['an error outside of every test: a worker died', '2 passed, 1 failed, 1 skipped'],
    ],
  ])('%s', (_, first, again, expected) => {
    expect(verdictOf(first, again)).toEqual(expected);
  });
});
