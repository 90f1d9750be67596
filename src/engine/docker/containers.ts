import { setTimeout as sleep } from 'node:timers/promises';
import type { Duplex } from 'node:stream';
import { RunnerError } from '../../errors.ts';
import type { ContainerSpec, ContainerState, FoundContainer, Labels } from '../engine.ts';
import { carries } from '../labels.ts';
import { type ContainerAnswer, containerAnswer, containersAnswer, createAnswer } from './answers.ts';
import type { ContainerBody } from './body.ts';
import { type DockerCalls, isAnswer, pathOf } from './calls.ts';
import type { Timeouts } from './timeouts.ts';

/** Containers as the engine's API sees them, one method a request. */
export class Containers {
  readonly #calls: DockerCalls;
  readonly #timeouts: Timeouts;

  constructor(calls: DockerCalls, timeouts: Timeouts) {
    this.#calls = calls;
    this.#timeouts = timeouts;
  }

  /** `undefined` when the name is taken. */
  async create(
    name: string,
    body: ContainerBody | Readonly<Record<string, unknown>>,
  ): Promise<{ id: string; warnings: readonly string[] } | undefined> {
    const call = {
      what: `create container ${name}`,
      method: 'POST',
      path: pathOf(['containers', 'create'], { name }),
    } as const;
    try {
      const answer = await this.#calls.json({ ...call, body, timeoutMs: this.#timeouts.createMs }, createAnswer);
      return { id: answer.Id, warnings: answer.Warnings ?? [] };
    } catch (error) {
      if (isAnswer(error, 409)) return undefined;
      if (isAnswer(error, 404)) {
        throw new RunnerError(
          'image_not_found',
          `Container ${name} cannot be created: the engine has no image ${String(body['Image'])}. Build or import it (\`make images\`).`,
          { cause: error },
        );
      }
      if (isAnswer(error, 400)) {
        throw new RunnerError('policy_unenforceable', `The engine refuses container ${name}: ${error.message}`, {
          cause: error,
        });
      }
      throw failed(`create container ${name}`, error);
    }
  }

  async start(id: string, spec: Pick<ContainerSpec, 'name' | 'argv'>): Promise<void> {
    const call = {
      what: `start container ${spec.name}`,
      method: 'POST',
      path: pathOf(['containers', id, 'start']),
    } as const;
    try {
      await this.#calls.text({ ...call, timeoutMs: this.#timeouts.startMs });
    } catch (error) {
      const program = spec.argv[0] ?? '';
      if (isAnswer(error) && saysMissing(error.message, program)) {
        const message = `Container ${spec.name} cannot be started: its PID 1, ${program}, is not there. ${error.message}`;
        throw new RunnerError('supervisor_missing', message, { cause: error });
      }
      throw failed(call.what, error);
    }
  }

  async attach(id: string): Promise<Duplex> {
    const path = pathOf(['containers', id, 'attach'], { stream: '1', stdin: '1', stdout: '1', stderr: '1' });
    const call = { what: `attach to container ${id.slice(0, 12)}`, method: 'POST', path } as const;
    try {
      return await this.#calls.hijack({ ...call, timeoutMs: this.#timeouts.attachMs });
    } catch (error) {
      if (isAnswer(error, 404, 409)) {
        const message = `Container ${id.slice(0, 12)} cannot be attached to: ${error.message}. Destroy its sandbox.`;
        throw new RunnerError('sandbox_lost', message, { cause: error });
      }
      throw failed(call.what, error);
    }
  }

  /** Everything the engine says about it; `undefined` when it is not there. By id or by name. */
  async read(id: string, timeoutMs: number = this.#timeouts.readMs): Promise<ContainerAnswer | undefined> {
    const call = { what: `inspect container ${id}`, method: 'GET', path: pathOf(['containers', id, 'json']) } as const;
    try {
      return await this.#calls.json({ ...call, timeoutMs }, containerAnswer);
    } catch (error) {
      if (isAnswer(error, 404)) return undefined;
      throw failed(call.what, error);
    }
  }

  async find(id: string, timeoutMs: number = this.#timeouts.readMs): Promise<ContainerState | undefined> {
    const answer = await this.read(id, timeoutMs);
    return answer && stateOf(answer);
  }

  /** Safe to repeat, so it is: an engine that is just removing it, or finds a mount busy, gets a little time. */
  async destroy(id: string, timeoutMs: number = this.#timeouts.destroyMs): Promise<void> {
    const call = {
      what: `destroy container ${id}`,
      method: 'DELETE',
      path: pathOf(['containers', id], { force: '1', v: '1' }),
    } as const;
    const endMs = performance.now() + timeoutMs;
    for (let waitMs = 20; ; waitMs = Math.min(500, waitMs * 2)) {
      const leftMs = endMs - performance.now();
      try {
        await this.#calls.text({ ...call, timeoutMs: Math.max(1, Math.ceil(leftMs)) });
        return;
      } catch (error) {
        if (isAnswer(error, 404)) return;
        if (!isAnswer(error, 409, 500) || leftMs < waitMs * 2) throw failed(call.what, error);
      }
      await sleep(waitMs);
    }
  }

  async list(labels: Labels): Promise<readonly FoundContainer[]> {
    const filters = JSON.stringify({ label: Object.entries(labels).map(([key, value]) => `${key}=${value}`) });
    const path = pathOf(['containers', 'json'], { all: '1', filters });
    const call = { what: 'list containers', method: 'GET', path } as const;
    try {
      const answer = await this.#calls.json({ ...call, timeoutMs: this.#timeouts.readMs }, containersAnswer);
      return answer
        .map((found) => ({
          id: found.Id,
          name: (found.Names[0] ?? '').replace(/^\//, ''),
          labels: found.Labels,
          status: statusOf(found.State),
          createdMs: found.Created * 1000,
        }))
        .filter((found) => carries(found.labels, labels)); // what is found may be destroyed: an engine's filter is not enough
    } catch (error) {
      throw failed(call.what, error);
    }
  }
}

export function stateOf(answer: ContainerAnswer): ContainerState {
  const status = statusOf(answer.State.Status);
  return {
    id: answer.Id,
    name: answer.Name.replace(/^\//, ''),
    labels: answer.Config.Labels,
    status,
    exitCode: status === 'exited' ? answer.State.ExitCode : undefined,
    outOfMemory: answer.State.OOMKilled,
    startedAt: answer.State.StartedAt,
  };
}

/** The error for whatever else an engine may answer. */
export function failed(what: string, error: unknown): unknown {
  if (!isAnswer(error)) return error;
  const message = `The engine failed to ${what}: ${error.message} (status ${error.status}). Its log says more; try again.`;
  return new RunnerError('engine_failed', message, { cause: error });
}

/**
 * Every runtime words this differently and engines give it several statuses: only the text tells. A runtime whose own
 * program is missing says the same of another path.
 */
function saysMissing(message: string, program: string): boolean {
  return message.includes(program) && /no such file or directory|executable file not found|cannot find/i.test(message);
}

function statusOf(status: string): ContainerState['status'] {
  switch (status) {
    case 'created':
    case 'configured': // Podman's word
    case 'initialized':
      return 'created';
    case 'running':
    case 'restarting':
    case 'stopping':
      return 'running';
    case 'paused':
      return 'paused';
    default:
      return 'exited';
  }
}
