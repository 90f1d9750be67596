import type { EntryData } from '../journal/entry.ts';
import { driftReactions, type DriftReaction } from '../policy/language/drift.ts';
import type { EffectiveDrift } from '../policy/policy.ts';
import type { Comparison } from './compare.ts';
import { shown, type DriftFinding } from './findings.ts';

export type FoundData = EntryData<'drift.found'>;

/** So many fit into an entry of a journal, whatever they say. */
const recordedMax = 24;

/** What a policy says of findings, as it is recorded; pure. Undefined: there are none. */
export function reactTo(
  { findings, more }: Pick<Comparison, 'findings' | 'more'>,
  { reactions }: Pick<EffectiveDrift, 'reactions'>,
  when: Pick<FoundData, 'at' | 'against'>,
): FoundData | undefined {
  if (findings.length === 0) return undefined;
  const told = inRoom(findings, reactions);
  const left = Object.values(more).reduce((sum, count) => sum + count, findings.length - told.length);
  return {
    ...when,
    findings: told.map((finding) => ({ ...recorded(finding), reaction: reactions[finding.kind] })),
    ...(left === 0 ? {} : { more: left }),
  };
}

/** The strictest of all that follow. */
export function strictestOf(reactions: readonly DriftReaction[]): DriftReaction {
  return driftReactions.findLast((reaction) => reactions.includes(reaction)) ?? 'note';
}

/** Likeliest first; but what has the strictest reaction is never the one that is left out. */
function inRoom(findings: readonly DriftFinding[], reactions: EffectiveDrift['reactions']): readonly DriftFinding[] {
  if (findings.length <= recordedMax) return findings;
  const strictness = ({ kind }: DriftFinding): number => driftReactions.indexOf(reactions[kind]);
  const kept = new Set([...findings].sort((a, b) => strictness(b) - strictness(a)).slice(0, recordedMax));
  return findings.filter((finding) => kept.has(finding));
}

function recorded({ kind, source, key, expected, found, text, callId }: DriftFinding) {
  return {
    kind,
    source,
    key: shown(key),
    ...(expected === undefined ? {} : { expected: shown(expected) }),
    ...(found === undefined ? {} : { found: shown(found) }),
    text,
    ...(callId === undefined ? {} : { callId }),
  };
}
