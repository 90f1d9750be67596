import type { Command } from 'commander';
import { readEntries } from '../journal/read.ts';
import type { CliContext } from './context.ts';
import { wholeNumber } from './numbers.ts';
import { print, printJson, table } from './terminal.ts';

export function runsCommand(program: Command, context: CliContext): void {
  program
    .command('runs')
    .description('the runs in the data directory, newest first')
    .option('-n, --number <n>', 'how many', wholeNumber(1), 20)
    .option('--json', 'as JSON')
    .action(async (options: { number: number; json?: boolean }) => {
      const dirs = (await (await context.openDataDir()).listRuns()).slice(0, options.number);
      const rows = await Promise.all(dirs.map((dir) => rowOf(dir.id, dir.journal)));
      if (options.json === true) printJson(rows);
      else if (rows.length === 0) print('no runs yet; glovebox run -- echo hello opens one');
      else
        print(
          table([
            ['RUN', 'OPENED', 'STATE', 'POLICY', 'CALLS'],
            ...rows.map((row) => [row.run, row.opened, row.state, row.policy, `${row.calls}`]),
          ]),
        );
    });
}

async function rowOf(
  run: string,
  journal: string,
): Promise<{ run: string; opened: string; state: string; policy: string; calls: number }> {
  const row = { run, opened: '', state: 'open', policy: '', calls: 0 };
  try {
    for await (const entry of readEntries(journal)) {
      if (entry.type === 'run.opened') Object.assign(row, { opened: entry.at, policy: entry.data.policy.name });
      if (entry.type === 'call.intended') row.calls += 1;
      if (entry.type === 'run.closed') row.state = entry.data.outcome;
    }
  } catch {
    row.state = 'broken';
  }
  return row;
}
