import type { Command } from 'commander';
import { RunnerError } from '../../errors.ts';
import { BaseStore, type BaseInfo } from '../../workspace/base/bases.ts';
import { printable } from '../../journal/printable.ts';
import type { CliContext } from '../context.ts';
import { print, printJson, table } from '../terminal.ts';

export function baseCommand(program: Command, context: CliContext): void {
  const base = program.command('base').description('imported trees, kept by content and shared between runs');
  const open = async (): Promise<BaseStore> => BaseStore.open((await context.openDataDir()).basesDir);
  base
    .command('ls')
    .description('the bases, the longest unused first')
    .option('--json', 'as JSON')
    .action(async (options: { json?: boolean }) => {
      const bases = await (await open()).list();
      if (options.json === true) return printJson(bases);
      if (bases.length === 0) return print('no bases; a run over a directory imports one where overlays work');
      const rows = bases.map(({ key, files, bytes, holders, usedMs, source }) => [
        key.slice(0, 12),
        `${files}`,
        `${Math.ceil(bytes / 1024)} KiB`,
        `${holders.length}`,
        new Date(usedMs).toISOString(),
        printable(source),
      ]);
      print(table([['BASE', 'FILES', 'SIZE', 'RUNS', 'LAST USED', 'FROM'], ...rows]));
    });
  base
    .command('rm <base...>')
    .description('remove bases that no run holds, by key or the beginning of one')
    .option('--json', 'the keys of those that were removed, as JSON')
    .action(async (names: string[], options: { json?: boolean }) => {
      const store = await open();
      const removed: string[] = [];
      for (const name of names) {
        const bases = await store.list();
        const { key, holders } = findBase(bases, name);
        if (!(await store.remove(key))) {
          const above = bases.filter(({ over }) => over === key).map((base) => base.key.slice(0, 12));
          const why =
            holders.length > 0 || above.length === 0
              ? `is held by run ${holders.join(', ')}; close it, or see glovebox gc`
              : `is what base ${above.join(', ')} lies over; remove that first`;
          throw new RunnerError('invalid_request', `base ${name} ${why}`);
        }
        removed.push(key);
        if (options.json !== true) print(`removed base ${key.slice(0, 12)}`);
      }
      if (options.json === true) printJson(removed);
    });
  base
    .command('gc')
    .description('remove the longest unused bases, down to the caps')
    .option('--keep <n>', 'how many to keep at most')
    .option('--bytes <n>', 'how many bytes to keep at most')
    .option('--json', 'the keys of those that were removed, as JSON')
    .action(async (options: { keep?: string; bytes?: string; json?: boolean }) => {
      const caps = { count: atLeastZero('--keep', options.keep), bytes: atLeastZero('--bytes', options.bytes) };
      const removed = await (await open()).collect(caps);
      if (options.json === true) return printJson(removed);
      for (const key of removed) print(`removed base ${key.slice(0, 12)}`);
      if (removed.length === 0) print('nothing to remove');
    });
}

function findBase(bases: readonly BaseInfo[], name: string): BaseInfo {
  const found = bases.filter((base) => base.key.startsWith(name));
  const [base] = found;
  if (base !== undefined && found.length === 1) return base;
  const message = `${JSON.stringify(name)} fits ${found.length} bases; glovebox base ls lists them`;
  throw new RunnerError('invalid_request', message);
}

function atLeastZero(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new RunnerError('invalid_request', `${option} ${text}: give a number`);
}
