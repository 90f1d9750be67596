import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { errorTable, isRunnerError, messageOf, RunnerError } from './errors.ts';

describe('the table of errors', () => {
  test('is the one in docs/errors.md, code by code', () => {
    const page = readFileSync(new URL('../docs/errors.md', import.meta.url), 'utf8');
    const documented = [...page.matchAll(/^\| `(\w+)` \| (\d+) \| (\w+) \| (yes|no) \| \S.* \|$/gm)].map(
      ([, code, status, fault, again]) => ({ code, status: Number(status), fault, retryable: again === 'yes' }),
    );
    const real = Object.entries(errorTable).map(([code, { status, fault, retryable }]) => ({
      code,
      status,
      fault,
      retryable,
    }));
    expect(documented).toEqual(real);
  });

  test('calls nothing retryable that is the fault of the caller, but waiting for a place and being too slow', () => {
    const retryable = Object.entries(errorTable).filter(([, row]) => row.retryable && row.fault === 'caller');
    expect(retryable.map(([code]) => code)).toEqual(['too_many_calls', 'rate_limited', 'request_timeout']);
  });
});

describe('an error', () => {
  test('is known by its code and keeps its cause', () => {
    const cause = new Error('disk');
    const error = new RunnerError('journal_unavailable', 'cannot write', { cause });
    expect(error).toMatchObject({
      code: 'journal_unavailable',
      status: 500,
      retryable: false,
      cause,
      name: 'RunnerError',
    });
    expect(isRunnerError(error)).toBe(true);
    expect(isRunnerError(error, 'internal')).toBe(false);
    expect(isRunnerError(cause)).toBe(false);
    expect([messageOf(error), messageOf('text')]).toEqual(['cannot write', 'text']);
  });
});
