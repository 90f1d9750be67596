import tab from '@bomb.sh/tab/commander';
import type { Command } from 'commander';
import type { CliContext } from './context.ts';

/** `source <(glovebox complete bash)`; zsh, fish and powershell likewise. Run ids complete from the data directory. */
export function addCompletion(program: Command, _context: CliContext): void {
  tab(program);
}
