import type { RunDir } from '../data-dir/data-dir.ts';
import { digestOf, type Digest } from '../digest.ts';
import type { Credentials } from '../credentials/credentials.ts';
import { contextsBytesMax, contextsMax, keepContext } from '../context/context-files.ts';
import { contextEntry } from '../context/context-entry.ts';
import { encodeContext, parseContext, type ContextSnapshot } from '../context/context-snapshot.ts';
import { isHandOver, workerAfter, type ContextStory, type Worker } from '../context/context-story.ts';
import { RunnerError } from '../errors.ts';
import { failpoint } from '../failpoint.ts';
import type { Journal } from '../journal/writer.ts';
import { refuseModel } from '../policy/decisions/refuse-task.ts';
import type { Policy } from '../policy/policy.ts';
import type { RunGate } from './gate.ts';

export interface AttachedContext {
  readonly digest: Digest;
  /** 1, 2, 3 ... in the run. */
  readonly number: number;
}

export interface ContextsParts {
  readonly dir: Pick<RunDir, 'id' | 'contextDir'>;
  readonly journal: Pick<Journal, 'append'>;
  readonly policy: Pick<Policy, 'lane' | 'models'>;
  /** Takes the secrets of the run out of a text. */
  readonly mask: (text: string) => string;
  /** Told once one is in force. */
  readonly onAttached: () => void;
}

/**
 * The context snapshots of one open run. Promises:
 *  - one that was answered is on the disk, whole, and in the journal; the journal names none that is not on the disk;
 *  - the same snapshot twice is the same one: it is answered again, and nothing is recorded;
 *  - they are bounded in number and bytes, and hold no credential that the run has sent.
 */
export class Contexts {
  readonly #parts: ContextsParts;
  readonly #known = new Map<Digest, number>();
  #worker: Worker;
  #bytes: number;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: ContextsParts, before: Pick<ContextStory, 'attached' | 'worker' | 'bytes'>) {
    this.#parts = parts;
    this.#worker = before.worker;
    this.#bytes = before.bytes;
    for (const { said } of before.attached) this.#known.set(said.digest, said.number);
  }

  /** Who works now. */
  get worker(): Worker {
    return this.#worker;
  }

  /**
   * From here on it is the snapshot in force. `by`: whose it is, where a service attaches it for somebody. Throws `invalid_request`
   * for one that cannot be read, or whose model may not work in this lane; `limit_exceeded`; what the disk and the journal throw.
   */
  attach(input: unknown, by?: string): Promise<AttachedContext> {
    const snapshot = this.#masked(parseContext(input));
    const turn = this.#turn.then(() => this.#attach(snapshot, by));
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #attach(snapshot: ContextSnapshot, by: string | undefined): Promise<AttachedContext> {
    const text = encodeContext(snapshot);
    const digest = digestOf(text);
    const known = this.#known.get(digest);
    if (known !== undefined) return { digest, number: known };
    const bytes = Buffer.byteLength(text);
    this.#refuse(snapshot, bytes);
    await keepContext(this.#parts.dir, digest, text);
    await failpoint('context.kept');
    await this.#handOver(workerAfter(this.#worker, snapshot));
    await failpoint('context.handed_over');
    const number = this.#known.size + 1;
    await this.#parts.journal.append({
      type: 'context.attached',
      data: contextEntry(snapshot, { digest, number, bytes, by }),
    });
    this.#known.set(digest, number);
    this.#bytes += bytes;
    this.#parts.onAttached();
    await failpoint('context.recorded');
    return { digest, number };
  }

  #refuse({ model }: ContextSnapshot, bytes: number): void {
    const { dir, policy } = this.#parts;
    const full = (what: string): never => {
      throw new RunnerError(
        'limit_exceeded',
        `run ${dir.id} takes no more context snapshots: ${what} are possible; open a fork and go on there`,
      );
    };
    if (this.#known.size >= contextsMax) full(`${contextsMax}`);
    if (this.#bytes + bytes > contextsBytesMax) full(`${contextsBytesMax} bytes`);
    if (model !== undefined && model !== this.#worker.model) refuseModel(policy, model);
  }

  async #handOver(to: Worker): Promise<void> {
    const { dir, journal } = this.#parts;
    const from = this.#worker;
    if (isHandOver(from, to)) {
      const data = { from: { run: dir.id, ...from }, to };
      await journal.append({ type: 'lane.handed_over', data });
    }
    this.#worker = to;
  }

  #masked(snapshot: ContextSnapshot): ContextSnapshot {
    const { mask } = this.#parts;
    const { summary, source_refs: sources, diffs, model } = snapshot;
    return {
      ...snapshot,
      summary: mask(summary),
      source_refs: sources.map(mask),
      diffs: diffs.map(({ path, text }) => ({ path: mask(path), text: mask(text) })),
      ...(model === undefined ? {} : { model: mask(model) }),
    };
  }
}

/** Of a run that is put together. */
export function contextsOf(
  parts: Pick<ContextsParts, 'dir' | 'journal' | 'policy'> & {
    readonly gate: Pick<RunGate, 'contextAttached'>;
    readonly fence: { readonly credentials: Pick<Credentials, 'mask'> } | undefined;
  },
  story: ContextStory,
): Contexts {
  const { gate, fence, ...kept } = parts;
  const mask = (text: string): string => fence?.credentials.mask(text) ?? text;
  return new Contexts({ ...kept, mask, onAttached: () => gate.contextAttached() }, story);
}
