import type { RunDir } from '../data-dir/data-dir.ts';
import { Deadline } from '../deadline.ts';
import type { Digest } from '../digest.ts';
import { sectionDigests, type Fingerprint } from '../drift/fingerprint.ts';
import { readFingerprint, writeFingerprint } from '../drift/fingerprint-files.ts';
import type { InstalledMemory } from '../drift/installed-memory.ts';
import { takeFingerprint } from '../drift/take.ts';
import type { Fence } from '../egress/fence.ts';
import type { Engine } from '../engine/engine.ts';
import { isRunnerError, messageOf } from '../errors.ts';
import type { EntryData } from '../journal/entry.ts';
import type { Journal } from '../journal/writer.ts';
import type { Placement } from '../placement.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import { callEnvironment } from '../sandbox/environment.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { Base } from '../workspace/base/import.ts';
import { boundedSpec } from './bounded-spec.ts';
import type { RunControl } from './control.ts';
import type { RunImage } from './snapshot.ts';

export interface FingerprintsParts {
  readonly dir: RunDir;
  /** The data directory. */
  readonly dataDir: string;
  readonly engine: Engine;
  readonly installed: InstalledMemory;
  readonly journal: Pick<Journal, 'append'>;
  readonly sandbox: Sandbox;
  readonly policy: LoadedPolicy;
  readonly image: RunImage;
  readonly base: Base;
  readonly placement: Pick<Placement, 'strategy' | 'checkout'>;
  readonly fence?: Fence | undefined;
  readonly control: Pick<RunControl, 'state'>;
  /** What its first one is for; undefined where none is to be taken by itself. */
  readonly first: 'open' | 'verify' | undefined;
  /** The document of the first one, where a runner before has taken it. */
  readonly recorded?: Digest | undefined;
  /** Default 100. */
  readonly firstAfterMs?: number;
  /** Of each; default 60,000. */
  readonly withinMs?: number;
  /** So many are taken for those who ask; default 1,000. */
  readonly askedMax?: number;
}

type At = EntryData<'environment.fingerprint'>['at'];

/** A fingerprint that is on record, by the digest of its document. */
export interface KeptFingerprint {
  readonly fingerprint: Fingerprint;
  readonly document: Digest;
}

const firstAfterMsByDefault = 100;
const atEndWithinMs = 2_000;
const askedMax = 1_000;
/** Calls may wait for it: verbs that are each within their own bounds are many. */
const withinMs = 60_000;

/**
 * What the environment of one run was, whenever somebody looks. Promises:
 *  - the first is taken by itself, a moment after the run has opened: neither its opening nor a call waits for it;
 *  - its file is there before the journal names it;
 *  - one at a time; who asks while one is being taken gets the next;
 *  - none takes longer than a bound, whatever is done inside meanwhile: then it was not taken.
 */
export class RunFingerprints {
  readonly #parts: FingerprintsParts;
  #timer: NodeJS.Timeout | undefined;
  #first: Promise<KeptFingerprint | undefined> | undefined;
  #taking: Promise<unknown> = Promise.resolve();
  #over = false;
  #asked: Promise<KeptFingerprint> | undefined;
  #askedCount = 0;
  #isAsking = false;

  constructor(parts: FingerprintsParts) {
    this.#parts = parts;
    if (parts.first === undefined || parts.recorded !== undefined) return;
    this.#timer = setTimeout(() => void this.opened(), parts.firstAfterMs ?? firstAfterMsByDefault).unref();
  }

  /** The first one, begun now if it was not yet. Undefined where it could not be taken, or none was to be. */
  opened(): Promise<KeptFingerprint | undefined> {
    clearTimeout(this.#timer);
    const { first, recorded, dir } = this.#parts;
    if (recorded !== undefined) {
      this.#first ??= readFingerprint(dir, recorded).then(
        (fingerprint) => ({ fingerprint, document: recorded }),
        () => undefined, // kept no longer, or not what was written: there is none to compare with
      );
      return this.#first;
    }
    if (first === undefined || this.#over) return this.#first ?? Promise.resolve(undefined);
    this.#first ??= this.#takeFirst(first);
    return this.#first;
  }

  /** The same, where somebody has begun it; it is not begun for this. */
  begun(): Promise<KeptFingerprint | undefined> {
    if (this.#parts.recorded !== undefined) return this.opened();
    return this.#first ?? Promise.resolve(undefined);
  }

  /** Throws `sandbox_lost` and the like where there is nothing to look at, and what keeping it met. */
  async take(at: At): Promise<KeptFingerprint> {
    const before = this.#taking;
    const taken = before.then(() => this.#take(at));
    this.#taking = taken.catch(() => undefined);
    return taken;
  }

  /**
   * For whoever asks: those who do while one is being taken for somebody share it, and after many of them it is the last one, for
   * each takes room in the journal and on the disk. Throws as `take` does.
   */
  asked(): Promise<KeptFingerprint> {
    const isEnough = this.#askedCount >= (this.#parts.askedMax ?? askedMax);
    if (this.#asked !== undefined && (this.#isAsking || isEnough)) return this.#asked;
    [this.#isAsking, this.#askedCount] = [true, this.#askedCount + 1];
    const asked = this.take('asked').finally(() => (this.#isAsking = false));
    this.#asked = asked;
    return asked;
  }

  /** When nothing runs inside any more, before it is closed. Never rejects, and waits for a moment only. */
  async end(): Promise<void> {
    clearTimeout(this.#timer);
    const { first, recorded, installed, image, sandbox } = this.#parts;
    // What nobody has looked at yet takes longer than a run that was over at once.
    const isQuick = this.#first !== undefined || (await installed.has(image.id, sandbox.spec.runtime));
    const last = first !== undefined && recorded === undefined && isQuick ? this.opened() : this.#taking;
    await Deadline.run(atEndWithinMs, 'take the fingerprint', () => Promise.all([last, this.#taking])).catch(
      () => undefined,
    );
    this.#over = true;
  }

  /** It goes on under another runner, which looks again. */
  async handOver(): Promise<void> {
    clearTimeout(this.#timer);
    this.#over = true;
    await Deadline.run(atEndWithinMs, 'take the fingerprint', () => this.#taking).catch(() => undefined);
  }

  async #takeFirst(at: At): Promise<KeptFingerprint | undefined> {
    try {
      return await this.take(at);
    } catch (error) {
      await this.#tell(error);
      return undefined;
    }
  }

  async #take(at: At): Promise<KeptFingerprint> {
    const { dir, dataDir, journal, engine, installed, sandbox, policy, image } = this.#parts;
    const { env, ofRun } = this.#environment();
    const of = { without: this.#without(), env, ofRun, base: this.#base() };
    const fingerprint = await Deadline.run(this.#parts.withinMs ?? withinMs, 'take a fingerprint', () =>
      takeFingerprint({ sandbox, engine, installed, image, policy, ...of }),
    );
    const { document } = await writeFingerprint(dir, dataDir, fingerprint);
    const { digest, sections } = fingerprint;
    const data = { at, digest, document, sections: sectionDigests(sections) };
    await journal.append({ type: 'environment.fingerprint', data });
    return { fingerprint, document };
  }

  /** All that a command gets which says nothing of its own. */
  #environment(): { readonly env: readonly string[]; readonly ofRun: readonly string[] } {
    const { policy, fence } = this.#parts;
    const ours = fence?.environment('fingerprint') ?? {};
    const { env = {} } = boundedSpec(policy.policy, { command: { kind: 'argv', argv: ['true'] } }, { ours, ruled: {} });
    const ofRun = Object.keys(ours).filter((name) => env[name] === ours[name]);
    return { env: callEnvironment({ env }), ofRun };
  }

  #without(): readonly string[] {
    const { egress, credentials } = this.#parts.control.state();
    return [...egress.without, ...credentials.revoked].sort();
  }

  #base(): Parameters<typeof takeFingerprint>[0]['base'] {
    const { base, placement } = this.#parts;
    return { kind: base.kind, digest: base.digest, strategy: placement.strategy, ...placement.checkout };
  }

  /** A run goes on without one, and says so; that its sandbox is gone is told elsewhere. */
  async #tell(why: unknown): Promise<void> {
    if (this.#over || isRunnerError(why, 'sandbox_lost') || isRunnerError(why, 'run_not_open')) return;
    const text = `no fingerprint of the environment could be taken: ${messageOf(why)}`;
    await this.#parts.journal.append({ type: 'note', data: { text } }).catch(() => undefined); // told by the next entry
  }
}
