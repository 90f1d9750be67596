import type { ElicitInputParams } from '@modelcontextprotocol/server';
import type { ApprovalRequest, Approver, Verdict } from '../approvals/approval.ts';
import { printable } from '../journal/printable.ts';

interface Pending {
  readonly request: ApprovalRequest;
  readonly resolve: (verdicts: readonly Verdict[]) => void;
}

/**
 * Approvals that the person at the client is asked for. Promises:
 *  - an answer counts for the request that it was shown for, by id and digest, and once;
 *  - what nobody can be asked for is denied at once;
 *  - what the sandbox wrote is shown escaped, whole, and apart from our own words.
 */
export class ElicitedApprovals {
  readonly #given: readonly string[];
  readonly #by: string;
  readonly #pending = new Map<string, Pending>();
  readonly #watched = new Map<string, Set<(request: ApprovalRequest) => void>>();

  /** `given` are categories that were approved beforehand; `by` is who answers. */
  constructor(given: readonly string[], by: string) {
    this.#given = given;
    this.#by = by;
  }

  readonly approver: Approver = async (request, signal) => {
    if (this.#given.includes(request.category)) return [this.#verdict(true, 'approved on the command line')];
    const watching = request.callId === undefined ? undefined : this.#watched.get(request.callId);
    if (watching === undefined) return [this.#verdict(false, 'the client has nobody to ask')];
    return await new Promise((resolve) => {
      this.#pending.set(request.id, { request, resolve });
      signal.addEventListener('abort', () => this.#pending.delete(request.id), { once: true });
      for (const told of watching) told(request);
    });
  };

  /** `work`, or the first request that waits for an answer meanwhile: a call that needs one goes on only after it. */
  async during<T>(callId: string, work: Promise<T>): Promise<T | { readonly asks: ApprovalRequest }> {
    const waiting = [...this.#pending.values()].find(({ request }) => request.callId === callId);
    if (waiting !== undefined) return { asks: waiting.request };
    let told: (request: ApprovalRequest) => void = () => undefined;
    const asked = new Promise<{ asks: ApprovalRequest }>((resolve) => {
      told = (asks) => resolve({ asks });
    });
    const watching = this.#watched.get(callId) ?? new Set();
    this.#watched.set(callId, watching.add(told));
    try {
      return await Promise.race([work, asked]);
    } finally {
      watching.delete(told);
      if (watching.size === 0) this.#watched.delete(callId);
    }
  }

  /** What came back for a request; anything but a clear yes is a no. Of a request that nobody waits for, nothing. */
  answer(shown: { readonly approval: string; readonly digest: string }, response: unknown): void {
    const pending = this.#pending.get(shown.approval);
    if (pending === undefined || pending.request.digest !== shown.digest) return;
    this.#pending.delete(shown.approval);
    pending.resolve([this.#verdictIn(response)]);
  }

  /** Nobody waits for the call any more. */
  withdraw(callId: string): void {
    for (const [id, { request, resolve }] of this.#pending)
      if (request.callId === callId) {
        this.#pending.delete(id);
        resolve([this.#verdict(false, 'the client cancelled the call')]);
      }
  }

  #verdictIn(response: unknown): Verdict {
    const { action, content } = isRecord(response) ? response : {};
    if (action === 'decline') return this.#verdict(false, 'declined in the client');
    if (action !== 'accept' || !isRecord(content)) return this.#verdict(false, 'dismissed in the client');
    const reason = typeof content['reason'] === 'string' ? content['reason'].slice(0, 500) : '';
    return this.#verdict(content['approve'] === true, reason);
  }

  #verdict(approve: boolean, reason: string): Verdict {
    return { approve, by: this.#by, reason };
  }
}

/** What the person sees. */
export function approvalForm(request: ApprovalRequest): ElicitInputParams {
  const { category, rule, quorum, expiresAt, note, reach, subject, digest, reasonRequired } = request;
  const people = quorum === 1 ? '' : `, ${quorum} people have to`;
  const quoted = printable(subject, { newlines: 'keep' })
    .split('\n')
    .map((line) => `    | ${line}`);
  const lines = [
    `Approval needed: ${category} (rule ${printable(rule)}${people}, until ${expiresAt})`,
    ...(note === '' ? [] : [printable(note)]),
    printable(reach),
    ...quoted,
    `(${digest.slice(0, 19)})`,
  ];
  const approve = { type: 'boolean', title: 'Approve', description: 'Exactly this, once.' } as const;
  const reason = { type: 'string', title: 'Why', maxLength: 500 } as const;
  const required = reasonRequired ? ['approve', 'reason'] : ['approve'];
  return { message: lines.join('\n'), requestedSchema: { type: 'object', properties: { approve, reason }, required } };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
