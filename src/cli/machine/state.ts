import type { Command } from 'commander';
import { ServiceLock } from '../../service/service-lock.ts';
import { repairStore } from '../../store/repair.ts';
import { Store } from '../../store/store.ts';
import { Exit, exitCodes, type CliContext } from '../context.ts';
import { print, printJson, say } from '../terminal.ts';
import { plural } from '../../plural.ts';

/** `state.db`: what a service asks for across runs. */
export function stateCommand(program: Command, context: CliContext): void {
  const state = program.command('state').description("the service's state.db: keys, teams, the list of runs");
  state
    .command('check')
    .description('look through all of it; 1 when something is wrong')
    .option('--json', 'as JSON')
    .action(async (options: { json?: boolean }) => {
      const store = Store.open((await context.openDataDir()).path);
      const damage = store.damage();
      store.close();
      if (options.json === true) printJson({ file: store.file, damage });
      else for (const line of damage) say(line);
      if (damage.length > 0) throw new Exit(exitCodes.failed);
      if (options.json !== true) print(`${store.file} is whole`);
    });
  state
    .command('repair')
    .description(
      'make it anew: runs from their journals, keys as far as the old file can be read; a copy of that stays',
    )
    .option('--json', 'as JSON')
    .action((options: { json?: boolean }) => repair(options, context));
}

async function repair(options: { json?: boolean }, context: CliContext): Promise<void> {
  const dataDir = await context.openDataDir();
  const lock = await ServiceLock.acquire(dataDir.path);
  try {
    const repaired = await repairStore(dataDir);
    if (options.json === true) return printJson(repaired);
    const { added, kept, salvaged, lost, unreadable } = repaired;
    print(`${plural(added.length, 'run')} from their journals`);
    for (const [table, rows] of Object.entries(salvaged)) print(`${rows} rows of ${table} from the old file`);
    if (kept !== undefined) print(`the old file is kept as ${kept}`);
    for (const table of lost) say(`the rest of ${table} could not be read`);
    for (const { id, reason } of unreadable) say(`run ${id}: ${reason}`);
    if (lost.includes('keys')) say('Look through glovebox key ls: keys may be missing, or revoked ones may not be.');
  } finally {
    await lock.release();
  }
}
