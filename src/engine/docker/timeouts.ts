/** How long each kind of request may take. An engine that does not answer a read within ten seconds is not healthy. */
export interface Timeouts {
  /** Reads: inspect, list, info. */
  readonly readMs: number;
  readonly createMs: number;
  readonly startMs: number;
  readonly attachMs: number;
  readonly destroyMs: number;
  /** Removing what a failed start has made: short, because the failure waits for it. */
  readonly cleanUpMs: number;
  /** Filling and reading back a volume of files. */
  readonly filesMs: number;
  readonly importMs: number;
}

export const defaultTimeouts: Timeouts = {
  readMs: 10_000,
  createMs: 30_000,
  startMs: 30_000,
  attachMs: 10_000,
  destroyMs: 30_000,
  cleanUpMs: 10_000,
  filesMs: 30_000,
  importMs: 600_000,
};
