import { expect, test } from 'vitest';
import { isRunnerError } from '../errors.ts';
import { compareFingerprints } from './compare.ts';
import { fingerprintOf, sectionFrom } from './fingerprint.ts';
import { againstLock, formatLock, lockedSections, lockOf, parseLock, usuallyLocked } from './lock.ts';

const taken = (node: string) =>
  fingerprintOf('sandbox', new Date(0), {
    tools: sectionFrom({ node }),
    env: sectionFrom({ TZ: 'UTC', ['käse\u0007']: 'x' }),
    kernel: sectionFrom({ release: '5.10' }),
    policy: sectionFrom({ digest: 'sha256:p' }),
    base: sectionFrom({ digest: 'sha256:b' }),
    clock: sectionFrom({ skew_ms: 1 }),
  });

test('a lock has one text, which reads back as what it was', () => {
  const lock = lockOf(taken('20'));
  const text = formatLock(lock);
  expect(parseLock(text).lock).toEqual(lock);
  expect(formatLock(parseLock(text).lock)).toBe(text);
  expect(text.endsWith('}\n')).toBe(true);
});

test('neither the moment nor the machine nor the files around it are in a lock, and the policy only where it is asked for', () => {
  expect(Object.keys(lockOf(taken('20')).sections)).toEqual(['tools', 'env']);
  expect(Object.keys(lockOf(taken('20'), ['policy']).sections)).toEqual(['policy']);
  for (const name of ['clock', 'base', 'kernel', 'cpu', 'processes', 'pressure'])
    expect(lockedSections).not.toContain(name);
  expect(usuallyLocked).not.toContain('policy');
});

test('only what the lock speaks of is compared', () => {
  const { lock } = parseLock(formatLock(lockOf(taken('20'), ['tools'])));
  const compared = (node: string) => {
    const { expected, found } = againstLock(lock, taken(node));
    return compareFingerprints(expected, found, { clockSkewMs: 2000 });
  };
  expect(compared('20')).toEqual({ findings: [], more: {}, unseen: [] });
  expect(compared('18').findings.map(({ kind }) => kind)).toEqual(['tool_version']);
});

test('a section that nobody could look at now is said, never taken for the same', () => {
  const { expected, found } = againstLock(lockOf(taken('20')), fingerprintOf('sandbox', new Date(0), {}));
  expect(compareFingerprints(expected, found, { clockSkewMs: 2000 }).unseen).toEqual(['tools', 'env']);
});

test.each([
  ['no JSON', 'tools: {}'],
  ['another version', '{"v":2,"sections":{}}'],
  ['a section that there is not', '{"v":1,"sections":{"toolz":{}}}'],
  ['a digest that is not of what it says', formatLock(lockOf(taken('20'))).replace('"20"', '"21"')],
  ['a key more', formatLock(lockOf(taken('20'))).replace('"v"', '"x": 1, "v"')],
])('%s is refused, and what to do is said', (_, text) => {
  try {
    parseLock(text);
    expect.unreachable();
  } catch (error) {
    if (!isRunnerError(error, 'import_refused')) throw error;
    expect(error.message).toContain('--write-lock');
  }
});
