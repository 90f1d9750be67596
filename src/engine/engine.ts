import type { Duplex, Readable } from 'node:stream';
import type { ContainerReading } from './reading.ts';

/**
 * The boundary to a container engine: plain data and a handful of methods, in our own types. Docker speaks through
 * `docker/`, the tests' stand-in through `fake/`; both pass `test/engine-contract.test.ts`.
 *
 * Promises every adapter keeps:
 *  - no call waits without a deadline (`engine_timeout`), and none is repeated unless it is idempotent;
 *  - warnings in an answer are failures (`policy_unenforceable`): what the engine cannot enforce is refused;
 *  - `start` reads back what the engine runs and compares it with what was asked (`policy_unenforceable` on a difference);
 *  - whatever is created carries `labels`, is named after its sandbox, and may be destroyed twice.
 */
export interface Engine {
  /** What this engine is and can enforce. Cheap after the first call. */
  describe(): Promise<EngineFacts>;
  /**
   * Makes the container, attached and started; resolves once PID 1 runs. On any failure nothing is left behind. With `ready`
   * it is made at once and started when that resolves; if it rejects, that is the failure.
   */
  start(spec: ContainerSpec, ready?: Promise<void>): Promise<StartedContainer>;
  /** Attaches once more to a container that is running (after this process, or another one, lost the stream). */
  attach(id: string): Promise<ContainerStream>;
  inspect(id: string): Promise<ContainerState | undefined>;
  /** What it is said to run with now. Undefined when it is gone. */
  read(id: string): Promise<ContainerReading | undefined>;
  /**
   * Compares once more what the engine runs with what was asked of `start`, and that nobody has started anything else in it:
   * `policy_unenforceable` on a difference, `sandbox_lost` when it does not run. Returns what it has read, as `start` does: of the
   * engine alone, not of the kernel.
   */
  verify(id: string, spec: ContainerSpec): Promise<ContainerReading>;
  /** Kills and removes the container and its anonymous volumes. Absent is fine. */
  destroy(id: string): Promise<void>;
  /** Everything that carries all these labels, running or not. */
  list(labels: Labels): Promise<readonly FoundContainer[]>;
  /** A volume holding exactly these files, made and verified once per content; `image` is any image the engine has. */
  ensureFiles(name: string, files: readonly VolumeFile[], image: string, labels?: Labels): Promise<void>;
  /**
   * Removes the named volumes that carry all these labels (an empty value stands for any) and that nobody uses; returns
   * their names. Supervisor volumes of older versions are found this way.
   */
  removeVolumes(labels: Labels, keep: readonly string[]): Promise<readonly string[]>;
  /** One of them, without a look at all others. False when a container uses it; absent is fine. */
  removeVolume(name: string): Promise<boolean>;
  listVolumes(labels: Labels): Promise<readonly string[]>;
  findVolumes(labels: Labels): Promise<readonly FoundVolume[]>;
  /** The networks of `setUp` that carry all these labels: what a process that died in it has left. */
  findNetworks(labels: Labels): Promise<readonly FoundNetwork[]>;
  /** False when a container is on it. Absent is fine. */
  removeNetwork(id: string): Promise<boolean>;
  /**
   * A volume that lays a writable directory over a read-only one, `nosuid,nodev`. All three are directories of the
   * engine's own machine, `upper` and `work` of one file system; they are looked at when a container starts.
   */
  createOverlay(name: string, layers: OverlayLayers, labels: Labels): Promise<void>;
  /**
   * A volume that is a directory of the engine's own machine, `ro,nosuid,nodev`, without what is mounted below it. The path
   * is followed when a container starts: what it led to then is for the caller to check (`findMountPoint`).
   */
  createInput(name: string, source: string, labels: Labels): Promise<void>;
  /** Where the engine has mounted a volume on its machine, while a container uses it. */
  findMountPoint(volume: string): Promise<string | undefined>;
  /** Tries out whether such a volume can really be mounted; leaves nothing behind. */
  tryVolume(kind: VolumeKind, image: string): Promise<VolumeTrial>;
  images(labels?: Labels): Promise<readonly ImageFacts[]>;
  findImage(reference: string): Promise<ImageFacts | undefined>;
  /** Makes an image from a root file system tar; returns its id (`sha256:…`). */
  importImage(tar: Readable, image: ImageConfig): Promise<string>;
  /** Takes in a `docker save` archive: its configuration bytes, and so its id, stay what they are; tags come with it. */
  loadImage(archive: Readable): Promise<void>;
  /**
   * Runs one program as root on a writable copy of an image, with files laid over it, and hands over the root file system
   * that it leaves. For making images; never for an agent. The container is gone when this returns or throws.
   */
  setUp<T>(spec: SetUpSpec, take: (rootfs: Readable) => Promise<T>): Promise<SetUpEnd<T>>;
  /** The image as a `docker save` archive, for checking what it really holds. */
  saveImage(id: string): Promise<Readable>;
  removeImage(reference: string): Promise<void>;
}

export type Labels = Readonly<Record<string, string>>;

export type Runtime = 'runc' | 'runsc';

/** A hardened container. What cannot be said here does not exist: privileges, host paths, devices, networks, sockets. */
export interface ContainerSpec {
  readonly name: string;
  /** Image id (`sha256:…`), never a tag. */
  readonly image: string;
  readonly labels: Labels;
  readonly argv: readonly string[];
  /** The whole environment of PID 1, nothing of the image's. `NAME=value`. */
  readonly env: readonly string[];
  readonly runtime: Runtime;
  readonly workdir: string;
  readonly hostname: string;
  readonly limits: ContainerLimits;
  /** In-memory file systems, charged to the memory limit. */
  readonly tmpfs: readonly Tmpfs[];
  readonly volumes: readonly MountedVolume[];
  /** Any user may listen on ports below 1024, of the sandbox's own loopback. Default: as the engine has it. */
  readonly lowPorts?: boolean;
  /** Which seccomp profile, as JSON text. */
  readonly seccomp: string;
}

/** `files`: made by `ensureFiles`, read-only. `overlay`: by `createOverlay`, writable. `input`: by `createInput`, read-only. */
export interface MountedVolume {
  readonly name: string;
  readonly target: string;
  readonly kind: 'files' | 'overlay' | 'input';
}

export interface ContainerLimits {
  readonly memoryBytes: number;
  readonly pidsMax: number;
  /** 1.5 = one and a half processors. */
  readonly cpus: number;
  readonly openFilesMax: number;
  readonly shmBytes: number;
}

export interface Tmpfs {
  readonly target: string;
  readonly sizeBytes: number;
  readonly inodesMax: number;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
  readonly exec: boolean;
}

export interface StartedContainer {
  readonly id: string;
  readonly startedAt: string | undefined;
  /** As it was read back. */
  readonly reading: ContainerReading;
  readonly stream: ContainerStream;
}

export interface SetUpSpec {
  readonly name: string;
  /** Image id (`sha256:…`), never a tag. */
  readonly image: string;
  readonly labels: Labels;
  readonly argv: readonly string[];
  readonly env: readonly string[];
  /** Laid over `/` first, as a tar. */
  readonly files: Readable;
  readonly network: SetUpNetwork;
  readonly limits: Pick<ContainerLimits, 'memoryBytes' | 'pidsMax' | 'cpus'>;
  readonly timeoutMs: number;
  /** Standard output as it comes. */
  readonly onOutput: (bytes: Buffer) => void;
  /** Ends it: its reason is thrown once the container is gone. */
  readonly signal?: AbortSignal;
}

/**
 * `bridge`: a network for this container alone, which reaches what the engine's host does; only an operator may say so.
 * `sandbox`: the loopback of that container, which has to have no other network either; processes and files stay apart.
 */
export type SetUpNetwork =
  | { readonly kind: 'none' }
  | { readonly kind: 'bridge' }
  | { readonly kind: 'sandbox'; readonly container: string };

export type SetUpEnd<T> =
  | { readonly kind: 'done'; readonly taken: T }
  | { readonly kind: 'failed'; readonly exitCode: number };

/** The attached standard streams of PID 1. */
export interface ContainerStream {
  /** Reads PID 1's stdout, writes its stdin; ends or errs when either side is gone. */
  readonly duplex: Duplex;
  /** The last bytes of PID 1's stderr (at most 8 KiB): why a supervisor died. Never shown unescaped. */
  stderrTail(): string;
  /**
   * Opens pipes that PID 1 itself holds, which spares the way through the engine. Absent, or `undefined` as its answer, where
   * this process cannot look into PID 1: it is not root here, or the engine or its runtime is elsewhere.
   */
  readonly openPipes?: (pipes: PipesOfPid1) => Duplex | undefined;
}

/** `in` is what PID 1 reads, `out` what it writes: its own descriptors, and the pipes' inodes. */
export interface PipesOfPid1 {
  readonly in: { readonly fd: number; readonly inode: number };
  readonly out: { readonly fd: number; readonly inode: number };
}

export interface ContainerState {
  readonly id: string;
  readonly name: string;
  readonly labels: Labels;
  readonly status: 'created' | 'running' | 'paused' | 'exited';
  readonly exitCode: number | undefined;
  readonly outOfMemory: boolean;
  /** When its PID 1 began, in the engine's words. Another value is another PID 1: somebody has restarted it. */
  readonly startedAt: string | undefined;
}

export interface FoundContainer {
  readonly id: string;
  readonly name: string;
  readonly labels: Labels;
  readonly status: ContainerState['status'];
  readonly createdMs: number;
}

export interface VolumeFile {
  readonly path: string;
  readonly mode: number;
  readonly bytes: Uint8Array;
}

/** Absolute paths without a comma, a colon, a backslash or white space. */
export interface OverlayLayers {
  /** The first one is on top. */
  readonly lower: readonly string[];
  /** Shown over `lower`, and read-only too. */
  readonly middle?: string;
  readonly upper: string;
  readonly work: string;
}

export interface FoundNetwork {
  readonly id: string;
  readonly name: string;
  readonly labels: Labels;
}

export interface FoundVolume {
  readonly name: string;
  readonly labels: Labels;
}

/** `overlay`: a writable layer over a read-only tree. `bounded`: memory with a size that is held. */
export type VolumeKind = 'overlay' | 'bounded';

export interface VolumeTrial {
  readonly works: boolean;
  /** Why not, in the engine's words. */
  readonly detail: string;
}

export interface ImageFacts {
  readonly id: string;
  readonly tags: readonly string[];
  readonly labels: Labels;
  readonly bytes: number;
  readonly createdMs: number;
  readonly architecture: string;
}

export interface ImageConfig {
  readonly tag: string;
  readonly labels: Labels;
  readonly env: readonly string[];
  readonly architecture: string;
}

/** What an engine is and which promises it can keep; `glovebox doctor` prints it. `undefined` = could not be found out. */
export interface EngineFacts {
  readonly kind: 'docker' | 'podman' | 'fake';
  readonly version: string;
  readonly apiVersion: string;
  readonly endpoint: string;
  readonly local: boolean;
  readonly rootless: boolean;
  readonly kernel: string;
  readonly os: string;
  readonly architecture: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly cgroupVersion: 1 | 2 | undefined;
  readonly runtimes: readonly string[];
  readonly storageDriver: string;
  /** Directory of its machine where it keeps everything. */
  readonly dataRoot?: string;
  /** What every sandbox asks for and this engine cannot be asked for, in words. Sandboxes are refused then. */
  readonly lacks: readonly string[];
  readonly enforces: {
    readonly memory: boolean;
    readonly swap: boolean;
    readonly pids: boolean;
    readonly cpu: boolean;
    readonly seccomp: boolean;
    readonly userNamespace: boolean;
    /** `runsc` is a runtime of this engine, and holds the limits it is given. */
    readonly gvisor: boolean;
  };
  /** Engine clock minus ours, rounded to the answer's precision. */
  readonly clockSkewMs: number | undefined;
}
