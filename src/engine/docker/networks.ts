import { RunnerError } from '../../errors.ts';
import type { FoundNetwork, Labels } from '../engine.ts';
import { carries } from '../labels.ts';
import { networksAnswer } from './answers.ts';
import { type DockerCalls, isAnswer, pathOf } from './calls.ts';
import { failed } from './containers.ts';

/** What is found may be removed: the engine's filter is not enough. */
export async function findNetworks(
  calls: DockerCalls,
  labels: Labels,
  timeoutMs: number,
): Promise<readonly FoundNetwork[]> {
  if (Object.keys(labels).length === 0) {
    throw new RunnerError('invalid_request', 'Networks are only ever looked for by label; none was given.');
  }
  const filters = JSON.stringify({ label: Object.entries(labels).map(([key, value]) => `${key}=${value}`) });
  const call = { what: 'list networks', method: 'GET', path: pathOf(['networks'], { filters }), timeoutMs } as const;
  try {
    const found = await calls.json(call, networksAnswer);
    return found
      .map(({ Id, Name, Labels }) => ({ id: Id, name: Name, labels: Labels ?? {} }))
      .filter((network) => carries(network.labels, labels));
  } catch (error) {
    throw failed(call.what, error);
  }
}

/** False when a container is on it. Absent is fine. */
export async function removeNetwork(calls: DockerCalls, id: string, timeoutMs: number): Promise<boolean> {
  const call = { what: `remove network ${id}`, method: 'DELETE', path: pathOf(['networks', id]), timeoutMs } as const;
  try {
    await calls.text(call);
    return true;
  } catch (error) {
    if (isAnswer(error, 404)) return true;
    if (isAnswer(error, 403, 409)) return false; // in use: which status says so differs by version
    throw failed(call.what, error);
  }
}
