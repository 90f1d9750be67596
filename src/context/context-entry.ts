import type { Digest } from '../digest.ts';
import type { EntryData } from '../journal/entry.ts';
import { printable } from '../journal/printable.ts';
import type { ContextSnapshot } from './context-snapshot.ts';

/** So much of a summary is in the journal. */
const summaryMax = 500;

interface Numbered {
  readonly digest: Digest;
  readonly number: number;
  readonly bytes: number;
  readonly by?: string | undefined;
}

/** What a journal says of a snapshot: of the same one always the same. */
export function contextEntry(snapshot: ContextSnapshot, { by, ...numbered }: Numbered): EntryData<'context.attached'> {
  const { version, at, summary, source_refs: sources, diffs, model, lane, tokens, cost } = snapshot;
  return {
    ...numbered,
    version,
    at,
    summary: clipped(printable(summary)),
    sources: sources.length,
    diffs: diffs.length,
    ...(model === undefined ? {} : { model: printable(model) }),
    ...(lane === undefined ? {} : { lane }),
    ...(tokens === undefined ? {} : { tokens }),
    ...(cost === undefined ? {} : { cost }),
    ...(by === undefined ? {} : { by }),
  };
}

function clipped(text: string): string {
  return text.length <= summaryMax ? text : `${text.slice(0, summaryMax)}...`;
}
