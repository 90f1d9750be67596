import { z } from 'zod';

/**
 * What the next runner needs of a fence, so that what programs inside hold and trust goes on working: its authority, with the
 * key, and what stands for credentials. Never the credentials themselves. For the run's directory alone.
 */
export const KeptFence = z.strictObject({
  authority: z.strictObject({ pem: z.string(), key: z.string(), leafKey: z.string() }).optional(),
  placeholders: z.record(z.string(), z.string().min(16).max(256)),
});
export type KeptFence = Readonly<z.infer<typeof KeptFence>>;

/** What was let through, asked for and refused before, so that its budgets go on from there. */
export class EgressBefore {
  /** Highest number of a decision on record. */
  lastId = 0;
  /** How often each rule has let a connection or request through, by its id. */
  readonly taken = new Map<string, number>();
  /** Every host that was told of. */
  readonly hosts = new Set<string>();

  /** In the order of the record. */
  push({ id, kind, decision, rule, host }: Decided): void {
    this.lastId = Math.max(this.lastId, id);
    this.hosts.add(host);
    if (kind !== 'name' && decision !== 'denied' && rule !== undefined)
      this.taken.set(rule, (this.taken.get(rule) ?? 0) + 1);
  }
}

interface Decided {
  readonly id: number;
  readonly kind: 'name' | 'connection' | 'request';
  readonly decision: 'allowed' | 'denied' | 'observed';
  readonly rule?: string | undefined;
  readonly host: string;
}

export interface ResumedFence {
  readonly kept: KeptFence;
  readonly before: EgressBefore;
  /** How often the way out of this sandbox has been opened before, at least 1: no address inside is given twice. */
  readonly generation: number;
}

/** More names than a run can be told of between two runners. */
export const addressesPerGeneration = 65_536;
