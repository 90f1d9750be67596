import { failureEvidence, type Failure } from '../failures/failure.ts';
import type { Entry } from '../journal/entry.ts';
import { extentOf } from './call-comparer.ts';
import type { Diverged } from './player.ts';
import type { Recorded } from './recorded.ts';
import type { LeftOut } from './replay-record.ts';

/** What is known of both runs, for those who explain; pure. */
export interface Known {
  readonly recorded: Pick<Recorded, 'plan' | 'entries' | 'ended'>;
  /** The journal of the replay. */
  readonly now: readonly Entry[];
  readonly leftOut: readonly LeftOut[];
  readonly network: boolean;
}

/** What on record may have led to a divergence. */
export function hintsOf({ callId = '' }: Diverged, { recorded, leftOut, network }: Known): readonly string[] {
  const { plan } = recorded;
  const host = plan.reached.get(callId);
  const before = [...plan.reached.values()][0];
  return [
    ...(host !== undefined && !network
      ? [`the call reached ${host} then, and the replay has no network: --network gives it that of the run`]
      : []),
    ...(host === undefined && before !== undefined && !network
      ? [`the run reached ${before}, and the replay has no network: --network gives it that of the run`]
      : []),
    ...(host !== undefined && network ? [`the call reached ${host}, which may answer otherwise another time`] : []),
    ...(plan.beside.has(callId) ? ["it ran beside other calls: which of them was first is the moment's"] : []),
    ...(leftOut.length > 0
      ? [`${leftOut.length} calls before or after it were not replayed; what they did is missing`]
      : []),
  ];
}

/** Why it is not repeatable, in the one list of classes. */
export function failureOf(
  diverged: Diverged | undefined,
  leftOut: readonly LeftOut[],
  { recorded: { plan } }: Pick<Known, 'recorded'>,
): Failure {
  const callId = diverged === undefined ? leftOut[0]?.callId : diverged.callId;
  const evidence =
    diverged === undefined
      ? (leftOut[0]?.why ?? '')
      : `${diverged.difference.aspect.replaceAll('_', ' ')}: expected ${diverged.difference.expected}, found ${diverged.difference.found}`;
  return {
    class: 'not_repeatable',
    attribution: diverged !== undefined && plan.reached.size > 0 ? 'environment' : 'agent',
    retryable: false,
    where: callId === undefined ? 'run' : `call ${callId}`,
    evidence: failureEvidence(evidence),
  };
}

/** What by its nature may come out otherwise another time. */
export function notesOf({ recorded, now, network }: Known): readonly string[] {
  const { plan, entries, ended } = recorded;
  const cut = entries.flatMap((entry) => {
    if (entry.type !== 'call.ended' || entry.data.output === undefined) return [];
    const { callId, outcome } = entry.data;
    const extent = extentOf(outcome, plan.signalled.has(callId));
    if (extent === 'whole') return [];
    const how = outcome.kind.replaceAll('_', ' ');
    return extent === undefined
      ? [`call ${callId} ended as ${how}: what it had printed by then is not compared`]
      : [`call ${callId} ended as ${how}: its output is compared as far as both go`];
  });
  const reachedNow = now.some((entry) => entry.type === 'egress.decided' && entry.data.decision === 'allowed');
  return [
    ...(plan.beside.size > 0
      ? [
          `${plan.beside.size} calls ran beside others (${[...plan.beside].slice(0, 8).join(', ')}): who is first is the moment's`,
        ]
      : []),
    ...(network && reachedNow ? ['servers outside were asked again: they may answer otherwise another time'] : []),
    ...(ended.policy.policy.inputs.length > 0
      ? ['directories of this machine that the policy shares were read as they are now']
      : []),
    ...cut,
  ];
}
