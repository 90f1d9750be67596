import { describeTools, type ToolDescription } from '../tools/describe.ts';
import { parseCall } from '../tools/parse-call.ts';
import type { ToolCallInput } from '../tools/tool-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import { digestOfContext, parseContext } from '../context/context-snapshot.ts';
import type { AttachedContext } from './contexts.ts';
import type { DelegatedRun, OutputPart } from './delegated-run.ts';

/** A run of nothing: calls are parsed and remembered, and end when they are told to. */
export class PretendedRun implements DelegatedRun {
  readonly id = '00000000000000000000000000';
  readonly reachesOut = false;
  readonly asksContext: boolean;
  readonly contexts: unknown[] = [];
  readonly calls: { readonly callId: string; readonly input: ToolCallInput; readonly claims: string | undefined }[] =
    [];
  readonly cancelled: string[] = [];
  readonly #answers = new Map<string, (result: ToolResult) => void>();
  readonly #atOnce: boolean;

  /** `atOnce`: every call ends at once. */
  constructor(options: { atOnce?: boolean; asksContext?: boolean } = {}) {
    this.#atOnce = options.atOnce ?? true;
    this.asksContext = options.asksContext ?? false;
  }

  tools(): readonly ToolDescription[] {
    return describeTools();
  }

  async call(callId: string, input: ToolCallInput, claims?: string): Promise<ToolResult> {
    const { tool } = parseCall(callId, input);
    this.calls.push({ callId, input, claims });
    const result: ToolResult = { callId, tool, ok: true, text: 'Done.', data: { kind: 'done' }, error: null };
    if (this.#atOnce) return result;
    return await new Promise((resolve) => this.#answers.set(callId, resolve));
  }

  async attachContext(input: unknown): Promise<AttachedContext> {
    const snapshot = parseContext(input);
    this.contexts.push(snapshot);
    return { digest: digestOfContext(snapshot), number: this.contexts.length };
  }

  async poll(callId: string): Promise<ToolResult> {
    return { callId, tool: 'exec_poll', ok: true, text: '', data: null, error: null };
  }

  async output(): Promise<OutputPart | undefined> {
    return undefined;
  }

  async cancel(callId: string): Promise<void> {
    this.cancelled.push(callId);
    const result = { callId, tool: 'exec', ok: false, text: 'Cancelled.', data: null, error: null };
    this.#answers.get(callId)?.(result);
  }

  async diff(): Promise<{ document: Record<string, unknown>; patch: Uint8Array }> {
    return { document: {}, patch: new Uint8Array() };
  }

  async *journal(): AsyncGenerator<unknown> {}
}
