import { digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import type { ReplayRecord } from './replay-record.ts';

/** A clean one, of a run that never was. */
export function someReplay(over: Partial<ReplayRecord> = {}): ReplayRecord {
  return {
    v: 1,
    id: newId(),
    run: newId(),
    at: '2026-01-02T03:04:05.678Z',
    journal: digestOf('journal'),
    policy: digestOf('policy'),
    candidate: digestOf('candidate'),
    base: digestOf('base'),
    image: { reference: 'base', id: digestOf('image') },
    replayed: { run: newId(), policy: digestOf('policy'), journal: digestOf('again') },
    network: false,
    calls: { total: 3, replayed: 3, denied: 1 },
    verdict: 'clean',
    repeatable: true,
    leftOut: [],
    noise: { patterns: [], met: [{ by: 'duration', declared: 'always', lines: 2 }] },
    notes: [],
    ...over,
  };
}
