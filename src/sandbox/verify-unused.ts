import type { Engine } from '../engine/engine.ts';
import type { ContainerReading } from '../engine/reading.ts';
import { RunnerError } from '../errors.ts';
import { containerBody } from './container-body.ts';
import { isSame } from './same-container.ts';
import type { Sandbox } from './sandbox.ts';
import { ensureSupervisor } from './supervisor-volume.ts';

/**
 * Rejects unless a sandbox answers, is the container that was started and runs just as it was asked for, and nothing is in it but
 * its supervisor. `beside` may start a hand in it: PID 1 has been asked by then what there is, and answers in order. Returns what
 * the engine has said.
 */
export async function verifyUnused(
  engine: Engine,
  sandbox: Sandbox,
  beside: () => Promise<void>,
): Promise<ContainerReading> {
  const { spec, containerId, startedAt } = sandbox;
  const body = containerBody(spec, await ensureSupervisor(engine, spec, undefined));
  const idle = verifyIdle(sandbox);
  const [reading] = await Promise.all([engine.verify(containerId, body), idle, beside()]);
  if (!isSame(reading.state, startedAt)) throw unlike(sandbox, 'somebody has restarted it');
  return reading;
}

async function verifyIdle(sandbox: Sandbox): Promise<void> {
  const calls = await sandbox.list();
  const processes = calls.reduce((sum, call) => sum + call.processes, 0);
  if (processes > 0) throw unlike(sandbox, `${processes} processes run in it`);
}

function unlike({ spec }: Sandbox, what: string): RunnerError {
  return new RunnerError('sandbox_lost', `Sandbox ${spec.id} is not as it was made: ${what}.`);
}
