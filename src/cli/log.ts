import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import pc from 'picocolors';
import { digestPattern, type Digest } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import { formatEntry } from '../journal/chain.ts';
import { checkJournal, formatCheck } from '../journal/check.ts';
import type { Entry } from '../journal/entry.ts';
import { followEntries, readEntries } from '../journal/read.ts';
import { renderEntry } from '../journal/render.ts';
import { Exit, exitCodes, type CliContext } from './context.ts';
import { atRun, type RunPlace } from './run-place.ts';
import { print, printJson, say } from './terminal.ts';

export function logCommand(program: Command, context: CliContext): void {
  program
    .command('log')
    .description('the journal of a run: what was asked, decided, done')
    .argument('<run>', 'name, id, or the beginning of one')
    .option('-f, --follow', 'go on as entries come, until the run is closed')
    .option('--json', 'the entries as they are on disk: glovebox check takes them')
    .action(async (id: string, options: { follow?: boolean; json?: boolean }) => {
      await atRun(context, id, async (place) => {
        let closed = false;
        for await (const entry of entriesAt(place, options.follow === true)) {
          if (options.json === true) print(formatEntry(entry));
          else print(renderEntry(entry));
          closed = entry.type === 'run.closed';
        }
        if (options.follow === true && !closed)
          say(`glovebox: the runner of ${id} is gone; glovebox gc closes the run`);
      });
    });
}

export function checkCommand(program: Command, context: CliContext): void {
  program
    .command('check')
    .description('verify a journal offline: an edited, dropped, swapped or truncated line is named')
    .argument('<journal>', 'a journal file, or the id of a run')
    .option(
      '--head <digest>',
      'the hash that the last line must have, kept elsewhere: then a whole rewritten chain is found too',
    )
    .option('--json', 'the result as JSON')
    .action(async (name: string, options: { head?: string; json?: boolean }) => {
      const expected = options.head === undefined ? {} : { expectHead: headOf(options.head) };
      const check = await checkJournal(await journalPath(name, context), expected);
      if (options.json === true) printJson(check);
      else for (const line of formatCheck(check)) print(check.verdict === 'broken' ? pc.red(line) : line);
      throw new Exit(check.verdict === 'closed' ? exitCodes.ok : exitCodes.failed);
    });
}

async function* entriesAt(place: RunPlace, follow: boolean): AsyncGenerator<Entry, void> {
  if (place.kind === 'directory') yield* follow ? followEntries(place.dir.journal) : readEntries(place.dir.journal);
  else if (follow) yield* place.run.journal();
  else yield* await place.run.entries();
}

async function journalPath(name: string, context: CliContext): Promise<string> {
  const file = await stat(name).catch(() => undefined);
  if (file?.isFile() === true) return name;
  return (await (await context.openDataDir()).findRun(name)).journal;
}

function headOf(text: string): Digest {
  if (!digestPattern.test(text))
    throw new RunnerError('invalid_request', `--head wants sha256: and 64 hex digits, not ${text.slice(0, 80)}`);
  return text as Digest;
}
