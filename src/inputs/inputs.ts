import { readFile, stat } from 'node:fs/promises';
import type { Engine, EngineFacts, Labels, MountedVolume } from '../engine/engine.ts';
import { labelKeys } from '../engine/labels.ts';
import { RunnerError, messageOf } from '../errors.ts';
import { mountOptionsOf } from './mount-info.ts';
import { openInput, type Identity, type InputRules, type InputSpec, type OpenedInput } from './open-input.ts';

export interface InputsRequest extends InputRules {
  /** Whose volumes they are. */
  readonly sandbox: string;
  /** Id of the data directory. */
  readonly owner: string;
}

/** What a run was given, for its journal. */
export interface SharedInput extends InputSpec {
  readonly device: string;
  readonly inode: string;
  readonly files: number;
}

/**
 * The inputs of one run: opened once, mounted by the engine, and compared. Promises:
 *  - what the engine has mounted is the directory that was opened and looked at: device and inode are the same, whatever
 *    has become of its path meanwhile. Nothing of the agent's runs before that is known;
 *  - it is mounted `ro,nosuid,nodev`, and nothing below it that is mounted on this machine comes along;
 *  - `discard` may be called twice, and leaves neither a volume nor an open file.
 */
export class Inputs {
  /** For the container, in the policy's order. */
  readonly mounts: readonly MountedVolume[];
  readonly #engine: Engine;
  readonly #opened: readonly OpenedInput[];
  readonly #labels: Labels;

  private constructor(engine: Engine, opened: readonly OpenedInput[], { sandbox, owner }: InputsRequest) {
    this.#engine = engine;
    this.#opened = opened;
    this.#labels = { [labelKeys.owner]: owner, [labelKeys.inputs]: sandbox };
    this.mounts = opened.map(({ target }, at) => ({ name: `glovebox-input-${sandbox}-${at}`, target, kind: 'input' }));
  }

  /** Throws `input_refused`, or `policy_unenforceable` where what is mounted could not be checked. */
  static async open(engine: Engine, specs: readonly InputSpec[], request: InputsRequest): Promise<Inputs> {
    const opened: OpenedInput[] = [];
    if (specs.length === 0) return new Inputs(engine, opened, request);
    const facts = await engine.describe();
    refuseWhereUnchecked(facts);
    const apart = facts.dataRoot === undefined ? request.apart : [...request.apart, facts.dataRoot];
    try {
      for (const spec of specs) opened.push(await openInput(spec, { ...request, apart }));
      return new Inputs(engine, opened, request);
    } catch (error) {
      await Promise.all(opened.map(({ handle }) => handle.close()));
      throw error;
    }
  }

  /** Before the container is made. */
  async prepare(labels: Labels): Promise<void> {
    for (const [at, { name }] of this.mounts.entries()) {
      const input = this.#opened[at];
      if (input !== undefined) await this.#engine.createInput(name, input.source, { ...labels, ...this.#labels });
    }
  }

  /** Once the container runs. What differs is `isolation_unproven`. */
  async verify(): Promise<readonly SharedInput[]> {
    const shared: SharedInput[] = [];
    for (const [at, { name }] of this.mounts.entries()) {
      const input = this.#opened[at];
      if (input === undefined) continue;
      const found = await this.#mountedAt(name, input);
      if (found !== undefined) throw unlike(input, found);
      const { source, target, files, identity } = input;
      shared.push({ source, target, device: String(identity.device), inode: String(identity.inode), files });
    }
    await this.#letGo();
    return shared;
  }

  async discard(): Promise<void> {
    await this.#letGo();
    if (this.mounts.length > 0) await this.#engine.removeVolumes(this.#labels, []);
  }

  /** What is wrong with what the engine has mounted; undefined when nothing is. */
  async #mountedAt(volume: string, { identity }: OpenedInput): Promise<string | undefined> {
    const place = await this.#engine.findMountPoint(volume);
    if (place === undefined) return 'the engine does not say where it is mounted';
    let found: Identity;
    try {
      const { dev: device, ino: inode } = await stat(place, { bigint: true });
      found = { device, inode };
    } catch (error) {
      return `what the engine has mounted cannot be seen from here: ${messageOf(error)}`;
    }
    if (found.device !== identity.device || found.inode !== identity.inode)
      return `the engine has mounted inode ${found.device}:${found.inode} instead of ${identity.device}:${identity.inode}`;
    const options = mountOptionsOf(await readFile('/proc/self/mountinfo', 'utf8'), place);
    const missing = ['ro', 'nosuid', 'nodev'].filter((option) => options?.includes(option) !== true);
    return missing.length === 0 ? undefined : `it is not mounted ${missing.join(', ')}`;
  }

  async #letGo(): Promise<void> {
    await Promise.all(this.#opened.map(({ handle }) => handle.close().catch(() => undefined)));
  }
}

/** Only root on the engine's own machine can look at what the engine has mounted. */
function refuseWhereUnchecked(facts: EngineFacts): void {
  const root = process.getuid?.() === 0;
  if (facts.local && !facts.rootless && root) return;
  const why = root ? `the engine at ${facts.endpoint} is not one of this machine and root` : 'the runner is not root';
  throw new RunnerError(
    'policy_unenforceable',
    `inputs of the policy cannot be shared: ${why}, so that what is mounted cannot be checked; leave inputs out, or bring the files in with the workspace`,
  );
}

function unlike({ source, target }: InputSpec, why: string): RunnerError {
  return new RunnerError(
    'isolation_unproven',
    `the input ${target} is not the ${source} that was looked at: ${why}; see who changes it, then open the run again`,
  );
}
