import { createInterface } from 'node:readline/promises';
import { userInfo } from 'node:os';
import pc from 'picocolors';
import type { ApprovalRequest, Approver, Verdict } from '../approvals/approval.ts';
import { printable } from '../journal/printable.ts';
import { quoteWhole, say } from './terminal.ts';

/**
 * Asks whoever started the command: on the terminal where there is one. `given` are categories that they approved when they
 * started it. One terminal is one person: what needs more cannot be approved here.
 */
export function terminalApprover(given: readonly string[], stdinIsFree: boolean): Approver | undefined {
  const canAsk = stdinIsFree && process.stdin.isTTY && process.stderr.isTTY;
  if (!canAsk && given.length === 0) return undefined;
  return async (request, signal) => {
    show(request);
    if (given.includes(request.category)) {
      say(`  ${pc.green('approved')} on the command line (--approve ${request.category})`);
      return [verdict(true, 'approved on the command line')];
    }
    if (!canAsk) return [verdict(false, 'there is no terminal to ask on')];
    return [await ask(request, signal)];
  };
}

function show(request: ApprovalRequest): void {
  const people = request.quorum === 1 ? '' : `, ${request.quorum} people have to`;
  say('');
  say(
    pc.bold(pc.yellow(`approval needed: ${request.category}`)) +
      pc.dim(` (rule ${printable(request.rule)}${people}, until ${request.expiresAt})`),
  );
  if (request.note !== '') say(`  ${request.note}`);
  say(`  ${printable(request.reach)}`);
  say(quoteWhole(request.subject));
}

async function ask(request: ApprovalRequest, signal: AbortSignal): Promise<Verdict> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question('  approve? [y/N] ', { signal });
    if (!/^y(es)?$/i.test(answer.trim())) return verdict(false, 'refused on the terminal');
    const reason = request.reasonRequired ? await terminal.question('  why? ', { signal }) : '';
    return verdict(true, reason);
  } finally {
    terminal.close();
  }
}

function verdict(approve: boolean, reason: string): Verdict {
  return { approve, by: userName(), reason };
}

/** Who sits here, as this machine calls them. */
export function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return 'terminal'; // a user without a name
  }
}
