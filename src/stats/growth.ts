/** Whether what goes wrong grows faster than what is accepted: the window is cut in the middle, and its halves are compared. */
export interface Growth {
  /** `too_few`: nothing can be said. */
  readonly verdict: 'grows_faster' | 'does_not' | 'too_few';
  /** Closed runs, failures and accepted changes of the first and the second half. */
  readonly runs: readonly [number, number];
  readonly failures: readonly [number, number];
  readonly accepted: readonly [number, number];
}

/** In each half. */
const halfRunsMin = 10;
/** In both together. */
const failuresMin = 20;
/** By so much more than the accepted changes do the failures have to grow. */
const growthMargin = 1.25;

/**
 * The rule. Failures grow faster when there are more of them in the second half, and by a quarter more than accepted changes have
 * grown: (F2 + 1) / (F1 + 1) > 1.25 × (A2 + 1) / (A1 + 1). One is added to each so that a half without any divides nothing by zero.
 * Nothing is said with fewer than 10 closed runs in a half, or fewer than 20 failures in all.
 */
export function growthOf(counted: Omit<Growth, 'verdict'>): Growth {
  const { runs, failures, accepted } = counted;
  const tooFew = Math.min(...runs) < halfRunsMin || failures[0] + failures[1] < failuresMin;
  if (tooFew) return { verdict: 'too_few', ...counted };
  // Without a division: the same, and exact for whole numbers.
  const faster = (failures[1] + 1) * (accepted[0] + 1) > growthMargin * (accepted[1] + 1) * (failures[0] + 1);
  return { verdict: failures[1] > failures[0] && faster ? 'grows_faster' : 'does_not', ...counted };
}
