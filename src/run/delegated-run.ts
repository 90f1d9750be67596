import type { LoadedPolicy } from '../policy/policy.ts';
import { describeTools, type ToolDescription } from '../tools/describe.ts';
import type { ToolCallInput } from '../tools/tool-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import { readEntries } from '../journal/read.ts';
import { findOutput } from '../sandbox/find-output.ts';
import { exportDocument } from './export.ts';
import { parseContext } from '../context/context-snapshot.ts';
import type { AttachedContext } from './contexts.ts';
import type { Run } from './run.ts';

/** What a run has for its harness: of the policy alone, so it is known before there is a run. */
export interface Offer {
  /** The policy lets something of it out of the sandbox. */
  readonly reachesOut: boolean;
  /** The policy asks before some calls what the agent believes. */
  readonly asksContext: boolean;
  /** What is offered: nothing else is answered. */
  tools(): readonly ToolDescription[];
}

/** A run as the doors see through which harnesses of other makers come in; one here, or one of a server. */
export interface DelegatedRun extends Offer {
  readonly id: string;
  /** The same call id twice is the same call. `claims` is what the harness says beside it: recorded, without effect. */
  call(callId: string, input: ToolCallInput, claims?: string): Promise<ToolResult>;
  /** How a command stands, after it has ended or `yieldMs`, whatever tools are offered. */
  poll(callId: string, yieldMs: number): Promise<ToolResult>;
  /** What a command has printed from an offset of the merged view on, as soon as there is some; undefined: no such command. */
  output(callId: string, offset: number, maxBytes: number, waitMs: number): Promise<OutputPart | undefined>;
  /** Ends a command of this run with its whole tree; one that has ended, or is none, is left alone. */
  cancel(callId: string): Promise<void>;
  /** What its agent believes from here on. */
  attachContext(snapshot: unknown): Promise<AttachedContext>;
  /** The changes so far. Throws while commands run. */
  diff(): Promise<{ readonly document: Record<string, unknown>; readonly patch: Uint8Array }>;
  /** The entries on record, from `fromSeq` on. */
  journal(fromSeq: number): AsyncIterable<unknown>;
}

export interface OutputPart {
  readonly bytes: Buffer;
  readonly nextOffset: number;
  /** Of the merged view, so far. */
  readonly totalBytes: number;
  /** Nothing comes after `nextOffset`. */
  readonly ended: boolean;
}

export function offerOf({ policy: { egress, tools, context } }: LoadedPolicy): Offer {
  const reachesOut = egress.rules.length > 0 || egress.upstreams.length > 0;
  const asksContext = context !== undefined && context.freshBefore.length > 0;
  return { reachesOut, asksContext, tools: () => describeTools(tools.allow) };
}

/** A run of this process. */
export class LocalRun implements DelegatedRun {
  readonly id: string;
  readonly reachesOut: boolean;
  readonly asksContext: boolean;
  readonly #run: Run;

  constructor(run: Run) {
    this.id = run.id;
    ({ reachesOut: this.reachesOut, asksContext: this.asksContext } = offerOf(run.policy));
    this.#run = run;
  }

  tools(): readonly ToolDescription[] {
    return this.#run.tools();
  }

  call(callId: string, input: ToolCallInput, claims?: string): Promise<ToolResult> {
    return this.#run.call(callId, input, claims === undefined ? {} : { claims });
  }

  poll(callId: string, yieldMs: number): Promise<ToolResult> {
    return this.#run.poll(callId, yieldMs);
  }

  async output(callId: string, offset: number, maxBytes: number, waitMs: number): Promise<OutputPart | undefined> {
    const output = this.#run.findCommand(callId)?.output ?? (await findOutput(this.#run.dir.callsDir, callId));
    if (output === undefined) return undefined;
    if (waitMs > 0) await output.waitBeyond(offset, waitMs);
    const { bytes, nextOffset, done } = await output.read(offset, maxBytes);
    return { bytes, nextOffset, totalBytes: output.size(), ended: done };
  }

  async cancel(callId: string): Promise<void> {
    const command = this.#run.findCommand(callId);
    if (command === undefined || command.result !== undefined) return;
    command.kill();
    await command.ended;
  }

  attachContext(snapshot: unknown): Promise<AttachedContext> {
    return this.#run.attachContext(parseContext(snapshot));
  }

  async diff(): Promise<{ document: Record<string, unknown>; patch: Uint8Array }> {
    const taken = await this.#run.diff();
    return { document: exportDocument(taken, this.#run.policy.digest), patch: taken.patch.bytes };
  }

  journal(fromSeq: number): AsyncIterable<unknown> {
    return readEntries(this.#run.dir.journal, { fromSeq });
  }
}
