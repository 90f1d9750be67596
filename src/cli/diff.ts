import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import pc from 'picocolors';
import { RunnerError } from '../errors.ts';
import { printable } from '../journal/printable.ts';
import type { CliContext } from './context.ts';

export function diffCommand(program: Command, context: CliContext): void {
  program
    .command('diff')
    .description('what a run has changed, as a patch that git apply takes')
    .argument('<run>', 'id, or the beginning of one')
    .option('--json', 'the classified list with findings and violations instead')
    .action(async (id: string, options: { json?: boolean }) => {
      const dir = await (await context.openDataDir()).findRun(id);
      const file = options.json === true ? join(dir.path, 'diff.json') : dir.patch;
      const bytes = await readFile(file).catch((error: unknown) => {
        throw new RunnerError(
          'run_not_found',
          `run ${dir.id} has no diff (it is still open, or its sandbox was lost); glovebox log ${dir.id} tells`,
          { cause: error },
        );
      });
      process.stdout.write(process.stdout.isTTY && options.json !== true ? forTerminal(bytes.toString('utf8')) : bytes);
    });
}

/** On a terminal nothing in the patch may act on it; into a pipe or file the bytes are exact. */
function forTerminal(patch: string): string {
  return patch
    .split('\n')
    .map((line) => {
      const shown = printable(line);
      if (line.startsWith('+') && !line.startsWith('+++')) return pc.green(shown);
      if (line.startsWith('-') && !line.startsWith('---')) return pc.red(shown);
      if (line.startsWith('@@')) return pc.cyan(shown);
      return /^(diff|index|---|\+\+\+)/.test(line) ? pc.bold(shown) : shown;
    })
    .join('\n');
}
