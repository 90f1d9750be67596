import { ContextStory } from '../context/context-story.ts';
import type { Digest } from '../digest.ts';
import { checkJournalIn, formatCheck } from '../journal/check.ts';
import type { Entry, EntryData } from '../journal/entry.ts';
import type { LineSource } from '../journal/lines.ts';
import { entriesIn } from '../journal/read.ts';
import { Timeline, type Moment } from '../journal/timeline.ts';
import { riskLevels, type RiskLevel } from '../policy/language/fields.ts';

/** What a run's journal says that a bundle is made of. */
export interface Story {
  readonly run: string;
  readonly entries: number;
  /** Hash of the last one. */
  readonly head: Digest;
  readonly opened: EntryData<'run.opened'>;
  readonly started: EntryData<'sandbox.started'>;
  /** Of the diff that was taken when it closed. */
  readonly collected: EntryData<'workspace.collected'>;
  readonly openedAt: string;
  readonly closedAt: string;
  /** What its risk was raised to, by what it did. */
  readonly raised: readonly RiskLevel[];
  /** What of its environment was not as expected, where the policy does more than note it; the first hundred, and the first of each reaction. */
  readonly drifted: readonly EntryData<'drift.found'>['findings'][number][];
  /** What commands have printed, by digest, with the first call that did. */
  readonly outputs: ReadonlyMap<Digest, { readonly bytes: number; readonly callId: string }>;
  /** What the environment was, by document. */
  readonly fingerprints: ReadonlyMap<Digest, EntryData<'environment.fingerprint'>>;
  readonly asked: ReadonlyMap<string, EntryData<'approval.requested'>>;
  readonly decided: ReadonlyMap<string, EntryData<'approval.decided'>>;
  /** Who asked for the run, called in it, or took part otherwise: of those nobody reviews it. */
  readonly involved: ReadonlySet<string>;
  /** Who worked in it, and what they said that they believed. */
  readonly work: Pick<ContextStory, 'attached' | 'parts'>;
  /** In few lines, for people. */
  readonly timeline: readonly Moment[];
}

/** Why a journal tells none. */
export interface NoStory {
  /** `broken`: it was changed; `open`: it is not closed; `nothing`: it is whole, and there is nothing to export. */
  readonly why: 'broken' | 'open' | 'nothing';
  /** Where that is to be seen: `line 7`, or nowhere. */
  readonly field: string;
  readonly problem: string;
}

/** The story of a journal that is whole and closed. `name` is for messages. */
export async function readStory(source: LineSource, name: string): Promise<Story | NoStory> {
  const check = await checkJournalIn(source);
  const { verdict } = check;
  if (verdict !== 'closed' || check.head === undefined) {
    const line = check.findings[0]?.line;
    const problem = formatCheck(check).slice(0, 3).join('; ');
    return { why: verdict === 'broken' ? verdict : 'open', field: line === undefined ? '' : `line ${line}`, problem };
  }
  const told: Told = {
    raised: [],
    drifted: [],
    outputs: new Map(),
    fingerprints: new Map(),
    asked: new Map(),
    decided: new Map(),
    involved: new Set(),
  };
  const [timeline, work] = [new Timeline(), new ContextStory()];
  for await (const entry of entriesIn(source, name)) {
    note(told, entry);
    timeline.add(entry);
    work.push(entry);
  }
  const { opened, started, collected, openedAt, closedAt } = told;
  if (opened === undefined || started === undefined || openedAt === undefined || closedAt === undefined)
    return nothing('nothing was ever started in this run');
  if (collected === undefined) return nothing('its sandbox was lost, so that there is no diff');
  const { entries, head, run = '' } = check;
  const { raised, drifted, outputs, fingerprints, asked, decided, involved } = told;
  const when = { openedAt, closedAt };
  const people = { asked, decided, involved, work };
  const what = { raised, drifted, outputs, fingerprints, ...people, timeline: timeline.moments() };
  return { run, entries, head, opened, started, collected, ...when, ...what };
}

function nothing(problem: string): NoStory {
  return { why: 'nothing', field: '', problem };
}

interface Told {
  opened?: Story['opened'];
  started?: Story['started'];
  collected?: Story['collected'];
  openedAt?: string;
  closedAt?: string;
  readonly raised: RiskLevel[];
  readonly drifted: Story['drifted'][number][];
  readonly outputs: Map<Digest, { readonly bytes: number; readonly callId: string }>;
  readonly fingerprints: Map<Digest, EntryData<'environment.fingerprint'>>;
  readonly asked: Map<string, EntryData<'approval.requested'>>;
  readonly decided: Map<string, EntryData<'approval.decided'>>;
  readonly involved: Set<string>;
}

function note(told: Told, entry: Entry): void {
  switch (entry.type) {
    case 'run.opened':
      told.opened = entry.data;
      told.openedAt = entry.at;
      if (entry.data.by !== undefined) told.involved.add(entry.data.by.identity);
      return;
    case 'call.intended':
    case 'context.attached':
      if (entry.data.by !== undefined) told.involved.add(entry.data.by);
      return;
    case 'participant.joined':
      told.involved.add(entry.data.by);
      return;
    case 'sandbox.started':
      told.started = entry.data;
      return;
    case 'workspace.collected':
      told.collected = entry.data;
      return;
    case 'call.ended': {
      const { callId, output } = entry.data;
      if (output?.digest === undefined || output.bytes === 0 || told.outputs.has(output.digest)) return;
      told.outputs.set(output.digest, { bytes: output.bytes, callId });
      return;
    }
    case 'environment.fingerprint':
      told.fingerprints.set(entry.data.document, entry.data);
      return;
    case 'risk.raised': {
      const risk = riskLevels.find((level) => level === entry.data.to);
      told.raised.push(risk ?? 'critical');
      return;
    }
    case 'drift.found':
      for (const finding of entry.data.findings) if (isTold(told.drifted, finding)) told.drifted.push(finding);
      return;
    case 'approval.requested':
      told.asked.set(entry.data.id, entry.data);
      return;
    case 'approval.decided':
      told.decided.set(entry.data.id, entry.data);
      return;
    case 'run.closed':
      told.closedAt = entry.at;
      return;
    default:
  }
}

const driftedMax = 100;

/** However much of the one reaction there is, the first of another one is told: a run could have the rest forgotten. */
function isTold(drifted: Story['drifted'], { reaction }: Story['drifted'][number]): boolean {
  if (reaction === 'note') return false;
  return drifted.length < driftedMax || drifted.every((other) => other.reaction !== reaction);
}
