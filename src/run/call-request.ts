import type { ShownBefore } from '../approvals/approvals.ts';
import { canonicalJson, type Digest } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import { boundArguments, outlineBytes } from '../journal/bound-arguments.ts';
import type { EntryData } from '../journal/entry.ts';
import type { ToolCall } from '../tools/tool-call.ts';

/** What is kept of what a call asked: enough to tell another request from it. */
export interface AskedBefore {
  readonly tool: string;
  /** `argsDigest` of its intent, or of its denial. */
  readonly digest: Digest;
  /** Of a command. How long somebody waits for it is no part of what is asked, but of what the digest is of. */
  readonly yieldMs?: number;
}

/** What is asked under a call id. An id holds for one request: a tool with its arguments, defaults filled in. */
export class CallRequest {
  readonly call: ToolCall;
  #digest: Digest | undefined;

  constructor(call: ToolCall) {
    this.call = call;
  }

  /** As a journal keeps it. */
  async bound(): ReturnType<typeof boundArguments> {
    const bound = await boundArguments(this.call);
    this.#digest = bound.argsDigest;
    return bound;
  }

  /** For whoever comes with the same id later. Costs nothing once it is on record. */
  async asked(): Promise<AskedBefore> {
    return { tool: this.call.tool, digest: await this.#ownDigest(), ...yieldOf(this.call) };
  }

  /** Throws `call_id_reused` where something else was asked before. */
  async refuseOther(callId: string, before: AskedBefore): Promise<void> {
    const { call } = this;
    if (before.tool === call.tool && before.digest === (await this.#digestWith(before.yieldMs))) return;
    throw reused(callId, before.tool, call.tool);
  }

  /** The same of what people were shown of a call, which may have been clipped: then of as much as that tells. */
  async refuseOtherThanShown(callId: string, { whole, begins }: ShownBefore): Promise<void> {
    const { call } = this;
    const own = await outlineBytes(call);
    if (whole === undefined) {
      if (JSON.stringify(own).startsWith(begins)) return;
      throw reused(callId, 'what waits for an approval', call.tool);
    }
    const before = { ...whole, ...yieldOf(call) };
    if (canonicalJson(before) !== canonicalJson(own)) throw reused(callId, String(whole['tool']), call.tool);
  }

  async #digestWith(yieldMs: number | undefined): Promise<Digest> {
    const own = yieldOf(this.call)?.yieldMs;
    if (yieldMs === undefined || own === undefined || own === yieldMs) return this.#ownDigest();
    return (await boundArguments({ ...this.call, yieldMs })).argsDigest;
  }

  async #ownDigest(): Promise<Digest> {
    return this.#digest ?? (await this.bound()).argsDigest;
  }
}

/** The same of a call whose intent is on record. */
export function askedBefore({ tool, argsDigest, arguments: shown }: EntryData<'call.intended'>): AskedBefore {
  const { yieldMs } = shown;
  return { tool, digest: argsDigest, ...(typeof yieldMs === 'number' ? { yieldMs } : {}) };
}

function reused(callId: string, before: string, now: string): RunnerError {
  const what = before === now ? ' with other arguments' : `, and this asks for ${now}`;
  return new RunnerError(
    'call_id_reused',
    `call id ${callId} was used before in this run, for ${before}${what}; an id holds for one request, so nothing was done: make this one with a new id`,
  );
}

function yieldOf(call: ToolCall): { readonly yieldMs: number } | undefined {
  return call.tool === 'exec' ? { yieldMs: call.yieldMs } : undefined;
}
