export interface SandboxOptions {
  /** Host directory of this sandbox's ledger and outputs, made if absent and kept after `close`. */
  readonly directory: string;
  /** Of all calls together. Default 1 GiB. */
  readonly outputMaxBytes?: number;
  /** The container ends by itself after this long without its runner. Default 180,000. */
  readonly orphanMs?: number;
  /** For container and handshake. Default 20,000. */
  readonly openTimeoutMs?: number;
  /** How long an engine that carries the stream may be gone before the sandbox counts as lost. Default 20,000. */
  readonly engineAwayMs?: number;
  /** What the container must have before it starts; it is made meanwhile. */
  readonly ready?: Promise<void>;
  /** Default: `images/supervisor/build/supervisor-<architecture of the engine>`. */
  readonly supervisor?: Uint8Array;
}

export const defaults = {
  outputMaxBytes: 1024 ** 3,
  orphanMs: 180_000,
  openTimeoutMs: 20_000,
  engineAwayMs: 20_000,
} as const;

export function linkOptions({
  orphanMs = defaults.orphanMs,
  openTimeoutMs = defaults.openTimeoutMs,
}: Pick<SandboxOptions, 'orphanMs' | 'openTimeoutMs'>): { orphanMs: number; timeoutMs: number } {
  return { orphanMs, timeoutMs: openTimeoutMs };
}
