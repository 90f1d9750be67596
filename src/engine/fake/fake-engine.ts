import { randomBytes } from 'node:crypto';
import { arch, cpus, release, totalmem } from 'node:os';
import type { Readable } from 'node:stream';
import { digestOf, digestPattern } from '../../digest.ts';
import { RunnerError } from '../../errors.ts';
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
  SetUpEnd,
  SetUpSpec,
  StartedContainer,
  VolumeFile,
  VolumeTrial,
} from '../engine.ts';
import { carries, labelKeys } from '../labels.ts';
import type { ContainerReading } from '../reading.ts';
import { FakeContainer, FakeHost } from './host.ts';

/**
 * Stands in for an engine in unit tests: real processes, real streams, labels and volumes in memory. What it cannot do is
 * named in `fakeMisses`, which is the only reason for the contract suite to leave a case out.
 */
export class FakeEngine implements Engine {
  readonly #host: FakeHost;

  constructor(host: FakeHost = new FakeHost()) {
    this.#host = host;
  }

  async describe(): Promise<EngineFacts> {
    return {
      kind: 'fake',
      version: '0',
      apiVersion: '0',
      endpoint: 'fake',
      local: true,
      rootless: process.getuid?.() !== 0,
      kernel: release(),
      os: process.platform,
      architecture: arch(),
      cpus: cpus().length,
      memoryBytes: totalmem(),
      cgroupVersion: undefined,
      runtimes: ['runc'],
      storageDriver: 'none',
      lacks: [],
      enforces: {
        memory: false,
        swap: false,
        pids: false,
        cpu: false,
        seccomp: false,
        userNamespace: false,
        gvisor: false,
      },
      clockSkewMs: 0,
    };
  }

  async start(spec: ContainerSpec, ready?: Promise<void>): Promise<StartedContainer> {
    ready?.catch(() => undefined);
    if (!digestPattern.test(spec.image)) {
      throw new RunnerError(
        'image_not_allowed',
        `Sandbox ${spec.name}: ${spec.image} is not an image id; pin it as sha256:….`,
      );
    }
    if (!this.#host.images.has(spec.image)) {
      throw new RunnerError('image_not_found', `The fake engine has no image ${spec.image}. Import it first.`);
    }
    if (spec.runtime !== 'runc') {
      throw new RunnerError('policy_unenforceable', `The fake engine has no runtime ${spec.runtime}.`);
    }
    await this.#makeRoom(spec);
    const container = new FakeContainer(randomBytes(32).toString('hex'), spec);
    this.#host.containers.set(container.id, container);
    const stream = container.attach();
    try {
      await ready;
      await container.start(this.#host.volumes);
      const { id } = container;
      return { id, stream, startedAt: String(container.createdMs), reading: await this.verify(id, spec) };
    } catch (error) {
      await this.destroy(container.id);
      throw error;
    }
  }

  async attach(id: string): Promise<ContainerStream> {
    const container = this.#host.containers.get(id);
    if (container?.status === 'running') return container.attach();
    const found = container === undefined ? 'it is gone' : `it is ${container.status}`;
    throw new RunnerError('sandbox_lost', `Container ${id} cannot be attached to: ${found}. Destroy its sandbox.`);
  }

  async inspect(id: string): Promise<ContainerState | undefined> {
    const found = this.#host.containers.get(id);
    if (found === undefined) return undefined;
    const { status, exitCode, spec, createdMs } = found;
    const startedAt = String(createdMs);
    return { id, name: spec.name, labels: spec.labels, status, exitCode, outOfMemory: false, startedAt };
  }

  /** Just what was asked for. */
  async read(id: string): Promise<ContainerReading | undefined> {
    const spec = this.#host.containers.get(id)?.spec;
    const state = await this.inspect(id);
    if (spec === undefined || state === undefined) return undefined;
    const { image, runtime, limits } = spec;
    const tmpfs = spec.tmpfs.map(({ target }) => ({ target, kind: 'tmpfs', writable: true, options: '' }));
    const volumes = spec.volumes.map(({ target, kind }) => ({
      target,
      kind: 'volume',
      writable: kind === 'overlay',
      options: '',
    }));
    return { state, image, runtime, limits, networks: ['none'], mounts: [...tmpfs, ...volumes], execs: 0 };
  }

  async verify(id: string, spec: ContainerSpec): Promise<ContainerReading> {
    const reading = await this.read(id);
    const status = reading?.state.status ?? 'it was removed';
    if (reading !== undefined && status === 'running') return reading;
    throw new RunnerError('sandbox_lost', `PID 1 of ${spec.name} does not run (${status}).`);
  }

  async destroy(id: string): Promise<void> {
    const container = this.#host.containers.get(id);
    this.#host.containers.delete(id);
    await container?.kill();
  }

  async list(labels: Labels): Promise<readonly FoundContainer[]> {
    return [...this.#host.containers.values()]
      .filter((container) => carries(container.spec.labels, labels))
      .map(({ id, spec, status, createdMs }) => ({ id, name: spec.name, labels: spec.labels, status, createdMs }));
  }

  async ensureFiles(name: string, files: readonly VolumeFile[], image: string, labels: Labels = {}): Promise<void> {
    if (!this.#host.images.has(image))
      throw new RunnerError('image_not_found', `The fake engine has no image ${image}.`);
    const digest = digestOf(files.map((file) => `${file.path} ${file.mode} ${digestOf(file.bytes)}`).join('\n'));
    this.#host.volumes.set(name, { files, labels: { ...labels, [labelKeys.files]: digest } });
  }

  async listVolumes(labels: Labels): Promise<readonly string[]> {
    return (await this.findVolumes(labels)).map(({ name }) => name);
  }

  async createOverlay(name: string): Promise<void> {
    throw new RunnerError('policy_unenforceable', `The fake engine mounts nothing, and so not the overlay ${name}.`);
  }

  async createInput(name: string): Promise<void> {
    throw new RunnerError('policy_unenforceable', `The fake engine mounts nothing, and so not the input ${name}.`);
  }

  async findMountPoint(): Promise<undefined> {
    return undefined;
  }

  async findVolumes(labels: Labels): Promise<readonly FoundVolume[]> {
    const wanted = Object.entries(labels);
    return [...this.#host.volumes]
      .filter(([, volume]) =>
        wanted.every(([key, value]) =>
          value === '' ? volume.labels[key] !== undefined : volume.labels[key] === value,
        ),
      )
      .map(([name, volume]) => ({ name, labels: volume.labels }));
  }

  async removeVolumes(labels: Labels, keep: readonly string[]): Promise<readonly string[]> {
    const removed: string[] = [];
    for (const name of await this.listVolumes(labels))
      if (!keep.includes(name) && (await this.removeVolume(name))) removed.push(name);
    return removed;
  }

  async removeVolume(name: string): Promise<boolean> {
    const isUsed = [...this.#host.containers.values()].some(({ spec }) =>
      spec.volumes.some((one) => one.name === name),
    );
    if (!isUsed) this.#host.volumes.delete(name);
    return !isUsed;
  }

  /** Without `setUp` there are none. */
  async findNetworks(): Promise<readonly FoundNetwork[]> {
    return [];
  }

  async removeNetwork(): Promise<boolean> {
    return true;
  }

  async tryVolume(): Promise<VolumeTrial> {
    return { works: false, detail: 'the fake engine mounts nothing' };
  }

  async images(labels: Labels = {}): Promise<readonly ImageFacts[]> {
    return [...this.#host.images.values()].filter((image) => carries(image.labels, labels));
  }

  async findImage(reference: string): Promise<ImageFacts | undefined> {
    return [...this.#host.images.values()].find((image) => image.id === reference || image.tags.includes(reference));
  }

  /** Its bytes name the image; its files are never used: containers see the host's programs. */
  async importImage(tar: Readable, image: ImageConfig): Promise<string> {
    const chunks: Buffer[] = [];
    for await (const chunk of tar as AsyncIterable<Buffer>) chunks.push(chunk);
    const bytes = Buffer.concat(chunks);
    const id = digestOf(Buffer.concat([bytes, Buffer.from(JSON.stringify(image))]));
    const { tag, labels, architecture } = image;
    this.#host.images.set(id, { id, tags: [tag], labels, bytes: bytes.length, createdMs: Date.now(), architecture });
    return id;
  }

  async setUp<T>(spec: SetUpSpec): Promise<SetUpEnd<T>> {
    throw new RunnerError('policy_unenforceable', `The fake engine has no root file system to set up ${spec.name} in.`);
  }

  async loadImage(): Promise<void> {
    throw new RunnerError('policy_unenforceable', 'The fake engine keeps no image archives.');
  }

  async saveImage(): Promise<Readable> {
    throw new RunnerError('policy_unenforceable', 'The fake engine keeps no image archives.');
  }

  async removeImage(reference: string): Promise<void> {
    const image = await this.findImage(reference);
    if (image !== undefined) this.#host.images.delete(image.id);
  }

  async #makeRoom(spec: ContainerSpec): Promise<void> {
    const holder = [...this.#host.containers.values()].find((container) => container.spec.name === spec.name);
    if (holder === undefined) return;
    const ours = [labelKeys.owner, labelKeys.sandbox].every(
      (key) => spec.labels[key] !== undefined && holder.spec.labels[key] === spec.labels[key],
    );
    if (ours && holder.status !== 'running') return await this.destroy(holder.id);
    const message = `Container ${spec.name} cannot be created: the name belongs to container ${holder.id.slice(0, 12)}, which is ${holder.status}.`;
    throw new RunnerError('engine_failed', `${message} Remove it, or open another run.`);
  }
}

/** What the stand-in does not do, and so cannot be asked about. */
export const fakeMisses = [
  'confinement',
  'transport',
  'image contents',
  'image archives',
  'pause',
  'overlays',
  'networks',
] as const;
