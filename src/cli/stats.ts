import { Option, type Command } from 'commander';
import { printable } from '../journal/printable.ts';
import type { Lanes } from '../stats/lanes.ts';
import { measure } from '../stats/measure.ts';
import { groupings, type Grouping } from '../stats/stats.ts';
import { believedReviews } from './believed-keys.ts';
import type { CliContext } from './context.ts';
import { sinceTime } from './since.ts';
import { statsLines } from './stats-lines.ts';
import { print, printJson, say } from './terminal.ts';

interface Options {
  readonly since: string;
  readonly by: Grouping;
  readonly json?: boolean;
}

const reasonsMax = 5;

export function statsCommand(program: Command, context: CliContext): void {
  program
    .command('stats')
    .description(
      'what runs took and what became of them, by lane, class, model or policy: time, accepted changes, first reviews, rollbacks, correction, failures, approvals, drift, cost; from the journals alone',
    )
    .option('--since <time>', 'how long ago (36h, 30d, 8w), a day, a time, or all', checkedSince, '30d')
    .addOption(new Option('--by <what>', 'how runs are put together').choices(groupings).default('lane'))
    .option('--json', 'as JSON')
    .action(async (options: Options) => {
      const stats = (await ofDirectory(context, options)).stats(options.by);
      if (options.json === true) printJson(stats);
      else for (const line of statsLines(stats)) print(line);
    });
}

function checkedSince(text: string): string {
  sinceTime(text);
  return text;
}

async function ofDirectory(context: CliContext, { since }: Options): Promise<Lanes> {
  const nowMs = Date.now();
  const progress = new Progress();
  const reasons: string[] = [];
  try {
    return await measure(await context.openDataDir(), {
      sinceMs: sinceTime(since, nowMs),
      nowMs,
      believed: await believedReviews(context),
      onRead: (read, of) => progress.show(`${read} of ${of} runs read`),
      onUnreadable: (reason) => reasons.push(reason),
    });
  } finally {
    progress.clear();
    for (const reason of reasons.slice(0, reasonsMax)) say(`glovebox: not counted: ${printable(reason)}`);
    if (reasons.length > reasonsMax) say(`glovebox: not counted: ${reasons.length - reasonsMax} more`);
  }
}

/** One line on a terminal, written over again and again; elsewhere nothing. */
class Progress {
  #shownMs = 0;

  show(text: string): void {
    const nowMs = performance.now();
    if (!process.stderr.isTTY || nowMs - this.#shownMs < everyMs) return;
    this.#shownMs = nowMs;
    process.stderr.write(`\r${text}\u001b[K`);
  }

  clear(): void {
    if (this.#shownMs > 0) process.stderr.write('\r\u001b[K');
  }
}

const everyMs = 100;
