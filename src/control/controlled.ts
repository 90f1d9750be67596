import type { Duplex } from 'node:stream';
import { z } from 'zod';

/** How an open run stands. */
export const RunState = z.strictObject({
  run: z.string(),
  /** Of its policy, and of the intent; what `narrow` has taken away is not in it. */
  policy: z.string(),
  egress: z.strictObject({ rules: z.array(z.string()).readonly(), without: z.array(z.string()).readonly() }).readonly(),
  credentials: z
    .strictObject({ names: z.array(z.string()).readonly(), revoked: z.array(z.string()).readonly() })
    .readonly(),
});
export type RunState = Readonly<z.infer<typeof RunState>>;

/** What can be done to a run that is open, by whoever opened it and, through its door, by its owner on the same machine. */
export interface Controlled {
  readonly id: string;
  state(): RunState;
  /**
   * Takes profiles or rules away, by id, for the rest of the run; what they had let through is cut. There is no way back.
   * Rejects with `invalid_request` when the run has no such rule.
   */
  narrowEgress(without: readonly string[]): Promise<RunState>;
  /** From here on nothing is sent with it, and open requests that carry it are cut. */
  revokeCredential(name: string): Promise<RunState>;
  /** To a port on the loopback inside the sandbox. */
  forward(port: number): Promise<Duplex>;
}
