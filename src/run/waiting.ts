import type { ApprovalRequest } from '../approvals/approval.ts';
import type { ToolResult } from '../tools/tool-result.ts';

/** A call that may have to wait for people. */
export class WaitingCall {
  /** Resolves once somebody is asked; never when nobody has to be. */
  readonly asked: Promise<ApprovalRequest>;
  readonly onAsked: (request: ApprovalRequest) => void;

  constructor() {
    let resolveAsked: (request: ApprovalRequest) => void = () => undefined;
    this.asked = new Promise((resolve) => {
      resolveAsked = resolve;
    });
    this.onAsked = resolveAsked;
  }

  /**
   * The answer; or, when people have been asked and `waitMs` have passed, that it waits. The call goes on as soon as it is
   * decided, and the same call id asks again.
   */
  async answerWithin(waitMs: number, tool: string, callId: string, answer: Promise<ToolResult>): Promise<ToolResult> {
    const first = await Promise.race([answer, this.asked.then((request) => ({ kind: 'waiting' as const, request }))]);
    if (!('kind' in first)) return first;
    if (waitMs === Number.POSITIVE_INFINITY) return answer;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<ToolResult>((resolve) => {
      timer = setTimeout(() => resolve(waitingResult(callId, tool, first.request)), waitMs);
    });
    try {
      return await Promise.race([answer, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

function waitingResult(callId: string, tool: string, { id, category, expiresAt, quorum }: ApprovalRequest): ToolResult {
  const people = quorum === 1 ? 'one person' : `${quorum} people`;
  const message = `the call waits for an approval (${category}, ${people}), ${id}, until ${expiresAt}. It runs as soon as it is approved; make the same call with the same id to hear of it.`;
  return {
    callId,
    tool,
    ok: false,
    text: `Waiting: ${message}`,
    data: null,
    error: { code: 'waiting_for_approval', message, path: null },
  };
}
