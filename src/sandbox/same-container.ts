import type { ContainerState, Engine } from '../engine/engine.ts';
import { RunnerError } from '../errors.ts';

/** A PID 1 that somebody has restarted answers as if nothing had been: an empty workspace must not pass for ours. */
export async function refuseRestarted(
  engine: Pick<Engine, 'inspect'>,
  containerId: string,
  startedAt: string | undefined,
): Promise<void> {
  const container = await engine.inspect(containerId);
  if (container !== undefined && isSame(container, startedAt)) return;
  throw new RunnerError(
    'sandbox_lost',
    `container ${containerId} was restarted by somebody else; what was in it is gone`,
  );
}

export function isSame(container: ContainerState, startedAt: string | undefined): boolean {
  return startedAt === undefined || container.startedAt === startedAt;
}
