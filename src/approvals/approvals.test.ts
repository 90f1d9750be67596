import { chmod, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { newId } from '../ids.ts';
import { bindingOf, type ApprovalRequest, type Approver, type Verdict } from './approval.ts';
import { Approvals, type ApprovalEvent, type Ask, type RecordedApproval, type Terms } from './approvals.ts';

const run = newId();
const policy = `sha256:${'a'.repeat(64)}` as const;
const terms: Terms = { quorum: 1, timeoutMs: 60_000, remember: 'none', reasonRequired: false };
const yes = (by: string, reason = ''): Verdict => ({ approve: true, by, reason });

let directory: string;
let events: ApprovalEvent[];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'glovebox-approvals-'));
  events = [];
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

function open(approver: Approver | undefined, nowMs: () => number = Date.now): Promise<Approvals> {
  const record = async (event: ApprovalEvent): Promise<void> => void events.push(event);
  return Approvals.open({ run, directory, approver, record, nowMs });
}

function ask(subject: unknown, change: Partial<Ask> = {}): Ask {
  const digest = bindingOf(subject, { policy, base: 'base', run });
  const text = JSON.stringify(subject);
  return { category: 'dependency', at: 'call', subject: text, rule: 'r', reach: '', digest, terms, ...change };
}

describe('an approval', () => {
  test('is asked for with all that will happen, and on record before and after', async () => {
    const seen: ApprovalRequest[] = [];
    const approvals = await open(async (request) => {
      expect(events.map(({ kind }) => kind)).toEqual(['requested']);
      expect(await readdir(directory)).toEqual([`${request.id}.json`]);
      seen.push(request);
      return [yes('ada', 'fine')];
    });
    expect(await approvals.ask(ask({ argv: ['npm', 'ci'] }))).toEqual({
      kind: 'approved',
      by: ['ada'],
      reason: 'fine',
    });
    expect(seen[0]).toMatchObject({ run, category: 'dependency', subject: '{"argv":["npm","ci"]}', quorum: 1 });
    expect(events.map(({ kind }) => kind)).toEqual(['requested', 'decided']);
  });

  const cases: readonly [string, Partial<Terms>, readonly Verdict[], string][] = [
    ['one of one', {}, [yes('ada')], 'approved'],
    ['two of two', { quorum: 2 }, [yes('ada'), yes('bob')], 'approved'],
    ['one of two', { quorum: 2 }, [yes('ada')], 'denied'],
    ['one person twice', { quorum: 2 }, [yes('ada'), yes('ada')], 'denied'],
    ['one no among many', { quorum: 1 }, [yes('ada'), { approve: false, by: 'bob' }], 'denied'],
    ['nobody', {}, [], 'denied'],
    ['no reason where one is needed', { reasonRequired: true }, [yes('ada', ' ')], 'denied'],
    ['a reason where one is needed', { reasonRequired: true }, [yes('ada', 'tested')], 'approved'],
  ];
  test.each(cases)('%s', async (_, change, verdicts, kind) => {
    const approvals = await open(async () => verdicts);
    expect(await approvals.ask(ask('x', { terms: { ...terms, ...change } }))).toMatchObject({ kind });
  });

  test('that is decided leaves nothing that waits, however many there are in a run', async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning);
    process.on('warning', onWarning);
    try {
      const approvals = await open(async () => [yes('ada')]);
      for (let n = 0; n < 20; n++) expect(await approvals.ask(ask(`${n}`))).toMatchObject({ kind: 'approved' });
      await setImmediate(); // that is when warnings come
      expect(warnings).toEqual([]);
    } finally {
      process.off('warning', onWarning);
    }
  });

  test('where nobody can be asked is denied, and says so', async () => {
    const approvals = await open(undefined);
    expect(await approvals.ask(ask('x'))).toMatchObject({ kind: 'denied', reason: 'there is nobody to ask here' });
  });

  test('that is not decided in time is denied, and whoever is asked is told', async () => {
    let gaveUp = false;
    const approvals = await open(
      (_, signal) =>
        new Promise(() => {
          signal.addEventListener('abort', () => (gaveUp = true));
        }),
    );
    expect(await approvals.ask(ask('x', { terms: { ...terms, timeoutMs: 400 } }))).toMatchObject({ kind: 'expired' });
    expect(gaveUp).toBe(true);
  });

  test('whose asking fails is broken, which lets nothing pass', async () => {
    const approvals = await open(() => Promise.reject(new Error('pager is down')));
    expect(await approvals.ask(ask('x'))).toMatchObject({ kind: 'broken', reason: /pager is down/ });
    const throwing = await open(() => {
      throw new Error('at once');
    });
    expect(await throwing.ask(ask('x'))).toMatchObject({ kind: 'broken' });
  });

  test('that cannot be kept or recorded is not asked for', async () => {
    let asked = 0;
    const approver: Approver = async () => [yes(`${++asked}`)];
    await writeFile(join(directory, 'file'), '');
    const nowhere = await Approvals.open({
      run,
      directory: join(directory, 'file/x'),
      approver,
      record: async () => undefined,
    });
    await expect(nowhere.ask(ask('x'))).rejects.toThrow();
    const record = (): Promise<void> => Promise.reject(new Error('journal is full'));
    const silent = await Approvals.open({ run, directory, approver, record });
    await expect(silent.ask(ask('x'))).rejects.toThrow('journal is full');
    expect(asked).toBe(0);
  });
});

describe('an answer holds for exactly what was shown', () => {
  const changed: readonly [string, Partial<Parameters<typeof bindingOf>[1]>, unknown][] = [
    ['another call', {}, { argv: ['npm', 'ci', '--force'] }],
    ['another policy', { policy: `sha256:${'b'.repeat(64)}` }, { argv: ['npm', 'ci'] }],
    ['another base', { base: 'other' }, { argv: ['npm', 'ci'] }],
    ['another run', { run: newId() }, { argv: ['npm', 'ci'] }],
  ];
  test.each(changed)('%s is asked for anew', async (_, bound, subject) => {
    let asked = 0;
    const approvals = await open(async () => [yes(`${++asked}`)]);
    const remembered = { terms: { ...terms, remember: 'run' as const } };
    await approvals.ask(ask({ argv: ['npm', 'ci'] }, remembered));
    const digest = bindingOf(subject, { policy, base: 'base', run, ...bound });
    await approvals.ask(ask(subject, { ...remembered, digest }));
    expect(asked).toBe(2);
    await approvals.ask(ask({ argv: ['npm', 'ci'] }, remembered));
    expect(asked).toBe(2);
  });

  test('and for one use, unless its category is remembered for the run', async () => {
    let asked = 0;
    const approvals = await open(async () => [yes(`${++asked}`)]);
    await Promise.all([approvals.ask(ask('x')), approvals.ask(ask('x')), approvals.ask(ask('x'))]);
    expect(asked).toBe(3);
  });

  test('and for its category alone', async () => {
    const categories: string[] = [];
    const approvals = await open(async ({ category }) => {
      categories.push(category);
      return [yes('ada')];
    });
    const remember = { ...terms, remember: 'run' as const };
    await approvals.ask(ask('x', { category: 'dependency', terms: remember }));
    await approvals.ask(ask('x', { category: 'secrets', terms: remember }));
    expect(categories).toEqual(['dependency', 'secrets']);
  });
});

describe('after a restart', () => {
  const never: Approver = () => new Promise(() => undefined);

  test('what was pending is pending, and is decided under its old id', async () => {
    const first = await open(never);
    void first.ask(ask('x'));
    await expect.poll(() => first.pending.length).toBe(1);
    await expect.poll(() => events.length).toBe(1);
    const [pending] = first.pending;
    const second = await open(async (request) => [yes(request.id)]);
    expect(second.pending.map(({ id }) => id)).toEqual([pending?.id]);
    expect(await second.ask(ask('x'))).toMatchObject({ kind: 'approved', by: [pending?.id] });
    expect((await open(never)).pending).toEqual([]);
  });

  test('it is not, once its time is over', async () => {
    const first = await open(never, () => 0);
    void first.ask(ask('x'));
    await expect.poll(() => events.length).toBe(1);
    expect((await open(never, () => 60_001)).pending).toEqual([]);
  });

  test('what is remembered for the run still is; what was used is not; what cannot be read counts as not asked', async () => {
    const first = await open(async () => [yes('ada')]);
    await first.ask(ask('once'));
    await first.ask(ask('often', { terms: { ...terms, remember: 'run' } }));
    await writeFile(join(directory, 'x.json'), '{"outcome":{"kind":"approved"}}');
    await chmod(directory, 0o700);
    const second = await open(undefined);
    expect(await second.ask(ask('often', { terms: { ...terms, remember: 'run' } }))).toMatchObject({
      kind: 'approved',
    });
    expect(await second.ask(ask('once'))).toMatchObject({ kind: 'denied' });
  });
});

describe('of a run that goes on', () => {
  const never: Approver = () => new Promise(() => undefined);
  const goOn = (approver: Approver, recorded: [string, RecordedApproval][], nowMs?: () => number): Promise<Approvals> =>
    Approvals.open({
      run,
      directory,
      approver,
      record: async (event) => void events.push(event),
      recorded: new Map(recorded),
      ...(nowMs === undefined ? {} : { nowMs }),
    });
  const unanswered: RecordedApproval = { outcome: undefined, used: false, askedMsAgo: 10 };

  async function waiting(): Promise<string> {
    const first = await open(never);
    void first.ask(ask('x'));
    await expect.poll(() => events.length).toBe(1);
    return events[0]?.request.id ?? '';
  }

  test('people are asked on without the call, once, and their answer is its own', async () => {
    const id = await waiting();
    const seen: string[] = [];
    const next = await goOn(async (request) => (seen.push(request.id), [yes('ada')]), [[id, unanswered]]);
    await next.askOn();
    await expect.poll(() => events.length).toBe(2);
    expect(await next.ask(ask('x'))).toMatchObject({ kind: 'approved', by: ['ada'] });
    expect(seen).toEqual([id]);
    await next.ask(ask('x'));
    expect(seen, 'used once: the same call again is asked for anew').toHaveLength(2);
  });

  test('a no that came meanwhile is the answer, and nobody is asked again for that call', async () => {
    const id = await waiting();
    const seen: string[] = [];
    const next = await goOn(
      async (request) => (seen.push(request.id), [{ approve: false, by: 'bob' }]),
      [[id, unanswered]],
    );
    await next.askOn();
    expect(await next.ask(ask('x'))).toMatchObject({ kind: 'denied', by: ['bob'] });
    expect(seen).toEqual([id]);
  });

  test('what was approved and never done is approved still; what was done or denied is not', async () => {
    for (const [used, asked] of [
      [false, 0],
      [true, 1],
    ] as const) {
      const id = await waiting();
      let times = 0;
      const told: RecordedApproval = { outcome: { kind: 'approved', by: ['ada'], reason: '' }, used, askedMsAgo: 10 };
      const next = await goOn(async () => [yes(`${++times}`)], [[id, told]]);
      expect(next.pending).toEqual([]);
      expect(await next.ask(ask('x'))).toMatchObject({ kind: 'approved' });
      expect(times).toBe(asked);
      events = [];
      await rm(directory, { recursive: true });
    }
  });

  test('what is not on record was not asked; what expired meanwhile is recorded as that', async () => {
    const id = await waiting();
    expect((await goOn(never, [])).pending).toEqual([]);
    const later = await goOn(never, [[id, { ...unanswered, askedMsAgo: 61_000 }]]);
    await later.askOn();
    expect(events.at(-1)).toMatchObject({ kind: 'decided', outcome: { kind: 'expired' }, request: { id } });
  });

  test.each([
    ['ahead', 86_400_000],
    ['back', -86_400_000],
  ])('waits as long as it was to, however far the clock was set %s while nobody was there', async (_, jumpMs) => {
    const id = await waiting();
    const nowMs = (): number => Date.now() + jumpMs;
    const begun = await goOn(never, [[id, { ...unanswered, askedMsAgo: 30_000 }]], nowMs);
    await begun.askOn();
    expect([begun.pending.length, events.length], 'half of its minute is left').toEqual([1, 1]);
    const late = await goOn(never, [[id, { ...unanswered, askedMsAgo: 59_900 }]], nowMs);
    await late.askOn();
    await expect.poll(() => events.at(-1)).toMatchObject({ kind: 'decided', outcome: { kind: 'expired' } });
    await goOn(never, [[id, { ...unanswered, outcome: { kind: 'expired', by: [], reason: '' } }]], nowMs);
    expect((await goOn(never, [[id, unanswered]], nowMs)).pending, 'what has expired stays so').toEqual([]);
  });

  test('that hands it over decides nothing more', async () => {
    const first = await open(never);
    let decided = false;
    void first.ask(ask('x')).then(() => (decided = true));
    await expect.poll(() => events.length).toBe(1);
    first.handOver();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect([decided, events.length]).toEqual([false, 1]);
  });
});

test('a run that closes waits for nobody any more, but what leaves can still be asked for', async () => {
  const approvals = await open(() => new Promise(() => undefined));
  const waiting = approvals.ask(ask('x'));
  await expect.poll(() => events.length).toBe(1);
  approvals.cancelCalls();
  expect(await waiting).toMatchObject({ kind: 'denied', reason: 'the run is closed' });
  expect(await approvals.ask(ask('y'))).toMatchObject({ kind: 'denied' });
  const asked = approvals.ask(ask('z', { at: 'export', terms: { ...terms, timeoutMs: 400 } }));
  expect(await asked).toMatchObject({ kind: 'expired' });
});
