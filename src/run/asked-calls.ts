import type { Journal, RecordEnd } from '../journal/writer.ts';
import type { ToolResult } from '../tools/tool-result.ts';
import type { Admitted } from './gate.ts';
import { deniedResult, type Denial } from './gate-results.ts';
import type { KeptArguments } from './kept-arguments.ts';
import type { Asked } from './run-parts.ts';

const tagsMax = 64;

/** What is asked of a run: on record before anything comes of it, and kept whole beside the record. */
export class AskedCalls {
  readonly #journal: Journal;
  readonly #kept: KeptArguments;

  constructor({ journal, keptArguments }: { readonly journal: Journal; readonly keptArguments: KeptArguments }) {
    this.#journal = journal;
    this.#kept = keptArguments;
  }

  /** Nothing may start before it resolves; what it returns records how the call ended. */
  async intend(callId: string, { request, told }: Asked, slot: Pick<Admitted, 'number' | 'tags'>): Promise<RecordEnd> {
    const { arguments: shown, argsDigest, wholly, whole } = await request.bound();
    const tags = slot.tags.length === 0 ? {} : { tags: slot.tags.slice(0, tagsMax) };
    const asked = { callId, tool: request.call.tool, arguments: shown, argsDigest, ...told };
    const end = await this.#journal.intend({ ...asked, count: slot.number, ...tags });
    if (!wholly) this.#kept.keep(whole);
    return end;
  }

  async deny(callId: string, { request, told }: Asked, denial: Denial): Promise<ToolResult> {
    const { argsDigest, whole } = await request.bound();
    const { tool } = request.call;
    const by = told.by === undefined ? {} : { by: told.by };
    const { rule, reason } = denial;
    await this.#journal.append({
      type: 'call.denied',
      data: { callId, tool, argsDigest, ...by, rule, reason },
    });
    this.#kept.keep(whole);
    return deniedResult(callId, tool, denial);
  }

  /** What is being kept is kept before. */
  close(): Promise<void> {
    return this.#kept.close();
  }
}
