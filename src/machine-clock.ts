import { readFileSync } from 'node:fs';
import { uptime } from 'node:os';
import { z } from 'zod';

/**
 * A moment by all clocks of a machine. The wall clock is set by people and by the network; the other two are counted by the kernel
 * since it was booted, alike in all processes, and nobody sets them.
 */
export const Moment = z.strictObject({
  wallMs: z.number(),
  /** Of which boot the other two are. */
  bootId: z.string().max(100),
  /** Stands still while the machine sleeps, as `performance.now` does. */
  awakeMs: z.number(),
  /** Goes on while it sleeps, as the wall clock does. */
  upMs: z.number(),
});
export type Moment = Readonly<z.infer<typeof Moment>>;

export function momentNow(): Moment {
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  return { wallMs: Date.now(), bootId, awakeMs: awakeNow(), upMs: uptime() * 1000 };
}

/** `awakeMs` alone. */
export function awakeNow(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** How long the machine was awake between two moments; undefined where it was booted in between: nobody has counted. */
export function awakeBetween(then: Moment, now: Moment): number | undefined {
  const ms = now.awakeMs - then.awakeMs;
  return then.bootId === now.bootId && ms >= 0 ? ms : undefined;
}

/** By how much the wall clock was set between two moments, forward or (negative) back; undefined where nobody can tell. */
export function jumpBetween(then: Moment, now: Moment): number | undefined {
  const ms = now.upMs - then.upMs;
  return then.bootId === now.bootId && ms >= 0 ? now.wallMs - then.wallMs - ms : undefined;
}
