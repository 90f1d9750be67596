import type { DataDir } from '../data-dir/data-dir.ts';
import type { Engine } from '../engine/engine.ts';
import type { Reach } from '../runner.ts';

/** What the commands are given by `main.ts`. */
export interface CliContext {
  connect(): Promise<Engine>;
  openDataDir(): Promise<DataDir>;
  /** What the operator of this machine has configured. */
  reach(): Promise<Reach>;
}

/** Exit codes of glovebox itself; a command that ran in a sandbox passes its own through. */
export const exitCodes = { ok: 0, failed: 1, usage: 2, runner: 125 } as const;

/** Carries the exit code of a command that has said all it had to say. */
export class Exit extends Error {
  readonly code: number;
  constructor(code: number) {
    super(`exit ${code}`);
    this.code = code;
  }
}
