import type { CliContext } from './cli/context.ts';
import { runCli } from './cli/program.ts';

/**
 * One command line; resolves with its exit code. `bin/glovebox.js` calls it. What `main.ts` wires is loaded when a command asks
 * for it: one that talks to a server, or reads the data directory, starts without it.
 */
export function main(argv: readonly string[]): Promise<number> {
  return runCli(argv, context);
}

const context: CliContext = {
  connect: async () => (await wired()).connect(),
  openDataDir: async () => (await import('./data-dir/data-dir.ts')).DataDir.open(),
  reach: async () => (await wired()).reach(),
};

async function wired(): Promise<CliContext> {
  return (await import('./main.ts')).wiring();
}
