import type { Command } from 'commander';
import pc from 'picocolors';
import { printable } from '../../journal/printable.ts';
import { Ledger, type Promotion } from '../../promotion/ledger.ts';
import { rollback, type Undone } from '../../promotion/rollback.ts';
import { userName } from '../ask-approval.ts';
import type { CliContext } from '../context.ts';
import { print, printJson, table } from '../terminal.ts';

interface Options {
  readonly reason: string;
  readonly branch?: string;
  readonly as?: string;
  readonly json?: boolean;
}

export function rollbackCommand(program: Command, context: CliContext): void {
  program
    .command('rollback')
    .description('take a promotion back by one more commit; refused where its files have changed since')
    .argument('<promotion>', 'its id or the beginning of one, or of the run')
    .requiredOption('-r, --reason <text>', 'why: later runs on these files are told')
    .option('-b, --branch <name>', 'where it has gone since; default: the branch that it was promoted to')
    .option('--as <name>', 'who does it; default: the user of this machine')
    .option('--json', 'what was done, as JSON')
    .action(async (promotion: string, { reason, branch, as: by = userName(), json }: Options) => {
      const dataDir = await context.openDataDir();
      const undone = await rollback(dataDir, { promotion, reason, by, ...(branch === undefined ? {} : { branch }) });
      if (json === true) printJson(undone);
      else for (const line of undoneLines(undone)) print(line);
    });
}

export function promotionsCommand(program: Command, context: CliContext): void {
  program
    .command('promotions')
    .description('what was promoted where, and what was rolled back')
    .option('--json', 'as JSON')
    .action(async ({ json }: { json?: boolean }) => {
      const promotions = await new Ledger(await context.openDataDir()).list();
      if (json === true) printJson(promotions);
      else if (promotions.length === 0) print('nothing was promoted here');
      else print(table([['promotion', 'run', 'when', 'state', 'branch', 'repository'], ...promotions.map(rowOf)]));
    });
}

function undoneLines({ id, commit, branch, repository, paths, again }: Undone): readonly string[] {
  const done = again ? 'was rolled back before' : 'rolled back';
  const files = paths.length === 1 ? 'one file is' : `${paths.length} files are`;
  return [
    `${pc.green(done)}: promotion ${id.slice(0, 8)}, commit ${pc.bold(commit.slice(0, 12))} on branch ${pc.bold(printable(branch))}`,
    pc.dim(`  ${files} as before; next: git -C ${printable(repository)} show ${printable(branch)}`),
  ];
}

function rowOf({ id, intended, done, rolledBack }: Promotion): readonly string[] {
  const state =
    rolledBack !== undefined
      ? `rolled back: ${printable(rolledBack.reason).slice(0, 60)}`
      : done === undefined
        ? 'begun'
        : 'done';
  const { run, at, branch, repository } = intended;
  return [id.slice(0, 8), run.slice(0, 12), at.slice(0, 16), state, printable(branch), printable(repository)];
}
