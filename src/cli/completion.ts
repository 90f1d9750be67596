import tab from '@bomb.sh/tab/commander';
import type { Command } from 'commander';
import type { CliContext } from './context.ts';
import { listRuns, type RunRow } from './look/runs.ts';

/** What an argument that may be a run is called; of these commands it is one that is open, of the others any. */
const runArguments: ReadonlySet<string> = new Set(['run', 'what', 'there', 'here']);
const takeOpen: ReadonlySet<string> = new Set(['exec', 'read', 'write', 'edit', 'patch', 'close', 'tail', 'forward']);
const offered = 50;

/** `source <(glovebox complete bash)`; zsh, fish and powershell likewise. Runs complete by name or id, from wherever the commands find them. */
export async function addCompletion(program: Command, context: CliContext, argv: readonly string[]): Promise<void> {
  const completion = tab(program);
  if (argv[2] !== 'complete' || argv[3] !== '--') return;
  if (argv[4] === 'key' && argv[5] === 'revoke') return offerKeys(completion, context);
  const open = await offer(context, false);
  const all = await offer(context, true);
  for (const command of program.commands)
    for (const argument of command.registeredArguments)
      if (runArguments.has(argument.name()))
        completion.commands.get(command.name())?.argument(argument.name(), (complete) => {
          const runs = takeOpen.has(command.name()) ? open : all;
          for (const { run, name, state, policy } of runs) complete(name ?? run, `${state}, ${policy}`);
        });
}

/** Those that could still be revoked. */
async function offerKeys({ commands }: ReturnType<typeof tab>, context: CliContext): Promise<void> {
  const { withKeys } = await import('./machine/key-book.ts');
  const keys = await withKeys(context, (book) => book.list()).catch(() => []);
  const held = keys.filter(({ revokedAt }) => revokedAt === null);
  const isVariadic = true;
  commands.get('key revoke')?.argument(
    'key',
    (complete) => {
      for (const { id, identity, team } of held) complete(id, `${identity}, team ${team}`);
    },
    isVariadic,
  );
}

/** A service that does not answer completes nothing. */
async function offer(context: CliContext, all: boolean): Promise<readonly RunRow[]> {
  return listRuns(context, { number: offered, all }).catch(() => []);
}
