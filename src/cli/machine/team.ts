import type { Command } from 'commander';
import type { CliContext } from '../context.ts';
import { wholeNumber } from '../numbers.ts';
import { addQuotaOptions, quotaOf, quotaText, type QuotaOptions } from './quota-options.ts';
import { print, printJson, table } from '../terminal.ts';
import { withStore } from './with-store.ts';

export function teamCommand(program: Command, context: CliContext): void {
  const team = program.command('team').description('what a team of the service may have with all of its keys together');
  const set = team
    .command('set <team>')
    .description('say what it may have; what is left out stays as it was')
    .option('--weight <n>', 'turns that it has to one of another team (1 to 100)', wholeNumber(1));
  addQuotaOptions(set)
    .option('--json', 'what it may have now, as JSON')
    .action((name: string, options: QuotaOptions & { weight?: number; json?: boolean }) =>
      withStore(context, ({ teams }) => {
        const before = teams.find(name);
        const quota = quotaOf(options, before?.quota);
        const row = { team: name, quota, weight: options.weight ?? before?.weight ?? 1 };
        teams.set(row);
        if (options.json === true) printJson(row);
        else print(`team ${name}: ${quotaText(row.quota)}, weight ${row.weight}`);
      }),
    );
  team
    .command('ls')
    .description('the teams of which something was said')
    .option('--json', 'as JSON')
    .action((options: { json?: boolean }) =>
      withStore(context, ({ teams }) => {
        const rows = teams.list();
        if (options.json === true) return printJson(rows);
        if (rows.length === 0) return print('nothing was said of any team: it has what the largest of its keys has');
        print(
          table([['TEAM', 'WEIGHT', 'QUOTA'], ...rows.map((row) => [row.team, `${row.weight}`, quotaText(row.quota)])]),
        );
      }),
    );
}
