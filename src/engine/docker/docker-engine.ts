import type { Readable } from 'node:stream';
import { digestPattern } from '../../digest.ts';
import { RunnerError, isRunnerError, messageOf } from '../../errors.ts';
import { failpoint } from '../../failpoint.ts';
import { Slots } from '../../slots.ts';
import { endpointName, type Endpoint } from '../endpoint.ts';
import type {
  ContainerSpec,
  ContainerState,
  ContainerStream,
  Engine,
  EngineFacts,
  FoundContainer,
  FoundNetwork,
  FoundVolume,
  ImageConfig,
  ImageFacts,
  Labels,
  OverlayLayers,
  SetUpEnd,
  SetUpSpec,
  StartedContainer,
  VolumeFile,
  VolumeKind,
  VolumeTrial,
} from '../engine.ts';
import { findEngine, type FindOptions } from '../find-engine.ts';
import { labelKeys } from '../labels.ts';
import type { ContainerAnswer } from './answers.ts';
import { compileBody, type ContainerBody } from './body.ts';
import { DockerCalls } from './calls.ts';
import { Containers, stateOf } from './containers.ts';
import { readFacts } from './facts.ts';
import { refuseUnfit } from './fitness.ts';
import { Images } from './images.ts';
import { findNetworks, removeNetwork } from './networks.ts';
import { createMount, inputOptions, overlayOptions } from './mounted-volume.ts';
import { openPipes } from './pipes.ts';
import type { ContainerReading } from '../reading.ts';
import { differences } from './readback.ts';
import { readingOf, saidOf } from './reading.ts';
import { setUp } from './set-up.ts';
import { type OpenStream, openStream } from './stream.ts';
import { type Timeouts, defaultTimeouts } from './timeouts.ts';
import { tryVolume } from './volume-trial.ts';
import { Volumes } from './volumes.ts';

export interface DockerEngineOptions extends FindOptions {
  /** Where the engine is. Default: found by `findEngine`. */
  readonly endpoint?: Endpoint;
  readonly timeouts?: Partial<Timeouts>;
}

const changesAtOnce = 8;

/** Docker Engine, here or elsewhere, root's or rootless; of whatever else speaks its API, `refuseUnfit` decides. */
export class DockerEngine implements Engine {
  readonly endpoint: string;
  readonly #calls: DockerCalls;
  readonly #timeouts: Timeouts;
  readonly #containers: Containers;
  readonly #images: Images;
  readonly #volumes: Volumes;
  /** By container. The engine's removal waits for whoever is attached and does not read. */
  readonly #streams = new Map<string, Set<OpenStream>>();
  /** Fifty at once would each wait for all the others, and all be late: a deadline starts when its turn has come. */
  readonly #starts = new Slots(changesAtOnce);
  readonly #removals = new Slots(changesAtOnce);
  #facts: Promise<EngineFacts> | undefined;

  private constructor(endpoint: Endpoint, timeouts: Timeouts) {
    this.endpoint = endpointName(endpoint);
    this.#timeouts = timeouts;
    this.#calls = new DockerCalls(endpoint);
    this.#containers = new Containers(this.#calls, timeouts);
    this.#images = new Images(this.#calls, timeouts);
    this.#volumes = new Volumes(this.#calls, this.#containers, timeouts);
  }

  /** Finds the engine and asks what it is; `engine_unavailable` names what was tried and the next step. */
  static async connect(options: DockerEngineOptions = {}): Promise<DockerEngine> {
    const endpoint = options.endpoint ?? (await findEngine(options));
    const engine = new DockerEngine(endpoint, { ...defaultTimeouts, ...options.timeouts });
    await engine.describe();
    return engine;
  }

  async describe(): Promise<EngineFacts> {
    this.#facts ??= readFacts(this.#calls, this.#timeouts.readMs);
    try {
      return await this.#facts;
    } catch (error) {
      this.#facts = undefined;
      throw error;
    }
  }

  async start(spec: ContainerSpec, ready?: Promise<void>): Promise<StartedContainer> {
    ready?.catch(() => undefined); // heard of when it is waited for
    if (!digestPattern.test(spec.image)) {
      throw new RunnerError(
        'image_not_allowed',
        `Sandbox ${spec.name}: ${spec.image} is not an image id; pin it as sha256:….`,
      );
    }
    const body = compileBody(spec, await this.#images.defaultsOf(spec.image), await this.describe());
    return await this.#starts.run(() => this.#start(spec, body, ready));
  }

  async #start(spec: ContainerSpec, body: ContainerBody, ready: Promise<void> | undefined): Promise<StartedContainer> {
    const id = await this.#create(spec, body);
    let stream: ContainerStream | undefined;
    try {
      await failpoint('open.created');
      stream = await this.#open(id, spec.name);
      await failpoint('open.attached');
      await ready;
      await this.#containers.start(id, spec);
      await failpoint('open.started');
      const answer = await this.#compare(id, spec, body, stream);
      const { StartedAt: startedAt } = answer.State;
      return { id, stream: await this.#withPipes(stream, answer), startedAt, reading: saidOf(answer) };
    } catch (error) {
      stream?.duplex.on('error', () => undefined); // its end is ours; the cause is `error`
      stream?.duplex.destroy();
      if (isRunnerError(error, 'supervisor_missing')) this.#volumes.forget();
      throw await this.#cleared(id, spec, error);
    }
  }

  async attach(id: string): Promise<ContainerStream> {
    const answer = await this.#containers.read(id);
    const state = answer && stateOf(answer);
    if (answer === undefined || state?.status !== 'running') {
      const found = state === undefined ? 'it is gone' : `it is ${state.status}`;
      throw new RunnerError('sandbox_lost', `Container ${id} cannot be attached to: ${found}. Destroy its sandbox.`);
    }
    return await this.#withPipes(await this.#open(state.id, state.name), answer);
  }

  async inspect(id: string): Promise<ContainerState | undefined> {
    return await this.#containers.find(id);
  }

  async read(id: string): Promise<ContainerReading | undefined> {
    const answer = await this.#containers.read(id);
    return answer && (await readingOf(answer, await this.#canLook()));
  }

  async verify(id: string, spec: ContainerSpec): Promise<ContainerReading> {
    const body = compileBody(spec, await this.#images.defaultsOf(spec.image), await this.describe());
    const answer = await this.#compare(id, spec, body);
    const reading = saidOf(answer);
    if (reading.execs === 0) return reading;
    throw new RunnerError('policy_unenforceable', `Somebody has started ${reading.execs} programs in ${spec.name}.`);
  }

  async destroy(id: string): Promise<void> {
    for (const stream of this.#streams.get(id) ?? []) stream.finish();
    this.#streams.delete(id);
    await this.#removals.run(() => this.#containers.destroy(id));
  }

  async list(labels: Labels): Promise<readonly FoundContainer[]> {
    return await this.#containers.list(labels);
  }

  async ensureFiles(name: string, files: readonly VolumeFile[], image: string, labels: Labels = {}): Promise<void> {
    refuseUnfit(await this.describe(), 'A sandbox');
    await this.#volumes.ensureFiles(name, files, image, labels);
  }

  async removeVolumes(labels: Labels, keep: readonly string[]): Promise<readonly string[]> {
    return await this.#volumes.remove(labels, keep);
  }

  async removeVolume(name: string): Promise<boolean> {
    return await this.#volumes.removeOne(name);
  }

  async listVolumes(labels: Labels): Promise<readonly string[]> {
    return (await this.#volumes.list(labels)).map(({ name }) => name);
  }

  async findVolumes(labels: Labels): Promise<readonly FoundVolume[]> {
    return await this.#volumes.list(labels);
  }

  async findNetworks(labels: Labels): Promise<readonly FoundNetwork[]> {
    return await findNetworks(this.#calls, labels, this.#timeouts.readMs);
  }

  async removeNetwork(id: string): Promise<boolean> {
    return await removeNetwork(this.#calls, id, this.#timeouts.destroyMs);
  }

  async createOverlay(name: string, layers: OverlayLayers, labels: Labels): Promise<void> {
    await createMount(this.#calls, name, overlayOptions(layers), labels, this.#timeouts.createMs);
  }

  async createInput(name: string, source: string, labels: Labels): Promise<void> {
    await createMount(this.#calls, name, inputOptions(source), labels, this.#timeouts.createMs);
  }

  async findMountPoint(volume: string): Promise<string | undefined> {
    return await this.#volumes.findMountPoint(volume);
  }

  async tryVolume(kind: VolumeKind, image: string): Promise<VolumeTrial> {
    return await tryVolume(kind, image, this.#calls, this.#containers, this.#volumes, this.#timeouts);
  }

  async images(labels: Labels = {}): Promise<readonly ImageFacts[]> {
    return await this.#images.list(labels);
  }

  async findImage(reference: string): Promise<ImageFacts | undefined> {
    return await this.#images.find(reference);
  }

  async importImage(tar: Readable, image: ImageConfig): Promise<string> {
    return await this.#images.import(tar, image);
  }

  async loadImage(archive: Readable): Promise<void> {
    await this.#images.load(archive);
  }

  async setUp<T>(spec: SetUpSpec, take: (rootfs: Readable) => Promise<T>): Promise<SetUpEnd<T>> {
    refuseUnfit(await this.describe(), `Setup ${spec.name}`);
    return await setUp(spec, take, { calls: this.#calls, containers: this.#containers, timeouts: this.#timeouts });
  }

  async saveImage(id: string): Promise<Readable> {
    return await this.#images.save(id);
  }

  async removeImage(reference: string): Promise<void> {
    await this.#images.remove(reference);
  }

  async #open(id: string, name: string): Promise<ContainerStream> {
    const stream = openStream(await this.#containers.attach(id), `container ${name}`);
    const streams = this.#streams.get(id) ?? new Set();
    this.#streams.set(id, streams.add(stream));
    stream.duplex.once('close', () => {
      streams.delete(stream);
      if (streams.size === 0) this.#streams.delete(id);
    });
    return stream;
  }

  /** Under gVisor the process that the engine names is not PID 1, and its kernel has no pipe that we could open. */
  async #withPipes(stream: ContainerStream, answer: ContainerAnswer): Promise<ContainerStream> {
    const pid = answer.State.Pid ?? 0;
    const reaches = (await this.#canLook()) && answer.HostConfig['Runtime'] === 'runc';
    return reaches && pid > 0 ? { ...stream, openPipes: (pipes) => openPipes(pid, pipes) } : stream;
  }

  /** Its processes are those of this machine, and this process may look at all of them. */
  async #canLook(): Promise<boolean> {
    const { local, rootless } = await this.describe();
    return local && !rootless && process.getuid?.() === 0;
  }

  /** A container of this name that is ours and does not run is what a crash left behind: it makes room, once. */
  async #create(spec: ContainerSpec, body: ContainerBody): Promise<string> {
    const created = await this.#createOnce(spec, body);
    if (created !== undefined) return created;
    const holder = await this.#containers.find(spec.name);
    if (holder !== undefined) {
      const ours = [labelKeys.owner, labelKeys.sandbox].every(
        (key) => spec.labels[key] !== undefined && holder.labels[key] === spec.labels[key],
      );
      if (!ours || holder.status === 'running' || holder.status === 'paused') {
        throw new RunnerError(
          'engine_failed',
          `Container ${spec.name} cannot be created: the name belongs to container ${holder.id.slice(0, 12)}, which is ` +
            `${holder.status}${ours ? '' : ' and not of this sandbox'}. Remove it, or open another run.`,
        );
      }
      await this.#containers.destroy(holder.id);
    }
    const again = await this.#createOnce(spec, body);
    if (again !== undefined) return again;
    throw new RunnerError(
      'engine_failed',
      `Container ${spec.name} cannot be created: its name was taken twice. Try again.`,
    );
  }

  async #createOnce(spec: ContainerSpec, body: ContainerBody): Promise<string | undefined> {
    try {
      const created = await this.#containers.create(spec.name, body);
      if (created === undefined || created.warnings.length === 0) return created?.id;
      const error = new RunnerError(
        'policy_unenforceable',
        `The engine would run ${spec.name} weaker than asked: ${created.warnings.join(' ')} \`glovebox doctor\` tells more.`,
      );
      throw await this.#cleared(created.id, spec, error);
    } catch (error) {
      // An answer that did not come, or came broken: the container may exist all the same.
      if (isRunnerError(error, 'engine_timeout') || isRunnerError(error, 'engine_failed')) {
        throw await this.#clearedByName(spec, error);
      }
      throw error;
    }
  }

  async #compare(
    id: string,
    spec: ContainerSpec,
    body: ContainerBody,
    stream?: ContainerStream,
  ): Promise<ContainerAnswer> {
    const answer = await this.#containers.read(id);
    if (answer?.State.Status !== 'running') {
      const end =
        answer === undefined ? 'it was removed' : `status ${answer.State.Status}, exit code ${answer.State.ExitCode}`;
      const said = stream?.stderrTail().trim() ?? '';
      throw new RunnerError(
        'sandbox_lost',
        `PID 1 of ${spec.name} ${stream === undefined ? 'does not run' : 'ended at once'} (${end})${said === '' ? '' : `; it said ${JSON.stringify(said)}`}.`,
      );
    }
    const found = differences(answer, body, spec);
    if (found.length === 0) return answer;
    throw new RunnerError(
      'policy_unenforceable',
      `The engine runs ${spec.name} differently from what was asked; it was removed. ${found.slice(0, 10).join('; ')}.`,
    );
  }

  async #clearedByName(spec: ContainerSpec, error: unknown): Promise<unknown> {
    try {
      const holder = await this.#containers.find(spec.name, this.#timeouts.cleanUpMs);
      const ours =
        holder !== undefined && Object.entries(spec.labels).every(([key, value]) => holder.labels[key] === value);
      return ours && holder.status === 'created' ? await this.#cleared(holder.id, spec, error) : error;
    } catch {
      return leftBehind(spec, error);
    }
  }

  /** Removes what was made before `error`; returns the error to throw. */
  async #cleared(id: string, spec: ContainerSpec, error: unknown): Promise<unknown> {
    try {
      await this.#containers.destroy(id, this.#timeouts.cleanUpMs);
      return error;
    } catch {
      return leftBehind(spec, error);
    }
  }
}

function leftBehind(spec: ContainerSpec, error: unknown): unknown {
  if (!(error instanceof RunnerError)) return error;
  const message = `${messageOf(error)} Container ${spec.name} may be left behind; \`glovebox gc\` removes it.`;
  return new RunnerError(error.code, message, { cause: error });
}
