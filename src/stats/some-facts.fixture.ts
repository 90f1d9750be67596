import { newId } from '../ids.ts';
import { factsVersion, type RunFacts } from './run-facts.ts';

/** Of a run that did well, and said little. */
export function someFacts(over: Partial<RunFacts> = {}): RunFacts {
  return {
    v: factsVersion,
    run: newId(),
    openedAt: '2026-01-02T03:04:05.678Z',
    purpose: 'task',
    policy: 'default',
    lane: 'explore',
    class: null,
    models: [],
    forkedFrom: null,
    outcome: 'finished',
    ms: 60_000,
    calls: 3,
    denied: 0,
    cpuMs: 1000,
    tokens: null,
    money: {},
    failures: {},
    drift: {},
    approvals: { asked: 0, approved: 0, denied: 0, unanswered: 0, waitsMs: [] },
    verdict: null,
    gates: { repeated: 0, flaky: 0 },
    linesSinceFork: null,
    ...over,
  };
}
