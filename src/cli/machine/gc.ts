import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import type { DataDir } from '../../data-dir/data-dir.ts';
import { printable } from '../../journal/printable.ts';
import { momentNow } from '../../machine-clock.ts';
import { recover } from '../../recovery.ts';
import { carryOutRetention, type Retained } from '../../retention/carry-out.ts';
import { believeClock, whyClockIsDoubted } from '../../retention/clock-record.ts';
import type { Removal } from '../../retention/plan.ts';
import { Store, storeFile } from '../../store/store.ts';
import type { CliContext } from '../context.ts';
import { bytesText, print, printJson } from '../terminal.ts';

export function gcCommand(program: Command, context: CliContext): void {
  program
    .command('gc')
    .description(
      'remove what runners that died have left (containers, networks, old supervisor volumes; close their journals), and what policies no longer want kept of closed runs',
    )
    .option('-n, --dry-run', 'only say what would go')
    .option('--clock-is-right', 'after the clock was set: what it says now is true, also for how long things were kept')
    .option('--json', 'as JSON')
    .action(async (options: { dryRun?: boolean; clockIsRight?: boolean; json?: boolean }) => {
      const [engine, dataDir] = await Promise.all([context.connect(), context.openDataDir()]);
      const recovered = await recover(engine, dataDir, { dryRun: options.dryRun === true });
      const retained = await keepLess(dataDir, options);
      if (options.json === true) return printJson({ ...recovered, retention: retained });
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
      printRetained(retained, verb);
      const { containers, volumes, networks, layers, bases, runs, builds, neverBegun } = recovered;
      const all = [
        containers,
        volumes,
        networks,
        layers,
        bases,
        runs,
        builds,
        neverBegun,
        retained.removed,
        retained.uploads,
        retained.failed,
      ];
      if (all.every((list) => list.length === 0) && retained.blobs.count === 0) print('nothing left behind');
    });
}

/** Beside a service too: what goes is gone from its list of runs. */
async function keepLess(
  dataDir: DataDir,
  { dryRun = false, clockIsRight = false }: { readonly dryRun?: boolean; readonly clockIsRight?: boolean },
): Promise<Retained> {
  const now = momentNow();
  const doubt = clockIsRight ? undefined : await whyClockIsDoubted(dataDir, now);
  if (doubt !== undefined && !dryRun) return nothingFor(doubt);
  if (!dryRun) await believeClock(dataDir, now);
  const store = existsSync(storeFile(dataDir.path)) && !dryRun ? Store.open(dataDir.path) : undefined;
  try {
    return await carryOutRetention(dataDir, {
      dryRun,
      nowMs: now.wallMs,
      onRunRemoved: (id) => store?.runs.remove(id),
    });
  } finally {
    store?.close();
  }
}

function nothingFor(reason: string): Retained {
  return { removed: [], uploads: [], blobs: { count: 0, bytes: 0 }, kept: [], failed: [{ id: 'anything', reason }] };
}

const whatOf: Readonly<Record<Removal['kind'], string>> = {
  output: 'the output of run',
  diff: 'the diff of run',
  run: 'run',
  build: 'the record of a build of',
};

function printRetained({ removed, uploads, blobs, kept, failed }: Retained, verb: string): void {
  for (const { kind, id, bytes, reason } of removed)
    print(`${verb} ${whatOf[kind]} ${id} (${bytesText(bytes)}): ${reason}`);
  for (const id of uploads) print(`${verb} uploaded workspace ${id}: no run was opened from it for a day`);
  if (blobs.count > 0) print(`${verb} ${blobs.count} contents that no run names any more (${bytesText(blobs.bytes)})`);
  for (const { id, reason } of kept) print(`kept run ${id}: ${printable(reason)}`);
  for (const { id, reason } of failed) print(`could not remove ${id}: ${printable(reason)}`);
}
