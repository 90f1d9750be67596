import { expect, test } from 'vitest';
import { fingerprintOf, sectionFrom, type Fingerprint } from '../drift/fingerprint.ts';
import { formatLock, lockOf, parseLock } from '../drift/lock.ts';
import { RunnerError } from '../errors.ts';
import type { ContainerReading } from '../engine/reading.ts';
import type { Draft } from '../journal/entry.ts';
import type { DriftCheck, DriftKind, DriftReaction } from '../policy/language/drift.ts';
import { noDriftRules, type EffectiveDrift } from '../policy/policy.ts';
import type { CallEnd } from '../sandbox/spec.ts';
import { RunDrift } from './drift.ts';

const taken = (env: Readonly<Record<string, string>>): Fingerprint =>
  fingerprintOf('sandbox', new Date(0), { env: sectionFrom(env), clock: sectionFrom({ skew_ms: 0 }) });

const ended = (change: Partial<CallEnd> = {}): CallEnd => ({
  outcome: { kind: 'exited', code: 0 },
  wallMs: 1,
  cpuMs: 1,
  maxRssBytes: 0,
  descendantsAlive: 0,
  killed: 0,
  output: { totalBytes: 0, stdoutBytes: 0, stderrBytes: 0 },
  ...change,
});

const container: ContainerReading = {
  state: { id: 'c', name: 'n', labels: {}, status: 'running', exitCode: undefined, outOfMemory: false, startedAt: '1' },
  image: 'i',
  runtime: 'runc',
  limits: { memoryBytes: 1000 },
  networks: ['none'],
  mounts: [],
  execs: 0,
};

class Stand {
  readonly entries: Draft[] = [];
  readonly ended: string[] = [];
  readonly raised: string[] = [];
  readonly drift: RunDrift;
  now: Fingerprint | undefined = taken({ TZ: 'UTC' });
  first: Fingerprint | undefined = taken({ TZ: 'UTC' });
  looks = 0;
  broken: Error | undefined;
  isFull = false;

  constructor(
    reactions: Partial<Record<DriftKind, DriftReaction>> = {},
    check: readonly DriftCheck[] = ['open', 'close'],
    every = 1,
  ) {
    const rules: EffectiveDrift = {
      ...noDriftRules,
      check,
      afterCallsEvery: every,
      reactions: { ...noDriftRules.reactions, ...reactions },
    };
    const append = async (draft: Draft): Promise<never> => {
      if (this.isFull) throw new Error('the disk is full');
      this.entries.push(draft);
      return undefined as never;
    };
    this.drift = new RunDrift({ rules, journal: { append }, end: (reason) => this.ended.push(reason) });
    this.drift.begin({
      reclassify: async (by) => void this.raised.push(by),
      fingerprints: {
        opened: async () => this.first && { fingerprint: this.first, document: this.first.digest },
        begun: async () => this.first && { fingerprint: this.first, document: this.first.digest },
        take: async () => {
          this.looks++;
          if (this.broken !== undefined) throw this.broken;
          if (this.now === undefined) throw new RunnerError('sandbox_lost', 'gone');
          return { fingerprint: this.now, document: this.now.digest };
        },
      },
    });
  }

  async opened(lock?: string): Promise<this> {
    await this.drift.opened(lock === undefined ? undefined : parseLock(lock));
    return this;
  }

  get found(): readonly unknown[] {
    return this.entries.flatMap((entry) =>
      entry.type === 'drift.found'
        ? entry.data.findings.map(({ kind, reaction, callId }) => [entry.data.at, kind, reaction, callId])
        : [],
    );
  }
}

const lockFor = (env: Readonly<Record<string, string>>): string => formatLock(lockOf(taken(env)));

test('an environment that is the one of its lock is held, and one that is not is found, before any call', async () => {
  const held = await new Stand().opened(lockFor({ TZ: 'UTC' }));
  expect(held.entries.map(({ type }) => type)).toEqual(['drift.held']);
  const other = await new Stand().opened(lockFor({ TZ: 'Asia/Tokyo' }));
  expect(other.found).toEqual([['open', 'env', 'note', undefined]]);
  expect(await other.drift.halted()).toBeUndefined();
});

test('a run whose environment is to fail it does not open, and says why', async () => {
  const stand = new Stand({ env: 'fail' });
  await expect(stand.opened(lockFor({ TZ: 'Asia/Tokyo' }))).rejects.toMatchObject({
    code: 'policy_unenforceable',
    message: expect.stringContaining('TZ is UTC instead of Asia/Tokyo') as string,
  });
  expect(stand.found).toHaveLength(1);
});

test('a clock that is off from the beginning is found without a lock', async () => {
  const stand = new Stand();
  stand.now = undefined;
  const off = fingerprintOf('sandbox', new Date(0), { clock: sectionFrom({ skew_ms: 3_600_000 }) });
  stand.first = off;
  await stand.drift.closing();
  expect(stand.found).toEqual([['open', 'clock', 'note', undefined]]);
});

test('where the policy does not ask, nobody looks', async () => {
  const stand = await new Stand({}, []).opened(lockFor({ TZ: 'Asia/Tokyo' }));
  await stand.drift.called('a', ended({ descendantsAlive: 2 }));
  await stand.drift.closing();
  expect([stand.entries, stand.looks]).toEqual([[], 0]);
});

test('at the end it is looked once more, and what changed since the opening is told once', async () => {
  const stand = await new Stand().opened();
  stand.now = taken({ TZ: 'Asia/Tokyo' });
  await stand.drift.closing();
  await stand.drift.closing();
  expect(stand.found).toEqual([['close', 'env', 'note', undefined]]);
});

test('after so many calls it is looked; of one call alone it is known that it did it', async () => {
  const stand = await new Stand({}, ['after_calls'], 2).opened();
  await stand.drift.called('a', ended());
  expect(stand.looks).toBe(0);
  stand.now = taken({ TZ: 'Asia/Tokyo' });
  await stand.drift.called('b', ended());
  expect([stand.looks, stand.found]).toEqual([1, [['call', 'env', 'note', undefined]]]);
  const each = await new Stand({}, ['after_calls'], 1).opened();
  each.now = taken({ TZ: 'Asia/Tokyo' });
  await each.drift.called('b', ended());
  expect(each.found).toEqual([['call', 'env', 'note', 'b']]);
});

test.each<readonly [string, Partial<CallEnd>, DriftKind]>([
  ['leaves a process', { descendantsAlive: 1 }, 'process_left'],
  ['runs out of memory', { outcome: { kind: 'out_of_memory', limitBytes: 9, code: 137 } }, 'resource_pressure'],
  ['runs out of processes', { outcome: { kind: 'pids_limit', limit: 9, code: 1 } }, 'resource_pressure'],
  ['fills the disk', { outcome: { kind: 'disk_full', where: ['/tmp'], code: 1 } }, 'resource_pressure'],
])('a call that %s is told by its own end, without a look', async (_, end, kind) => {
  const stand = await new Stand({}, ['after_calls'], 5).opened();
  await stand.drift.called('a', ended(end));
  expect([stand.found, stand.looks]).toEqual([[['call', kind, 'note', 'a']], 0]);
});

test('stop lets no further call in, and says by which rule; the run goes on to its end', async () => {
  const stand = await new Stand({ resource_pressure: 'stop' }).opened();
  await stand.drift.outside(container, { ...container, limits: { memoryBytes: 10 } });
  expect(await stand.drift.halted()).toMatchObject({ kind: 'refused', rule: 'drift.resource_pressure' });
  expect([stand.ended, stand.drift.failed]).toEqual([[], false]);
});

test('fail ends the run too, and nothing of it is to be exported', async () => {
  const stand = await new Stand({ egress: 'fail' }).opened();
  await stand.drift.outside(container, { ...container, networks: ['bridge', 'none'] });
  expect(await stand.drift.halted()).toMatchObject({ rule: 'drift.egress' });
  expect(stand.ended).toEqual([expect.stringContaining('bridge')]);
  expect(stand.drift.failed).toBe(true);
});

test('reclassify raises the risk; what cannot run at that risk does not run', async () => {
  const stand = await new Stand({ engine: 'reclassify' }).opened();
  const renamed = { ...container, state: { ...container.state, name: 'x' } };
  await stand.drift.outside(container, renamed);
  expect([stand.raised, await stand.drift.halted()]).toEqual([['drift.engine'], undefined]);
});

test('the same thing from outside is told once, however often it is looked', async () => {
  const stand = await new Stand().opened();
  const changed = { ...container, limits: { memoryBytes: 10 } };
  for (let looks = 0; looks < 3; looks++) await stand.drift.outside(container, changed);
  expect(stand.found).toHaveLength(1);
  await stand.drift.outside(container, { ...container, limits: { memoryBytes: 11 } });
  expect(stand.found).toHaveLength(2);
});

test('what cannot be recorded lets nothing in', async () => {
  const stand = await new Stand().opened();
  stand.isFull = true;
  await stand.drift.outside(container, undefined);
  expect(await stand.drift.halted()).toMatchObject({ rule: 'gate.drift' });
});

test('a run that was stopped is stopped under the next runner too, which tells nothing again', async () => {
  const before = await new Stand({ resource_pressure: 'stop' }).opened();
  const changed = { ...container, limits: { memoryBytes: 10 } };
  await before.drift.outside(container, changed);
  const found = before.entries.flatMap((entry) => (entry.type === 'drift.found' ? [entry.data] : []));
  const after = new Stand({ resource_pressure: 'stop' });
  after.drift.restore(found);
  expect(await after.drift.halted()).toMatchObject({ rule: 'drift.resource_pressure' });
  await after.drift.outside(container, changed);
  await after.drift.closing();
  expect(after.entries.map(({ type }) => type)).toEqual(['drift.held']);
});

test('where nobody can look inside any more, nothing is made up', async () => {
  const stand = await new Stand().opened();
  stand.now = undefined;
  await stand.drift.closing();
  expect(stand.entries).toEqual([]);
});

test('a lock is not taken for held where nobody could look', async () => {
  const stand = new Stand();
  stand.first = undefined;
  await stand.opened(lockFor({ TZ: 'UTC' }));
  expect(stand.found).toEqual([['open', 'engine', 'note', undefined]]);
});

test('who keeps a look from being taken gains nothing: the strictest reaction of the policy follows', async () => {
  const slow = new RunnerError('engine_timeout', 'the hand was too slow');
  for (const keep of [(stand: Stand) => (stand.broken = slow), (stand: Stand) => (stand.first = undefined)]) {
    const stand = await new Stand({ lockfile: 'verify', image: 'stop' }).opened();
    keep(stand);
    await stand.drift.closing();
    expect(stand.found).toEqual([['close', 'engine', 'stop', undefined]]);
  }
  const failing = await new Stand({ lockfile: 'fail' }, ['after_calls'], 1).opened();
  failing.broken = slow;
  await failing.drift.called('a', ended());
  expect([failing.drift.failed, failing.ended.length]).toEqual([true, 1]);
});
