import type { Approver, Verdict } from '../approvals/approval.ts';
import type { Entry, EntryData } from '../journal/entry.ts';

/**
 * Answers as people did in the run that is made again, and in nobody's name else: what its journal does not have as approved is not
 * approved. Each answer counts once.
 */
export function recordedApprover(entries: readonly Entry[]): Approver {
  const asked = new Map<string, EntryData<'approval.requested'>>();
  const answers = new Map<string, EntryData<'approval.decided'>[]>();
  for (const entry of entries) {
    if (entry.type === 'approval.requested') asked.set(entry.data.id, entry.data);
    if (entry.type !== 'approval.decided') continue;
    const request = asked.get(entry.data.id);
    if (request === undefined) continue;
    const key = keyOf(request);
    answers.set(key, [...(answers.get(key) ?? []), entry.data]);
  }
  return async (request) => verdictsOf(answers.get(keyOf(request))?.shift());
}

function keyOf({
  at,
  category,
  callId = '',
}: Pick<EntryData<'approval.requested'>, 'at' | 'category' | 'callId'>): string {
  return `${at} ${callId} ${category}`;
}

function verdictsOf(decided: EntryData<'approval.decided'> | undefined): readonly Verdict[] {
  if (decided === undefined) return [];
  const { verdict, by, reason } = decided;
  if (verdict === 'approved') return by.map((who) => ({ approve: true, by: who, reason }));
  return verdict === 'denied' ? [{ approve: false, by: by[0] ?? 'nobody', reason }] : [];
}
