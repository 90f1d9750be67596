import { mkdir, utimes, writeFile } from 'node:fs/promises';
import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { canonicalJson, digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import { firstPrev, sealEntry } from '../journal/chain.ts';
import type { Draft, EntryData } from '../journal/entry.ts';
import { opened } from '../journal/story.fixture.ts';

/** Runs to test with: a directory and a journal as they would be, without a sandbox. */
export interface MadeRun {
  readonly by?: EntryData<'run.opened'>['by'];
  readonly effective?: Record<string, unknown>;
  readonly openedMs?: number;
  /** Null: it is still open. */
  readonly closedMs?: number | null;
  /** What happened in between. */
  readonly story?: readonly Draft[];
  readonly outcome?: EntryData<'run.closed'>['outcome'];
  readonly forkedFrom?: EntryData<'run.opened'>['forkedFrom'];
  readonly verifies?: EntryData<'run.opened'>['verifies'];
  /** `calls/<name>`: content. */
  readonly outputs?: Readonly<Record<string, string>>;
}

export const ada = { team: 'a', identity: 'ada', key: 'k1' };

export async function makeRun(dataDir: DataDir, made: MadeRun = {}): Promise<RunDir> {
  const {
    by,
    effective = { name: 'test' },
    openedMs = Date.now() - 1000,
    closedMs = openedMs + 500,
    story = [],
    outputs = {},
  } = made;
  const dir = await dataDir.createRun(newId(openedMs));
  const policy = {
    name: 'test',
    digest: digestOf(canonicalJson(effective)),
    effective,
  } as EntryData<'run.opened'>['policy'];
  const data = {
    ...(opened.data as EntryData<'run.opened'>),
    policy,
    ...(by === undefined ? {} : { by }),
    ...(made.forkedFrom === undefined ? {} : { forkedFrom: made.forkedFrom }),
    ...(made.verifies === undefined ? {} : { verifies: made.verifies }),
  };
  const drafts: [Draft, number][] = [[{ type: 'run.opened', data }, openedMs]];
  drafts.push(...story.map((draft, at): [Draft, number] => [draft, openedMs + at + 1]));
  if (closedMs !== null) drafts.push([closedDraft(story, made.outcome), closedMs]);
  await writeFile(dir.journal, linesAt(dir.id, drafts), { mode: 0o600 });
  await mkdir(dir.callsDir, { recursive: true });
  for (const [name, content] of Object.entries(outputs)) await writeFile(`${dir.callsDir}/${name}`, content);
  const touched = new Date(closedMs ?? openedMs);
  await utimes(dir.journal, touched, touched);
  return dir;
}

function closedDraft(story: readonly Draft[], outcome: MadeRun['outcome'] = 'finished'): Draft {
  const count = (type: Draft['type']): number => story.filter((draft) => draft.type === type).length;
  const [calls, denied] = [count('call.intended'), count('call.denied')];
  return { type: 'run.closed', data: { outcome, summary: 'done', calls, denied, outputBytes: 0, ms: 500 } };
}

function linesAt(run: string, drafts: readonly (readonly [Draft, number])[]): string {
  let prev = firstPrev;
  const openedMs = drafts[0]?.[1] ?? 0;
  return drafts
    .map(([draft, atMs], index) => {
      const position = { seq: index + 1, prev, run, at: new Date(atMs).toISOString(), mono: atMs - openedMs };
      const { entry, line } = sealEntry(draft, position);
      prev = entry.hash;
      return line;
    })
    .join('');
}
