import { expect, test } from 'vitest';
import type { ExitRecord } from './arrivals.ts';
import { outcomeOf } from './call-outcome.ts';
import { callTerms } from './exec-spec.ts';

const terms = callTerms({ command: { kind: 'argv', argv: ['make', 'test'] }, killAfterMs: 1000, idleMs: 200 }, 5000);
const limits = { memoryBytes: 1024, pidsMax: 32 };
const ok: ExitRecord = {
  kind: 'exited',
  cause: 'none',
  stage: 'none',
  full: { workspace: false, tmp: false, home: false },
  code: 0,
  wallMs: 1,
  cpuMs: 1,
  maxRssBytes: 1,
  descendants: 0,
  killed: 0,
  oomKills: 0,
  pidsHits: 0,
  endBytes: 0,
};
const full = { workspace: true, tmp: false, home: true };

test.each<[string, Partial<ExitRecord>, object]>([
  ['success', {}, { kind: 'exited', code: 0 }],
  ['success in spite of everything', { oomKills: 1, pidsHits: 9, full }, { kind: 'exited', code: 0 }],
  ['a failure', { code: 2 }, { kind: 'exited', code: 2 }],
  ['a status that only looks like a signal', { code: 137 }, { kind: 'exited', code: 137 }],
  ['a signal', { kind: 'signaled', code: 11 }, { kind: 'signaled', signal: 11 }],
  ['no memory', { kind: 'signaled', code: 9, oomKills: 1 }, { kind: 'out_of_memory', limitBytes: 1024, code: 137 }],
  ['a child without memory', { code: 2, oomKills: 1, full }, { kind: 'out_of_memory', limitBytes: 1024, code: 2 }],
  [
    'no memory for as many processes as there may be',
    { kind: 'signaled', code: 9, oomKills: 3, pidsHits: 1, full },
    { kind: 'pids_limit', limit: 32, code: 137 },
  ],
  [
    'memory that could not be counted',
    { kind: 'signaled', code: 9, oomKills: undefined },
    { kind: 'signaled', signal: 9 },
  ],
  ['no processes', { code: 254, pidsHits: 3, full }, { kind: 'pids_limit', limit: 32, code: 254 }],
  ['no disk', { code: 1, full }, { kind: 'disk_full', where: ['/workspace', '/home/agent'], code: 1 }],
  ['its clock, also when it then ended well', { cause: 'timed_out' }, { kind: 'timed_out', afterMs: 1000 }],
  [
    'its clock before its memory',
    { cause: 'timed_out', kind: 'signaled', code: 9, oomKills: 2 },
    { kind: 'timed_out', afterMs: 1000 },
  ],
  ['silence', { cause: 'idle' }, { kind: 'idle_timed_out', afterMs: 200 }],
  ['cancelled', { cause: 'cancelled', kind: 'signaled', code: 9 }, { kind: 'cancelled' }],
  ['too much output', { cause: 'output_limit' }, { kind: 'output_limit', limitBytes: 77 }],
  ['nobody left', { cause: 'orphaned' }, { kind: 'sandbox_lost' }],
  ['no such program', { kind: 'not_started', stage: 'exec', code: 2 }, { kind: 'not_started', reason: 'not_found' }],
  [
    'not executable',
    { kind: 'not_started', stage: 'exec', code: 13 },
    { kind: 'not_started', reason: 'not_executable' },
  ],
  ['not a program', { kind: 'not_started', stage: 'exec', code: 8 }, { kind: 'not_started', reason: 'not_executable' }],
  ['too long', { kind: 'not_started', stage: 'exec', code: 7 }, { kind: 'not_started', reason: 'too_big' }],
  ['no cwd', { kind: 'not_started', stage: 'cwd', code: 2 }, { kind: 'not_started', reason: 'bad_cwd' }],
  ['no fork', { kind: 'not_started', stage: 'resources', code: 11 }, { kind: 'not_started', reason: 'no_resources' }],
])('%s', (_name, change, outcome) => {
  expect(outcomeOf({ ...ok, ...change }, terms, limits, 77)).toMatchObject(outcome);
});
