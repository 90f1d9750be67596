import type { ToolDescription } from '../tools/describe.ts';
import type { ToolCallInput } from '../tools/tool-call.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import { readEntries } from '../journal/read.ts';
import { exportDocument } from './export.ts';
import type { Run } from './run.ts';

/** A run as the doors see through which harnesses of other makers come in; one here, or one of a server. */
export interface DelegatedRun {
  readonly id: string;
  /** The policy lets something of it out of the sandbox. */
  readonly reachesOut: boolean;
  /** What is offered: nothing else is answered. */
  tools(): readonly ToolDescription[];
  /** The same call id twice is the same call. */
  call(callId: string, input: ToolCallInput): Promise<ToolResult>;
  /** What a command has printed from an offset of the merged view on, as soon as there is some; undefined: no such command. */
  output(callId: string, offset: number, maxBytes: number, waitMs: number): Promise<OutputPart | undefined>;
  /** Ends a command of this run with its whole tree; one that has ended, or is none, is left alone. */
  cancel(callId: string): Promise<void>;
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

/** A run of this process. */
export class LocalRun implements DelegatedRun {
  readonly id: string;
  readonly reachesOut: boolean;
  readonly #run: Run;

  constructor(run: Run) {
    this.id = run.id;
    const { rules, upstreams } = run.policy.policy.egress;
    this.reachesOut = rules.length > 0 || upstreams.length > 0;
    this.#run = run;
  }

  tools(): readonly ToolDescription[] {
    return this.#run.tools();
  }

  call(callId: string, input: ToolCallInput): Promise<ToolResult> {
    return this.#run.call(callId, input);
  }

  async output(callId: string, offset: number, maxBytes: number, waitMs: number): Promise<OutputPart | undefined> {
    const output = this.#run.findCommand(callId)?.output;
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

  async diff(): Promise<{ document: Record<string, unknown>; patch: Uint8Array }> {
    const taken = await this.#run.diff();
    return { document: exportDocument(taken, this.#run.policy.digest), patch: taken.patch.bytes };
  }

  journal(fromSeq: number): AsyncIterable<unknown> {
    return readEntries(this.#run.dir.journal, { fromSeq });
  }
}
