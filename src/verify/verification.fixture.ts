import { digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import type { Verification } from './verification.ts';

/** One that passed, of a run that never was. */
export function someVerification(over: Partial<Verification> = {}): Verification {
  return {
    v: 1,
    id: newId(),
    run: newId(),
    at: '2026-01-02T03:04:05.678Z',
    candidate: digestOf('candidate'),
    base: { digest: digestOf('base') },
    policy: digestOf('policy'),
    image: { reference: 'base', id: digestOf('image') },
    verdict: 'passed',
    risk: { from: 'low', to: 'low', because: [] },
    checksTouched: [],
    gates: [
      {
        id: 'scope',
        kind: 'builtin',
        required: true,
        verdict: 'passed',
        reason: 'all 3 are in the scope',
        evidence: [],
      },
    ],
    failures: [],
    runs: [],
    ...over,
  };
}
