import { userInfo } from 'node:os';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Command } from 'commander';
import { LocalRun, type DelegatedRun } from '../run/delegated-run.ts';
import type { Run } from '../runner.ts';
import { ElicitedApprovals } from '../mcp/elicited-approvals.ts';
import { McpRun } from '../mcp/mcp-run.ts';
import { serveMcpLines } from '../mcp/serve.ts';
import type { CliContext } from './context.ts';
import { inRun, withRunOptions, type RunOptions } from './open-run.ts';
import { closingLines } from './summary.ts';
import { say } from './terminal.ts';
import { version } from './version.ts';

export function mcpCommand(program: Command, context: CliContext): void {
  withRunOptions(program.command('mcp'))
    .description(
      "serve a sandbox's tools to an MCP client on standard input and output; its diff stays when the client has gone",
    )
    .action(async (options: RunOptions) => {
      const approvals = new ElicitedApprovals(options.approve ?? [], userName());
      const door = new LateRun();
      const served = serveMcpLines(
        new McpRun(door.opened, { version: version(), approvals }),
        process.stdin,
        process.stdout,
      );
      // A client that only looks what this is, as some do before they start it again, opens no run.
      if ((await Promise.race([door.wanted, served])) === undefined) return;
      const run = await open(context, { ...options, stdinIsTaken: true, approver: approvals.approver }, door, served);
      if (options.quiet !== true) for (const line of closingLines(run)) say(line);
    });
}

async function open(context: CliContext, options: RunOptions, door: LateRun, served: Promise<void>): Promise<Run> {
  try {
    const { run } = await inRun(context, options, async (opened) => {
      if (options.quiet !== true) say(`glovebox: run ${opened.id} is open; it closes when this client goes`);
      door.open(new LocalRun(opened));
      await served;
    });
    return run;
  } catch (error) {
    door.fail(error);
    await nextTurn(); // who waits for it is answered before we leave
    process.stdin.destroy();
    throw error;
  }
}

/** A run that is opened when somebody wants it. */
class LateRun {
  readonly wanted: Promise<true>;
  readonly #run: Promise<DelegatedRun>;
  #want: () => void = () => undefined;
  open: (run: DelegatedRun) => void = () => undefined;
  fail: (error: unknown) => void = () => undefined;

  constructor() {
    this.wanted = new Promise((resolve) => {
      this.#want = () => resolve(true);
    });
    this.#run = new Promise((resolve, reject) => {
      this.open = resolve;
      this.fail = reject;
    });
    this.#run.catch(() => undefined);
  }

  readonly opened = (): Promise<DelegatedRun> => {
    this.#want();
    return this.#run;
  };
}

/** Whoever started the client is whom it asks. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return 'client'; // a user without a name
  }
}
