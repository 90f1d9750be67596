/**
 * What a count justifies, in words: with 95 % confidence, how often it fails at most, or at least passes. Exact (Clopper and
 * Pearson), one-sided: nobody is told more than the counts say.
 */
export function boundText(failed: number, runs: number): string {
  const counts = `${failed} of ${runs} failed`;
  if (runs === 0) return 'nothing was run';
  if (failed === 0)
    return `${counts}: fails less than ${percentUp(upperBound(0, runs))} of the time, with 95 % confidence`;
  if (failed === runs)
    return `${counts}: passes less than ${percentUp(upperBound(0, runs))} of the time, with 95 % confidence`;
  const most = percentUp(upperBound(failed, runs));
  const least = percentDown(1 - upperBound(runs - failed, runs));
  return `${counts}: fails more than ${least} and less than ${most} of the time, each with 95 % confidence`;
}

/** The largest rate at which so few, or fewer, would still be seen once in twenty. */
export function upperBound(seen: number, runs: number, doubt = 0.05): number {
  if (seen >= runs) return 1;
  let low = 0;
  let high = 1;
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2;
    if (atMost(seen, runs, middle) > doubt) low = middle;
    else high = middle;
  }
  return high;
}

/** Of a binomial distribution. */
function atMost(seen: number, runs: number, rate: number): number {
  let term = (1 - rate) ** runs;
  let sum = term;
  for (let k = 1; k <= seen; k++) {
    term *= ((runs - k + 1) / k) * (rate / (1 - rate));
    sum += term;
  }
  return sum;
}

function percentUp(rate: number): string {
  return `${Math.ceil(rate * 100 - 1e-9)} %`;
}

function percentDown(rate: number): string {
  return `${Math.floor(rate * 100 + 1e-9)} %`;
}
