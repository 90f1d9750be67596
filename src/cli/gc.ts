import type { Command } from 'commander';
import { recover } from '../recovery.ts';
import type { CliContext } from './context.ts';
import { print, printJson } from './terminal.ts';

export function gcCommand(program: Command, context: CliContext): void {
  program
    .command('gc')
    .description(
      'remove what runners that died have left: containers, networks, old supervisor volumes; close their journals',
    )
    .option('-n, --dry-run', 'only say what would go')
    .option('--json', 'as JSON')
    .action(async (options: { dryRun?: boolean; json?: boolean }) => {
      const [engine, dataDir] = await Promise.all([context.connect(), context.openDataDir()]);
      const recovered = await recover(engine, dataDir, { dryRun: options.dryRun === true });
      if (options.json === true) return printJson(recovered);
      const verb = options.dryRun === true ? 'would remove' : 'removed';
      for (const name of recovered.containers) print(`${verb} container ${name}`);
      for (const name of recovered.volumes) print(`${verb} volume ${name}`);
      for (const name of recovered.networks) print(`${verb} network ${name}`);
      for (const run of recovered.layers) print(`${verb} the workspace of run ${run}`);
      for (const key of recovered.bases) print(`${verb} base ${key.slice(0, 12)}`);
      for (const run of recovered.runs)
        print(
          `${options.dryRun === true ? 'would close' : 'closed'} run ${run.id} (${run.closedCalls} calls without an outcome)`,
        );
      for (const build of recovered.builds)
        print(`${options.dryRun === true ? 'would close' : 'closed'} the record of a build of ${build}`);
      for (const id of recovered.neverBegun) print(`${verb} run ${id}: it never began`);
      const { containers, volumes, networks, layers, bases, runs, builds, neverBegun } = recovered;
      const all = [containers, volumes, networks, layers, bases, runs, builds, neverBegun];
      if (all.every((list) => list.length === 0)) print('nothing left behind');
    });
}
