import type { Command } from 'commander';
import pc from 'picocolors';
import type { ApprovalView } from '../../client/client.ts';
import { printable } from '../../journal/printable.ts';
import { exitCodes, Exit, type CliContext } from '../context.ts';
import { findRemoteRun } from '../find-run.ts';
import { openService } from '../service.ts';
import { print, printJson, quoteWhole } from '../terminal.ts';

interface Options {
  readonly as?: string;
  readonly json?: boolean;
}

export function approvalsCommand(program: Command, _context: CliContext): void {
  const approvals = program.command('approvals').description('what runs wait for people to allow');
  approvals
    .command('ls', { isDefault: true })
    .description('what is asked now, and shown exactly as it would happen')
    .option('--run <run>', 'of one run')
    .option('-a, --all', 'also what is decided')
    .option('--json', 'as JSON')
    .action(async ({ run, all, json }: Options & { run?: string; all?: boolean }) => {
      const client = await openService();
      try {
        const of = run === undefined ? {} : { run: (await findRemoteRun(client, run, { open: false })).id };
        const found = await client.approvals.list({ ...of, ...(all === true ? {} : { state: 'pending' }) });
        if (json === true) printJson(found);
        else if (found.length === 0) print('nothing waits for an approval');
        else for (const approval of found) for (const line of approvalLines(approval)) print(line);
      } finally {
        await client.close();
      }
    });
  decision(approvals.command('approve'), true).description('allow it, exactly as it is shown; who asked for it cannot');
  decision(approvals.command('deny'), false).description('refuse it');
}

function decision(command: Command, approve: boolean): Command {
  return command
    .argument('<approval>', 'its id')
    .option('-r, --reason <text>', 'why; some categories want one')
    .option('--as <identity>', 'as whom, where the service trusts the identities of this machine')
    .option('--json', 'as JSON')
    .action(async (id: string, { reason, as, json }: Options & { reason?: string }) => {
      const client = await openService({ as });
      try {
        const approval = await client.approvals.decide(id, { approve, ...(reason === undefined ? {} : { reason }) });
        if (json === true) printJson(approval);
        else print(`${approval.id} ${stateText(approval)}`);
        throw new Exit(exitCodes.ok);
      } finally {
        await client.close();
      }
    });
}

/** Everything that whoever answers has to see. Text of the sandbox is escaped. */
export function approvalLines(approval: ApprovalView): readonly string[] {
  const { id, run, callId, category, rule, reach, note, subject, expiresAt } = approval;
  const where = callId === undefined ? `run ${run}` : `run ${run}, call ${callId}`;
  return [
    `${pc.bold(id)}  ${category}  ${stateText(approval)}  ${pc.dim(where)}`,
    pc.dim(`  rule ${printable(rule)}, until ${expiresAt}`),
    ...(note === '' ? [] : [`  ${printable(note)}`]),
    `  ${printable(reach)}`,
    quoteWhole(subject),
  ];
}

function stateText({ state, quorum, verdicts }: ApprovalView): string {
  if (state !== 'pending') return state;
  const yes = verdicts.filter(({ approve }) => approve).length;
  return quorum === 1 ? 'pending' : `pending, ${yes} of ${quorum} approve`;
}
