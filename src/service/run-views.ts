import type { RunView } from '../contract/run-view.ts';
import type { Run } from '../runner.ts';
import type { RunRow } from '../store/runs.ts';

/** What the service uses of an open run. */
export type OpenedRun = Pick<
  Run,
  | 'id'
  | 'dir'
  | 'policy'
  | 'image'
  | 'base'
  | 'call'
  | 'answer'
  | 'isPast'
  | 'making'
  | 'poll'
  | 'tools'
  | 'remaining'
  | 'findCommand'
  | 'diff'
  | 'candidate'
  | 'summary'
  | 'outcome'
  | 'isClosing'
  | 'snapshot'
  | 'restore'
  | 'reach'
  | 'narrowEgress'
  | 'revokeCredential'
  | 'forward'
  | 'fingerprints'
  | 'noteParticipant'
  | 'attachContext'
  | 'worker'
  | 'lost'
  | 'close'
>;

export function runView(row: RunRow, run: OpenedRun | undefined): RunView {
  const open = row.state === 'open' ? run : undefined;
  return {
    id: row.id,
    name: row.name,
    state: row.state,
    policy: row.policy,
    lane: row.lane,
    class: row.class,
    team: row.team,
    openedBy: row.identity,
    openedAt: row.openedAt,
    closedAt: row.closedAt,
    outcome: row.outcome,
    summary: row.summary ?? (open?.summary || null),
    image: open?.image.reference ?? null,
    base: open?.base.digest ?? null,
    budget: open?.remaining() ?? null,
  };
}
