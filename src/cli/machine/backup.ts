import type { Command } from 'commander';
import { backUp } from '../../backup/backup.ts';
import { findSigningKey } from '../../bundle/signing-key.ts';
import { loadConfig } from '../../config.ts';
import { restore } from '../../backup/restore.ts';
import { Exit, exitCodes, type CliContext } from '../context.ts';
import { bytesText, print, printJson, say } from '../terminal.ts';
import { plural } from '../../plural.ts';

export function backupCommand(program: Command, context: CliContext): void {
  program
    .command('backup <dir>')
    .description('copy the data directory, while it is in use, into a directory that is not there yet')
    .option('--without-outputs', 'leave out what commands printed and calls were answered')
    .option('--json', 'as JSON')
    .action(async (dir: string, options: { withoutOutputs?: boolean; json?: boolean }) => {
      const dataDir = await context.openDataDir();
      const signedWith = await findSigningKey(dataDir.path, (await loadConfig()).signing);
      const record = await backUp(dataDir, dir, {
        outputs: options.withoutOutputs !== true,
        ...(signedWith === undefined ? {} : { signedWith }),
      });
      if (options.json === true) return printJson(record);
      print(`${plural(record.runs, 'run')}, ${plural(record.files, 'file')}, ${bytesText(record.bytes)} in ${dir}`);
    });
}

export function restoreCommand(program: Command): void {
  program
    .command('restore <backup> <dir>')
    .description('make a data directory out of a backup, and check it; then set GLOVEBOX_DATA to it')
    .option('--json', 'as JSON')
    .action(async (backup: string, dir: string, options: { json?: boolean }) => {
      const restored = await restore(backup, dir);
      const { record, runs, keys, broken, damaged } = restored;
      if (options.json === true) printJson(restored);
      else print(`${runs} runs and ${keys} keys of ${record.at} in ${restored.dataDir}`);
      for (const { id, reason } of broken) say(`run ${id} is not what was written: ${reason}`);
      if (damaged.length > 0) say(`${damaged.length} contents were not what their names say; they were left out`);
      if (broken.length + damaged.length > 0) throw new Exit(exitCodes.failed);
    });
}
