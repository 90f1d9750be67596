import { expect, test } from 'vitest';
import type { Draft, EntryData } from '../journal/entry.ts';
import { closed, denied, ended, entriesOf, intended, opened, started, storyOf } from '../journal/story.fixture.ts';
import { someVerification } from '../verify/verification.fixture.ts';
import type { Verification } from '../verify/verification.ts';
import { FactsOfRun } from './facts.ts';
import { failing } from '../../test/fixtures/many-runs.ts';
import { RunFacts, waitsMax } from './run-facts.ts';

function factsOf(drafts: readonly Draft[], verification?: Verification): RunFacts {
  const found = new FactsOfRun();
  for (const entry of entriesOf(drafts)) found.add(entry);
  const facts = found.facts(verification, null);
  if (facts === undefined) throw new Error('there are none');
  return RunFacts.parse(facts);
}

function openedWith(over: Partial<EntryData<'run.opened'>>): Draft {
  return { type: 'run.opened', data: { ...(opened.data as EntryData<'run.opened'>), ...over } };
}

function asked(id: string): Draft {
  const digest = opened.type === 'run.opened' ? opened.data.image.id : 'sha256:0';
  const when = { quorum: 1, expiresAt: '2026-01-01T01:00:00.000Z' };
  return { type: 'approval.requested', data: { id, category: 'deploy', at: 'call', rule: 'r', digest, ...when } };
}

function answered(id: string, verdict: EntryData<'approval.decided'>['verdict']): Draft {
  const digest = opened.type === 'run.opened' ? opened.data.image.id : 'sha256:0';
  return { type: 'approval.decided', data: { id, category: 'deploy', verdict, by: [], reason: 'so', digest } };
}

const idOf = (n: number): string => `01h${String(n).padStart(23, 'x')}`;

test('nothing is said of a journal in which nothing is', () => {
  expect(new FactsOfRun().facts(undefined, null)).toBeUndefined();
});

test('calls, denials, processor time and how long it took are counted from the entries', () => {
  const facts = factsOf([
    opened,
    started,
    intended('a'),
    ended('a'),
    denied('b'),
    intended('c'),
    ended('c'),
    closed(2, 1),
  ]);
  expect(facts).toMatchObject({ calls: 2, denied: 1, cpuMs: 2, outcome: 'finished', ms: 7, purpose: 'task' });
});

test('an open run has no end', () => {
  expect(factsOf([opened, started, intended('a')])).toMatchObject({ outcome: null, ms: null, calls: 1 });
});

test('lane and class are those of the policy that holds', () => {
  const policy = (opened.data as EntryData<'run.opened'>).policy;
  const effective = { ...policy.effective, lane: 'commit', taskClass: 'bugfix' };
  const facts = factsOf([openedWith({ policy: { ...policy, name: 'ours', effective } })]);
  expect(facts).toMatchObject({ lane: 'commit', class: 'bugfix', policy: 'ours' });
  expect(factsOf([opened])).toMatchObject({ lane: null, class: null, policy: 'test' });
});

test('a run that was made to verify or replay another is no task', () => {
  expect(factsOf([openedWith({ replays: { run: idOf(1) } })]).purpose).toBe('replay');
  const facts = factsOf([openedWith({ verifies: { run: idOf(1), gate: 'unit', attempt: '1' } })]);
  expect(facts.purpose).toBe('verification');
});

function attached(number: number, over: Partial<EntryData<'context.attached'>> = {}): Draft {
  const digest = opened.type === 'run.opened' ? opened.data.image.id : 'sha256:0';
  const kept = { number, digest, bytes: 9, version: number, at: 'other', summary: 'x', sources: 0, diffs: 0 } as const;
  return { type: 'context.attached', data: { ...kept, ...over } };
}

test('what the harness says was spent is added up, by currency; what it never said is not known', () => {
  const facts = factsOf([
    opened,
    attached(1, { model: 'small', tokens: { input: 100, output: 10 }, cost: { amount: 0.1, currency: 'EUR' } }),
    attached(2, { tokens: { input: 5, output: 1 }, cost: { amount: 0.2, currency: 'EUR' } }),
    attached(3, { cost: { amount: 0.000_001, currency: 'USD' } }),
  ]);
  expect(facts).toMatchObject({ tokens: { input: 105, output: 11 }, money: { EUR: 300_000, USD: 1 } });
  expect(factsOf([opened])).toMatchObject({ tokens: null, money: {}, models: [] });
});

test('the models of a run are those that its request, its contexts and its hand-overs name, each once', () => {
  const from = { run: idOf(1), model: 'small' };
  const facts = factsOf([
    openedWith({ request: { model: 'small' } }),
    attached(1, { model: 'small' }),
    { type: 'lane.handed_over', data: { from, to: { lane: 'commit', model: 'large' } } },
    attached(2, { model: 'large' }),
  ]);
  expect(facts.models).toEqual(['large', 'small']);
});

test('findings of drift are counted by kind, with those that an entry had no room for', () => {
  const finding = { source: 'env', key: 'TZ', text: 'TZ is another', reaction: 'note' } as const;
  const found = (kind: 'env' | 'clock', more?: number): Draft => ({
    type: 'drift.found',
    data: { at: 'close', against: 'open', findings: [{ ...finding, kind }], ...(more === undefined ? {} : { more }) },
  });
  expect(factsOf([opened, found('env'), found('env', 7), found('clock')]).drift).toEqual({
    '(more)': 7,
    clock: 1,
    env: 2,
  });
});

test('failures are counted by class, those of the newest verification too', () => {
  const failure = { class: 'flaky_verifier', attribution: 'environment', retryable: true, where: 'gate u' } as const;
  const verification = someVerification({ verdict: 'failed', failures: [{ ...failure, evidence: 'both' }] });
  const facts = factsOf(
    [opened, started, intended('a'), failing('a', 1), intended('b'), failing('b', 127), denied('c'), closed(2, 1)],
    verification,
  );
  expect(facts.failures).toEqual({ environment_mismatch: 1, flaky_verifier: 1, policy: 1, semantic_defect: 1 });
  expect(facts.verdict).toBe('failed');
});

test('gates that were repeated are counted, and those whose answers did not agree', () => {
  const gate = { id: 'unit', kind: 'command', required: true, verdict: 'passed', reason: '', evidence: [] } as const;
  const told = (verdict: 'stable_pass' | 'failed_before' | 'flaky_order') => ({
    ...gate,
    stability: { verdict, attempts: [], bound: '' },
  });
  const gates = [gate, told('stable_pass'), told('failed_before'), told('flaky_order')];
  expect(factsOf([opened], someVerification({ gates })).gates).toEqual({ repeated: 3, flaky: 1 });
  expect(factsOf([opened]).gates).toEqual({ repeated: 0, flaky: 0 });
});

test('approvals are asked for, answered, or not; how long each waited is that of the clock of the run', () => {
  const [yes, no, late, broken, open] = [1, 2, 3, 4, 5].map(idOf) as [string, string, string, string, string];
  const facts = factsOf([
    opened,
    asked(yes),
    asked(no),
    asked(late),
    asked(broken),
    asked(open),
    answered(yes, 'approved'),
    answered(no, 'denied'),
    answered(late, 'expired'),
    answered(broken, 'broken'),
  ]);
  expect(facts.approvals).toEqual({ asked: 5, approved: 1, denied: 1, unanswered: 2, waitsMs: [5, 5, 5, 5] });
});

test('what is kept of a run is bounded, and what its names do to a terminal is escaped', () => {
  const policy = { ...(opened.data as EntryData<'run.opened'>).policy, name: `\u001b[2J${'x'.repeat(500)}` };
  const waits = Array.from({ length: waitsMax + 10 }, (_, n) => n).flatMap((n) => [
    asked(idOf(n)),
    answered(idOf(n), 'approved'),
  ]);
  const facts = factsOf([openedWith({ policy }), ...waits]);
  expect(facts.policy).toMatch(/^\\x1b\[2Jx{93}$/);
  expect(facts.approvals).toMatchObject({ asked: waitsMax + 10, approved: waitsMax + 10 });
  expect(facts.approvals.waitsMs).toHaveLength(waitsMax);
});

test('a journal that goes on says more, and never less', () => {
  const story = storyOf(30);
  const found = new FactsOfRun();
  let last = { calls: 0, denied: 0, cpuMs: 0 };
  for (const entry of entriesOf(story)) {
    found.add(entry);
    const { calls = 0, denied: refused = 0, cpuMs = 0 } = found.facts(undefined, null) ?? {};
    expect([calls - last.calls, refused - last.denied, cpuMs - last.cpuMs].every((more) => more >= 0)).toBe(true);
    last = { calls, denied: refused, cpuMs };
  }
  expect(last).toEqual({ calls: 30, denied: 10, cpuMs: 30 });
});

test('tokens that are claimed beyond all counting leave facts that can be read again', () => {
  const most = { input: Number.MAX_SAFE_INTEGER, output: Number.MAX_SAFE_INTEGER };
  const facts = factsOf([opened, attached(1, { tokens: most }), attached(2, { tokens: most })]);
  expect(RunFacts.parse(facts)).toMatchObject({ tokens: most });
});
