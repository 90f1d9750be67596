import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** Moves bytes both ways until both sides have ended; when one breaks, so does the other. Never rejects. */
export async function relay(one: Duplex, other: Duplex): Promise<void> {
  const moved = await Promise.allSettled([pipeline(one, other), pipeline(other, one)]);
  if (moved.every(({ status }) => status === 'fulfilled')) return;
  one.destroy();
  other.destroy();
}
