import type { RunDir } from '../data-dir/data-dir.ts';
import type { Journal } from '../journal/writer.ts';
import type { RunningCall } from '../sandbox/call.ts';
import { findEndedCall, type EndedCall } from '../sandbox/ended-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import type { Answers } from './answers.ts';
import { endOfVerb } from './entries.ts';
import type { Resumed } from './run-parts.ts';
import type { RunStory } from './story.ts';

const toldMax = 1024;

/** The calls that a runner had begun when it died, sorted by what is known of them. */
export class LeftCalls {
  readonly resumed: Pick<Resumed, 'running' | 'ended' | 'open' | 'unanswered'>;
  /** File verbs that were done and answered, and whose end was not on record yet. */
  readonly #answered: ReadonlyMap<string, ToolResult>;
  readonly #unknown: readonly string[];

  private constructor(
    resumed: LeftCalls['resumed'],
    answered: ReadonlyMap<string, ToolResult>,
    unknown: readonly string[],
  ) {
    this.resumed = resumed;
    this.#answered = answered;
    this.#unknown = unknown;
  }

  /** `calls`: commands whose end is not on this machine's disk. One that the supervisor does not know has an unknown end. */
  static async sort(story: RunStory, calls: readonly RunningCall[], answers: Answers, dir: RunDir): Promise<LeftCalls> {
    const running = calls.filter(({ result }) => result?.outcome.kind !== 'sandbox_lost');
    const runs = new Set(running.map(({ id }) => id));
    const forgotten = new Set(calls.filter(({ id }) => !runs.has(id)).map(({ id }) => id));
    const ended: EndedCall[] = [];
    const answered = new Map<string, ToolResult>();
    const unknown: string[] = [];
    for (const [id, { tool }] of story.open) {
      if (runs.has(id)) continue;
      const command = tool === 'exec' && !forgotten.has(id) ? await findEndedCall(dir.callsDir, id) : undefined;
      const answer =
        command === undefined && tool !== 'exec' ? await answers.find(id).catch(() => undefined) : undefined;
      if (command !== undefined) ended.push(command);
      else if (answer !== undefined) answered.set(id, answer);
      else unknown.push(id);
    }
    const unanswered = new Map([...story.intended].filter(([id]) => !answers.has(id)));
    return new LeftCalls({ running, ended, open: story.open, unanswered }, answered, unknown);
  }

  /** For the journal. */
  get told(): { readonly goesOn: readonly string[]; readonly unknown: readonly string[] } {
    const { running, ended, open } = this.resumed;
    const goesOn = [...running, ...ended].map(({ id }) => id).filter((id) => open.has(id));
    return { goesOn: goesOn.slice(0, toldMax), unknown: this.#unknown.slice(0, toldMax) };
  }

  /** The ends that are known by now. Those of commands follow when they are here. */
  async record(journal: Journal): Promise<void> {
    for (const [id, answer] of this.#answered) await journal.endOf(id)(endOfVerb(answer, 0));
    const reason = 'the runner died while the call was made';
    for (const id of this.#unknown) await journal.endOf(id)({ outcome: { kind: 'unknown', reason }, ms: 0 });
  }
}
