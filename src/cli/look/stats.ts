import { writeFile } from 'node:fs/promises';
import { Option, type Command } from 'commander';
import { messageOf, RunnerError } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import type { Lanes } from '../../stats/lanes.ts';
import { measure } from '../../stats/measure.ts';
import { statsPage } from '../../stats/page/page.ts';
import { groupings, Stats, type Grouping } from '../../stats/stats.ts';
import { answered } from '../leave/answered.ts';
import { believedReviews } from '../leave/believed-keys.ts';
import type { CliContext } from '../context.ts';
import { openService, servicePlace } from '../service.ts';
import { sinceTime } from './since.ts';
import { statsLines } from './stats-lines.ts';
import { print, printJson, say } from '../terminal.ts';

interface Options {
  readonly since: string;
  readonly by: Grouping;
  readonly html?: string;
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
    .option('--html <file>', 'one page with tables and plots of all groupings, which needs no network')
    .option('--json', 'as JSON')
    .action(async (options: Options) => {
      const others = options.html === undefined ? [] : groupings.filter((by) => by !== options.by);
      const [stats, ...more] = await statsOf(context, options.since, [options.by, ...others]);
      if (stats === undefined) return;
      if (options.html !== undefined) await writePage(options.html, [stats, ...more]);
      if (options.json === true) printJson(stats);
      else for (const line of statsLines(stats)) print(line);
    });
}

/** From the service that is given, of its team; else from the data directory. One of each grouping. */
async function statsOf(context: CliContext, since: string, by: readonly Grouping[]): Promise<readonly Stats[]> {
  if (servicePlace().kind !== 'given') {
    const lanes = await ofDirectory(context, since);
    return by.map((one) => lanes.stats(one));
  }
  const client = await openService();
  try {
    const from = new Date(sinceTime(since) ?? 0).toISOString();
    const all: Stats[] = [];
    for (const one of by) all.push(answered(Stats, await client.stats({ since: from, by: one }), 'statistics'));
    return all;
  } finally {
    await client.close();
  }
}

async function writePage(file: string, all: readonly Stats[]): Promise<void> {
  const page = await statsPage(all);
  await writeFile(file, page).catch((cause: unknown) => {
    const message = `${file} cannot be written: ${messageOf(cause)}; name a file in a directory that is there`;
    throw new RunnerError('invalid_request', message, { cause });
  });
  say(`${file}: open it in a browser`);
}

function checkedSince(text: string): string {
  sinceTime(text);
  return text;
}

async function ofDirectory(context: CliContext, since: string): Promise<Lanes> {
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
