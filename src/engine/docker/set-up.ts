import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestPattern } from '../../digest.ts';
import { Deadline } from '../../deadline.ts';
import { RunnerError } from '../../errors.ts';
import type { SetUpEnd, SetUpSpec } from '../engine.ts';
import { type DockerCalls, isAnswer, pathOf } from './calls.ts';
import { type Containers, failed } from './containers.ts';
import { openStream } from './stream.ts';
import type { Timeouts } from './timeouts.ts';

/**
 * `Engine.setUp`. The container has a writable root file system and a root with what package managers need, and no more:
 * no privilege, no device, no host path; no network unless it is asked for.
 */
export async function setUp<T>(
  spec: SetUpSpec,
  take: (rootfs: Readable) => Promise<T>,
  { calls, containers, timeouts }: SetUpEngine,
): Promise<SetUpEnd<T>> {
  if (!digestPattern.test(spec.image))
    throw new RunnerError('image_not_allowed', `Setup ${spec.name}: ${spec.image} is not an image id.`);
  if (spec.network === 'bridge') await createNetwork(spec, calls, timeouts);
  try {
    return await inContainer(spec, take, { calls, containers, timeouts });
  } finally {
    if (spec.network === 'bridge') await removeNetwork(spec, calls, timeouts);
  }
}

/** One of its own: an engine's default bridge may be missing, or shared with others. */
async function createNetwork(spec: SetUpSpec, calls: DockerCalls, timeouts: Timeouts): Promise<void> {
  const body = { Name: spec.name, Driver: 'bridge', CheckDuplicate: true, Labels: spec.labels };
  const call = {
    what: `create network ${spec.name}`,
    method: 'POST',
    path: pathOf(['networks', 'create']),
    body,
  } as const;
  try {
    await calls.text({ ...call, timeoutMs: timeouts.createMs });
  } catch (error) {
    throw failed(call.what, error);
  }
}

async function removeNetwork(spec: SetUpSpec, calls: DockerCalls, timeouts: Timeouts): Promise<void> {
  const call = {
    what: `remove network ${spec.name}`,
    method: 'DELETE',
    path: pathOf(['networks', spec.name]),
  } as const;
  try {
    await calls.text({ ...call, timeoutMs: timeouts.destroyMs });
  } catch (error) {
    if (!isAnswer(error, 404)) throw failed(call.what, error);
  }
}

async function inContainer<T>(
  spec: SetUpSpec,
  take: (rootfs: Readable) => Promise<T>,
  { calls, containers, timeouts }: SetUpEngine,
): Promise<SetUpEnd<T>> {
  const created = await containers.create(spec.name, bodyOf(spec));
  if (created === undefined)
    throw new RunnerError('engine_failed', `Container ${spec.name} exists; is it being set up already? glovebox gc`);
  const { id } = created;
  try {
    if (created.warnings.length > 0)
      throw new RunnerError('policy_unenforceable', `The engine warns of ${spec.name}: ${created.warnings.join(' ')}`);
    await layFiles(id, spec, calls, timeouts);
    const exitCode = await runToEnd(id, spec, containers);
    if (exitCode !== 0) return { kind: 'failed', exitCode };
    const call = {
      what: `export container ${spec.name}`,
      method: 'GET',
      path: pathOf(['containers', id, 'export']),
    } as const;
    const rootfs = await calls.stream({ ...call, timeoutMs: timeouts.importMs });
    try {
      return { kind: 'done', taken: await take(rootfs) };
    } finally {
      rootfs.destroy();
    }
  } catch (error) {
    throw failed(`set up ${spec.name}`, error);
  } finally {
    await containers.destroy(id);
  }
}

interface SetUpEngine {
  readonly calls: DockerCalls;
  readonly containers: Containers;
  readonly timeouts: Timeouts;
}

/** What apt, dpkg, pip and npm need of root: owners, modes, and becoming another user. */
const capabilities = ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'SETGID', 'SETUID'];

function bodyOf(spec: SetUpSpec): Readonly<Record<string, unknown>> {
  const { memoryBytes, pidsMax, cpus } = spec.limits;
  return {
    Image: spec.image,
    Labels: spec.labels,
    User: '0:0',
    Entrypoint: spec.argv,
    Cmd: [],
    Env: spec.env,
    WorkingDir: '/workspace',
    AttachStdout: true,
    AttachStderr: true,
    StopSignal: 'SIGKILL',
    HostConfig: {
      NetworkMode: spec.network === 'bridge' ? spec.name : 'none',
      IpcMode: 'none',
      CapDrop: ['ALL'],
      CapAdd: capabilities,
      SecurityOpt: ['no-new-privileges:true'],
      LogConfig: { Type: 'none' },
      RestartPolicy: { Name: 'no' },
      Memory: memoryBytes,
      MemorySwap: memoryBytes,
      PidsLimit: pidsMax,
      NanoCpus: Math.round(cpus * 1e9),
    },
  };
}

async function layFiles(id: string, spec: SetUpSpec, calls: DockerCalls, timeouts: Timeouts): Promise<void> {
  const path = pathOf(['containers', id, 'archive'], { path: '/', noOverwriteDirNonDir: '1' });
  const call = { what: `lay files into ${spec.name}`, method: 'PUT', path, contentType: 'application/x-tar' } as const;
  await calls.text({ ...call, body: spec.files, timeoutMs: timeouts.filesMs });
}

async function runToEnd(id: string, spec: SetUpSpec, containers: Containers): Promise<number> {
  const { duplex } = openStream(await containers.attach(id), `container ${spec.name}`);
  duplex.on('data', spec.onOutput);
  try {
    return await Deadline.run(spec.timeoutMs, `set up ${spec.name}`, async () => {
      const ended = finished(duplex, { writable: false });
      ended.catch(() => undefined);
      await containers.start(id, spec);
      await ended;
      for (;;) {
        const state = await containers.find(id);
        if (state?.exitCode !== undefined) return state.exitCode;
        if (state === undefined) throw new RunnerError('engine_failed', `Container ${spec.name} is gone.`);
        await sleep(50);
      }
    });
  } finally {
    duplex.on('error', () => undefined);
    duplex.destroy();
  }
}
