import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import pc from 'picocolors';
import type { RemoteRun } from '../../client/client.ts';
import type { RunDir } from '../../data-dir/data-dir.ts';
import { RunnerError } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import type { CliContext } from '../context.ts';
import { atOwnService, atRun } from '../run-place.ts';

export function diffCommand(program: Command, context: CliContext): void {
  program
    .command('diff')
    .description('what a run has changed, as a patch that git apply takes; of an open run what it has changed so far')
    .argument('<run>', 'name, id, or the beginning of one')
    .option('--json', 'the classified list with findings and violations instead')
    .action(async (name: string, { json = false }: { json?: boolean }) => {
      const bytes = await atRun(context, name, (place) =>
        place.kind === 'directory' ? ofDirectory(place.dir, json) : ofService(place.run, json),
      );
      process.stdout.write(process.stdout.isTTY && !json ? forTerminal(bytes.toString('utf8')) : bytes);
    });
}

/** One that is closed; or that this user's service has open. */
async function ofDirectory(dir: RunDir, json: boolean): Promise<Buffer> {
  try {
    return await readFile(json ? join(dir.path, 'diff.json') : dir.patch);
  } catch (cause) {
    const bytes = await atOwnService(dir.id, (run) => ofService(run, json));
    if (bytes !== undefined) return bytes;
    const message = `run ${dir.id} has no diff (it is open in another process, or its sandbox was lost); glovebox log ${dir.id} tells`;
    throw new RunnerError('run_not_found', message, { cause });
  }
}

async function ofService(run: RemoteRun, json: boolean): Promise<Buffer> {
  return json ? Buffer.from(`${JSON.stringify(await run.diff())}\n`) : run.patch();
}

/** On a terminal nothing in the patch may act on it; into a pipe or file the bytes are exact. */
export function forTerminal(patch: string): string {
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
