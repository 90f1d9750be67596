import { expect, test } from 'vitest';
import { digestOf } from '../digest.ts';
import type { Promotion } from '../promotion/ledger.ts';
import type { Review } from '../promotion/review.ts';
import { judgementsOf, type Judgement } from './judgement.ts';

const run = '01hzzzzzzzzzzzzzzzzzzzzzzz';
const timeOf = (hour: number): string => `2026-01-01T${String(hour).padStart(2, '0')}:00:00.000Z`;

/** `grace+3`: accepted by grace at three; `-` rejects. */
function reviewsOf(...said: readonly string[]): readonly Review[] {
  return said.map((one, at) => {
    const [, by = '', sign, hour] = /^(\w+)([+-])(\d+)$/.exec(one) ?? [];
    const verdict = sign === '+' ? 'accepted' : 'rejected';
    return {
      id: `${at}`,
      bundle: digestOf(one),
      run,
      verdict,
      by,
      known: 'named',
      reason: 'so',
      at: timeOf(Number(hour)),
    };
  });
}

/** `3`: done at three; `3x`: and taken back; `?`: never done. */
function promotionsOf(...done: readonly string[]): readonly Promotion[] {
  return done.map((one) => {
    const at = timeOf(Number.parseInt(one, 10));
    return {
      id: one,
      intended: { run },
      ...(one === '?' ? {} : { done: { at } }),
      ...(one.endsWith('x') ? { rolledBack: { at } } : {}),
    } as Promotion;
  });
}

test.each<[string, readonly string[], readonly string[], Partial<Judgement> | undefined]>([
  ['nobody has said anything', [], [], undefined],
  ['one accepts', ['ada+1'], [], { acceptedAt: timeOf(1), firstReview: { at: timeOf(1), verdict: 'accepted' } }],
  ['one rejects', ['ada-1'], [], { acceptedAt: null, firstReview: { at: timeOf(1), verdict: 'rejected' } }],
  ['one accepts, another rejects', ['ada+1', 'bob-2'], [], { acceptedAt: null }],
  ['who rejected accepts later', ['ada-1', 'ada+3'], [], { acceptedAt: timeOf(3) }],
  ['who accepted rejects later', ['ada+1', 'ada-3'], [], { acceptedAt: null }],
  [
    'the first is the earliest, however they are listed',
    ['bob-5', 'ada+1'],
    [],
    { firstReview: { at: timeOf(1), verdict: 'accepted' } },
  ],
  ['promoted without a review', [], ['4'], { acceptedAt: timeOf(4), promoted: 1, rolledBack: 0, firstReview: null }],
  ['promoted, and taken back', ['ada+1'], ['4x'], { acceptedAt: null, promoted: 1, rolledBack: 1 }],
  ['promoted twice, taken back once', [], ['4x', '6'], { acceptedAt: timeOf(6), promoted: 2, rolledBack: 1 }],
  ['intended, and never done', ['ada+1'], ['?'], { acceptedAt: timeOf(1), promoted: 0, rolledBack: 0 }],
])('%s', (_, reviews, promotions, expected) => {
  const found = judgementsOf(reviewsOf(...reviews), promotionsOf(...promotions)).get(run);
  if (expected === undefined) expect(found).toBeUndefined();
  else expect(found).toMatchObject(expected);
});
