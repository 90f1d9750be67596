import type { Entry, EntryOutcome } from './entry.ts';
import { printable } from './printable.ts';
import { entryText } from './render.ts';
import { plural } from '../plural.ts';

/** Something that a reader of a run has to know, with the time; printable. */
export interface Moment {
  readonly at: string;
  readonly what: string;
}

/** Far more than a run has: what asks people, raises a risk or joins is bounded by its budget. */
const momentsMax = 500;
const namesMax = 3;
const textMax = 300;

/**
 * The story of a run in few lines: what people, policy and risk had to do with it one by one, the calls and refusals between them as
 * one moment each. However often a run calls or is refused, it cannot push anything else out.
 */
export class Timeline {
  readonly #moments: Moment[] = [];
  #between: Between | undefined;

  add(entry: Entry): void {
    if (isBetween(entry)) {
      this.#between ??= new Between(entry.at);
      this.#between.add(entry);
    } else if (told.has(entry.type)) {
      this.#flush();
      this.#push(entry.at, `${entry.type.replace('.', ' ')}: ${entryText(entry)}`);
    }
  }

  /** So far, the oldest first. */
  moments(): readonly Moment[] {
    this.#flush();
    return [...this.#moments];
  }

  #flush(): void {
    const between = this.#between;
    this.#between = undefined;
    if (between !== undefined) this.#push(between.at, between.text());
  }

  #push(at: string, text: string): void {
    if (this.#moments.length === momentsMax) this.#moments.splice(momentsMax / 2, 1); // neither how it began nor how it ended
    const what = printable(text);
    this.#moments.push({ at, what: what.length > textMax ? `${what.slice(0, textMax)}…` : what });
  }
}

const told: ReadonlySet<Entry['type']> = new Set([
  'run.opened',
  'run.resumed',
  'approval.requested',
  'approval.decided',
  'risk.raised',
  'egress.narrowed',
  'credential.revoked',
  'participant.joined',
  'snapshot.applied',
  'sandbox.lost',
  'journal.recovered',
  'workspace.collected',
  'run.closed',
]);

type Counted = Extract<
  Entry,
  { type: 'call.intended' | 'call.ended' | 'call.denied' | 'egress.decided' | 'egress.counted' }
>;

function isBetween(entry: Entry): entry is Counted {
  switch (entry.type) {
    case 'call.intended':
    case 'call.ended':
    case 'call.denied':
    case 'egress.counted':
      return true;
    case 'egress.decided':
      return entry.data.decision === 'denied';
    default:
      return false;
  }
}

/** What happens between two moments. */
class Between {
  readonly at: string;
  readonly #tools = new Map<string, number>();
  #unsuccessful = 0;
  readonly #denied = new Tally();
  readonly #refused = new Tally();

  constructor(at: string) {
    this.at = at;
  }

  add(entry: Counted): void {
    switch (entry.type) {
      case 'call.intended': {
        const { tool } = entry.data;
        this.#tools.set(tool, (this.#tools.get(tool) ?? 0) + 1);
        return;
      }
      case 'call.ended':
        this.#unsuccessful += isSuccess(entry.data.outcome) ? 0 : 1;
        return;
      case 'call.denied':
        return this.#denied.add(entry.data.rule, 1);
      case 'egress.decided':
        return this.#refused.add(entry.data.host, 1);
      case 'egress.counted':
        return this.#refused.add(entry.data.host, entry.data.count);
    }
  }

  text(): string {
    const calls = [...this.#tools.values()].reduce((sum, count) => sum + count, 0);
    const byTool = [...this.#tools].sort(([, a], [, b]) => b - a).map(([tool, count]) => `${tool} ${count}`);
    const parts = [
      ...(calls === 0 ? [] : [`${plural(calls, 'call')} (${byTool.join(', ')})`]),
      ...(this.#unsuccessful === 0 ? [] : [`${this.#unsuccessful} ended without success`]),
      ...this.#denied.text('denied by'),
      ...this.#refused.text('refused on the network:'),
    ];
    return parts.length === 0 ? 'calls ended' : parts.join(', ');
  }
}

function isSuccess(outcome: EntryOutcome): boolean {
  return outcome.kind === 'done' || (outcome.kind === 'exited' && outcome.code === 0);
}

/** How often, and the first names of what. */
class Tally {
  readonly #names = new Set<string>();
  #count = 0;
  #more = false;

  add(name: string, count: number): void {
    this.#count += count;
    if (this.#names.size < namesMax) this.#names.add(name.slice(0, 64));
    else if (!this.#names.has(name)) this.#more = true;
  }

  text(what: string): readonly string[] {
    if (this.#count === 0) return [];
    return [`${this.#count} ${what} ${[...this.#names].join(', ')}${this.#more ? ', …' : ''}`];
  }
}
