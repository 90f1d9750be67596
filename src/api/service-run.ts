import { readEntries } from '../journal/read.ts';
import { offerOf, type DelegatedRun, type OutputPart } from '../run/delegated-run.ts';
import { parseContext } from '../context/context-snapshot.ts';
import type { AttachedView } from '../contract/context-view.ts';
import type { Principal } from '../service/principal.ts';
import type { Service } from '../service/service.ts';
import type { ToolDescription } from '../tools/describe.ts';
import type { ToolCallInput } from '../tools/tool-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';

/** A run of the service as one of its principals sees it: each method asks the service, which knows what they may. */
export class ServiceRun implements DelegatedRun {
  readonly id: string;
  readonly reachesOut: boolean;
  readonly asksContext: boolean;
  readonly #service: Service;
  readonly #principal: Principal;

  /** Throws `run_not_found`, `run_not_open`. */
  constructor(service: Service, principal: Principal, runId: string) {
    const { run } = service.find(principal, runId, 'call');
    this.id = runId;
    ({ reachesOut: this.reachesOut, asksContext: this.asksContext } = offerOf(run.policy));
    this.#service = service;
    this.#principal = principal;
  }

  tools(): readonly ToolDescription[] {
    return this.#service.find(this.#principal, this.id, 'call').run.tools();
  }

  call(callId: string, input: ToolCallInput): Promise<ToolResult> {
    return this.#service.calls.make(this.#principal, this.id, callId, input);
  }

  attachContext(snapshot: unknown): Promise<AttachedView> {
    return this.#service.contexts.attach(this.#principal, this.id, parseContext(snapshot));
  }

  poll(callId: string, yieldMs: number): Promise<ToolResult> {
    return this.#service.calls.answer(this.#principal, this.id, callId, yieldMs);
  }

  async output(callId: string, offset: number, maxBytes: number, waitMs: number): Promise<OutputPart | undefined> {
    if (this.#service.find(this.#principal, this.id, 'call').run.findCommand(callId) === undefined) return undefined;
    const nobodyLeaves = (): AbortSignal => new AbortController().signal;
    const output = await this.#service.calls.output(this.#principal, this.id, callId, { waitMs, signal: nobodyLeaves });
    const part = await output.read(offset, maxBytes, 'merged', waitMs);
    return { ...part, totalBytes: output.size('merged') };
  }

  async cancel(callId: string): Promise<void> {
    const command = this.#service.find(this.#principal, this.id, 'call').run.findCommand(callId);
    if (command === undefined || command.result !== undefined) return;
    await this.#service.calls.cancel(this.#principal, this.id, callId);
    await command.ended;
  }

  async diff(): Promise<{ document: Record<string, unknown>; patch: Uint8Array }> {
    const document = (await this.#service.exports.diff(this.#principal, this.id)) as Record<string, unknown>;
    return { document, patch: await this.#service.exports.patch(this.#principal, this.id) };
  }

  journal(fromSeq: number): AsyncIterable<unknown> {
    return readEntries(this.#service.exports.journal(this.#principal, this.id), { fromSeq });
  }
}
