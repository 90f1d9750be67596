import type { ContainerStream } from '../engine/engine.ts';
import type { Welcome } from './arrivals.ts';
import { Link, type LinkOptions } from './link.ts';

export interface Joined {
  readonly link: Link;
  readonly welcome: Welcome;
}

/** The first link of a sandbox, by the shortest way there is. */
export async function open(stream: ContainerStream, options: LinkOptions): Promise<Joined> {
  return await shorten(stream, options, await Link.open(stream, options));
}

/** A later one, after the stream or its runner was lost. */
export async function resume(stream: ContainerStream, options: LinkOptions): Promise<Joined> {
  return await shorten(stream, options, await Link.resume(stream, options));
}

/**
 * Where this process can open the pipes that PID 1 offers, the stream goes on in them. The attached one stays open and idle:
 * PID 1's last words come on it. It is closed with the other one.
 */
async function shorten(stream: ContainerStream, options: LinkOptions, joined: Joined): Promise<Joined> {
  const { pipes } = joined.welcome;
  const duplex = pipes === undefined ? undefined : stream.openPipes?.(pipes);
  if (duplex === undefined) return joined;
  joined.link.retire();
  duplex.once('close', () => stream.duplex.destroy());
  const direct = { duplex, stderrTail: () => stream.stderrTail() };
  return await Link.open(direct, { ...options, direct: true });
}
