import type { Command } from 'commander';
import pc from 'picocolors';
import type { Entry, GloveboxClient, RemoteRun } from '../../client/client.ts';
import { printable } from '../../journal/printable.ts';
import { renderEntry } from '../../journal/render.ts';
import { approvalLines } from '../drive/approvals.ts';
import type { CliContext } from '../context.ts';
import { findRemoteRun } from '../find-run.ts';
import { Interruption } from '../interruption.ts';
import { wholeNumber } from '../numbers.ts';
import { openService } from '../service.ts';
import { print, printJson, say } from '../terminal.ts';

interface Options {
  readonly number: number;
  readonly output: boolean;
  readonly json?: boolean;
}

const lineCharsMax = 2_000;

export function tailCommand(program: Command, _context: CliContext): void {
  program
    .command('tail')
    .description('follow an open run: calls, what they print, denials, approvals, until it is closed')
    .argument('<run>', 'name, id, or the beginning of one')
    .option('-n, --number <n>', 'how many entries of before to begin with', wholeNumber(0), 10)
    .option('--no-output', 'leave out what commands print')
    .option('--json', 'a line of JSON for each entry, and for each line of output')
    .action(async (name: string, options: Options) => {
      const client = await openService();
      const interruption = new Interruption('the view');
      try {
        const run = await findRemoteRun(client, name, { open: false });
        await interruption.orElse(follow(client, run, options, interruption.signal));
      } finally {
        interruption.end();
        await client.close();
      }
    });
}

async function follow(client: GloveboxClient, run: RemoteRun, options: Options, signal: AbortSignal): Promise<void> {
  const before = await run.entries(signal);
  const shown = options.number === 0 ? [] : before.slice(-options.number);
  const outputs = new Map<string, Promise<void>>();
  const show = async (entry: Entry): Promise<void> => {
    // The last lines of a command come before the line that says how it ended.
    if (entry.type === 'call.ended') await outputs.get(entry.data.callId);
    if (options.json === true) printJson(entry);
    else print(colored(entry));
    if (entry.type === 'approval.requested' && options.json !== true) await showApproval(client, entry.data.id);
    if (entry.type !== 'call.intended' || entry.data.tool !== 'exec' || !options.output) return;
    const { callId } = entry.data;
    outputs.set(callId, copyOutput(run, callId, options, signal));
  };
  for (const entry of shown) await show(entry);
  if (before.at(-1)?.type !== 'run.closed') {
    const after = before.at(-1)?.seq ?? 0;
    for await (const entry of run.journal({ after, signal })) await show(entry);
  }
  await Promise.all(outputs.values());
}

/** By lines, so that commands beside each other stay readable. */
async function copyOutput(run: RemoteRun, callId: string, options: Options, signal: AbortSignal): Promise<void> {
  const decoder = new TextDecoder();
  let rest = '';
  const show = (line: string): void => {
    if (options.json === true) printJson({ type: 'output', callId, text: line });
    else print(`${pc.dim(`     ${callId} │`)} ${printable(line)}`);
  };
  try {
    for await (const bytes of run.output(callId, { signal })) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) show(line.slice(0, lineCharsMax));
      if (rest.length > lineCharsMax) {
        show(rest.slice(0, lineCharsMax));
        rest = '';
      }
    }
    if (rest !== '') show(rest);
  } catch (error) {
    // A call that was denied or never began has none; what keeps the journal from being followed is said there.
    if (!signal.aborted && options.json !== true) say(pc.dim(`     ${callId} │ ${printable(String(error))}`));
  }
}

async function showApproval(client: GloveboxClient, id: string): Promise<void> {
  const approval = await client.approvals.get(id).catch(() => undefined);
  if (approval === undefined || approval.state !== 'pending') return;
  for (const line of approvalLines(approval)) print(line);
  print(pc.yellow(`  glovebox approvals approve ${id}   glovebox approvals deny ${id}`));
}

function colored(entry: Entry): string {
  const line = renderEntry(entry);
  if (entry.type === 'call.denied' || entry.type === 'sandbox.lost') return pc.red(line);
  if (entry.type === 'egress.decided' && entry.data.decision === 'denied') return pc.red(line);
  return entry.type.startsWith('approval.') ? pc.yellow(line) : line;
}
