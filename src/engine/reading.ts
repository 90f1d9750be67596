import type { ContainerState } from './engine.ts';

/** What a container is said to run with, now: for comparing with what was asked. Nothing in it was said by what runs inside. */
export interface ContainerReading {
  readonly state: ContainerState;
  readonly image: string;
  readonly runtime: string;
  readonly limits: LimitReading;
  /** Networks by name, as the engine has them. */
  readonly networks: readonly string[];
  readonly mounts: readonly MountReading[];
  /** Programs that somebody has started in it by way of the engine. */
  readonly execs: number;
  /** What the kernel has for it. Absent where this process cannot look: another machine, or not root. */
  readonly kernel?: KernelReading;
}

/** Absent: unlimited, or not known. */
export interface LimitReading {
  readonly memoryBytes?: number;
  /** Memory and swap together. */
  readonly memorySwapBytes?: number;
  readonly pidsMax?: number;
  readonly cpus?: number;
  readonly openFilesMax?: number;
  readonly shmBytes?: number;
}

export interface MountReading {
  readonly target: string;
  /** `root`, `volume`, `bind` or `tmpfs` of an engine; of a kernel the kind of file system. */
  readonly kind: string;
  readonly writable: boolean;
  /** Sorted, by commas; only what bounds it. */
  readonly options: string;
}

export interface KernelReading {
  readonly limits: LimitReading;
  readonly pressure: PressureReading;
  /** Absent where they are not those of the programs inside (gVisor). */
  readonly mounts?: readonly MountReading[];
}

/** What it has run into since it was started. Absent: not known. */
export interface PressureReading {
  readonly memoryBytes?: number;
  readonly memoryPeakBytes?: number;
  /** How often memory was asked for past the limit. */
  readonly memoryLimitHits?: number;
  readonly oomKills?: number;
  readonly pids?: number;
  readonly pidsLimitHits?: number;
  readonly cpuPeriods?: number;
  readonly cpuThrottledPeriods?: number;
  readonly cpuThrottledMs?: number;
  /** Share of the last ten seconds that some of its tasks have waited, in percent; of its own control group. */
  readonly cpuWaitPercent?: number;
  readonly memoryWaitPercent?: number;
  readonly ioWaitPercent?: number;
}
