import { printable } from '../../journal/printable.ts';
import type { Failure } from '../../failures/failure.ts';
import { evidenceLinesMax, lineCharsMax, type GateResult, type Verdict } from '../verification.ts';

/** What one gate came to, and why, for those who count. */
export interface Judged {
  readonly result: GateResult;
  readonly failures: readonly Failure[];
}

/** Text of a sandbox, safe to show, and not too long for one line of a verification. */
export function line(text: string, charsMax = lineCharsMax): string {
  const shown = printable(text);
  return shown.length <= charsMax ? shown : `${shown.slice(0, charsMax - 1)}…`;
}

/** The first of them, and how many more there are. */
export function lines(all: readonly string[]): readonly string[] {
  if (all.length <= evidenceLinesMax) return all.map((one) => line(one));
  const shown = all.slice(0, evidenceLinesMax - 1).map((one) => line(one));
  return [...shown, `… and ${all.length - shown.length} more`];
}

/** Of a gate that every candidate passes through. */
export function builtin(
  id: string,
  verdict: Verdict,
  reason: string,
  evidence: readonly string[] = [],
  failure?: Pick<Failure, 'class' | 'attribution'>,
): Judged {
  const result: GateResult = {
    id,
    kind: 'builtin',
    required: true,
    verdict,
    reason: line(reason),
    evidence: lines(evidence),
  };
  if (failure === undefined) return { result, failures: [] };
  const text = line([reason, ...evidence].join('; '));
  return { result, failures: [{ ...failure, retryable: false, where: `gate ${id}`, evidence: text }] };
}
