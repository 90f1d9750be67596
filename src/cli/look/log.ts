import type { Command } from 'commander';
import { formatEntry } from '../../journal/chain.ts';
import type { Entry } from '../../journal/entry.ts';
import { followEntries, readEntries } from '../../journal/read.ts';
import { renderEntry } from '../../journal/render.ts';
import type { CliContext } from '../context.ts';
import { atRun, type RunPlace } from '../run-place.ts';
import { print, say } from '../terminal.ts';

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

/** What is there, or with `follow` also what comes, until the run is closed. */
export async function* entriesAt(place: RunPlace, follow: boolean): AsyncGenerator<Entry, void> {
  if (place.kind === 'directory') yield* follow ? followEntries(place.dir.journal) : readEntries(place.dir.journal);
  else if (follow) yield* place.run.journal();
  else yield* await place.run.entries();
}
