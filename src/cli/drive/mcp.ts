import { userInfo } from 'node:os';
import type { Command } from 'commander';
import { ElicitedApprovals } from '../../mcp/elicited-approvals.ts';
import { McpRun } from '../../mcp/mcp-run.ts';
import { serveMcpLines } from '../../mcp/serve.ts';
import type { CliContext } from '../context.ts';
import { LateRun, serveRun } from './late-run.ts';
import { withRunOptions, type RunOptions } from './open-run.ts';
import { closingLines } from './summary.ts';
import { say } from '../terminal.ts';
import { version } from '../../version.ts';

export function mcpCommand(program: Command, context: CliContext): void {
  withRunOptions(program.command('mcp'))
    .description(
      "serve a sandbox's tools to an MCP client on standard input and output; its diff stays when the client has gone",
    )
    .option('--text-only', 'no structured content: for clients that show it to their model instead of the text')
    .action(async (options: RunOptions & { textOnly?: boolean }) => {
      const approvals = new ElicitedApprovals(options.approve ?? [], userName());
      const door = new LateRun();
      const served = serveMcpLines(
        new McpRun(door.opened, {
          version: version(),
          approvals,
          offer: door.offered,
          textOnly: options.textOnly === true,
        }),
        process.stdin,
        process.stdout,
      );
      // A client that only looks what this is, as some do before they start it again, opens no run.
      if ((await Promise.race([door.wanted, served])) === undefined) return;
      const run = await serveRun(
        context,
        { ...options, stdinIsTaken: true, approver: approvals.approver },
        door,
        served,
      );
      if (options.quiet !== true) for (const line of await closingLines(context, run)) say(line);
    });
}

/** Whoever started the client is whom it asks. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return 'client'; // a user without a name
  }
}
