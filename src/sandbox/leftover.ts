import type { WelcomeCall } from './arrivals.ts';
import { CallWire } from './call-wire.ts';
import type { Link } from './link.ts';
import { killCause } from './wire.ts';

/** A call that the supervisor still has and nobody here wants: killed, its output thrown away, forgotten. Resolves then. */
export async function endLeftover(link: Link, entry: WelcomeCall): Promise<void> {
  await new Promise<void>((resolve) => end(link, entry, resolve));
}

function end(link: Link, entry: WelcomeCall, done: () => void): void {
  let received = entry.endBytes;
  const wire = new CallWire(
    link,
    entry.call,
    { stdin: true, aux: true },
    {
      started: () => undefined,
      output: (_stream, bytes) => {
        received += bytes.length;
        wire.acknowledge(received);
      },
      exited: () => undefined,
      ended: () => {
        wire.release();
        done();
      },
      refused: () => undefined,
      tick: () => undefined,
      disconnected: done,
    },
  );
  wire.resume(link, entry, entry.endBytes);
  if (entry.state !== 'ended') wire.kill(0, killCause.cancelled);
}
