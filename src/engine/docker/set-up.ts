import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestPattern } from '../../digest.ts';
import { Deadline } from '../../deadline.ts';
import { RunnerError } from '../../errors.ts';
import type { SetUpEnd, SetUpSpec } from '../engine.ts';
import { type DockerCalls, pathOf } from './calls.ts';
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
  { calls, containers, timeouts }: { calls: DockerCalls; containers: Containers; timeouts: Timeouts },
): Promise<SetUpEnd<T>> {
  if (!digestPattern.test(spec.image))
    throw new RunnerError('image_not_allowed', `Setup ${spec.name}: ${spec.image} is not an image id.`);
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
      NetworkMode: spec.network,
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
