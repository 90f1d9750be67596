import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestPattern } from '../../digest.ts';
import { Deadline } from '../../deadline.ts';
import { RunnerError } from '../../errors.ts';
import type { SetUpEnd, SetUpNetwork, SetUpSpec } from '../engine.ts';
import type { ContainerAnswer } from './answers.ts';
import { type DockerCalls, isAnswer, pathOf } from './calls.ts';
import { type Containers, failed } from './containers.ts';
import { setUpDifferences } from './readback.ts';
import { openStream } from './stream.ts';
import type { Timeouts } from './timeouts.ts';

/**
 * `Engine.setUp`. The container has a writable root file system and a root with what package managers need, and no more:
 * no privilege, no device, no host path; no network unless it is asked for. What the engine made is compared with that before
 * anything runs in it.
 */
export async function setUp<T>(
  spec: SetUpSpec,
  take: (rootfs: Readable) => Promise<T>,
  { calls, containers, timeouts }: SetUpEngine,
): Promise<SetUpEnd<T>> {
  if (!digestPattern.test(spec.image))
    throw new RunnerError('image_not_allowed', `Setup ${spec.name}: ${spec.image} is not an image id.`);
  spec.signal?.throwIfAborted();
  const { network } = spec;
  if (network.kind === 'bridge') await createNetwork(spec, calls, timeouts);
  if (network.kind === 'sandbox') refuseUnsealed(spec, network.container, await containers.read(network.container));
  try {
    return await inContainer(spec, take, { calls, containers, timeouts });
  } finally {
    if (network.kind === 'bridge') await removeNetwork(spec, calls, timeouts);
  }
}

/** Whoever shares a network gets all of it: it has to be loopback alone. */
function refuseUnsealed(spec: SetUpSpec, container: string, answer: ContainerAnswer | undefined): void {
  const mode = answer?.HostConfig['NetworkMode'];
  const names = Object.keys(answer?.NetworkSettings.Networks ?? {});
  if (answer?.State.Status === 'running' && mode === 'none' && names.every((name) => name === 'none')) return;
  const found = answer === undefined ? 'gone' : `${answer.State.Status}, network ${String(mode)} (${names.join(', ')})`;
  throw new RunnerError(
    'policy_unenforceable',
    `Setup ${spec.name} is to have the loopback of container ${container.slice(0, 12)}, which is ${found}; it has to be a sandbox that runs.`,
  );
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
  const body = bodyOf(spec);
  const created = await containers.create(spec.name, body);
  if (created === undefined)
    throw new RunnerError('engine_failed', `Container ${spec.name} exists; is it being set up already? glovebox gc`);
  const { id } = created;
  try {
    if (created.warnings.length > 0)
      throw new RunnerError('policy_unenforceable', `The engine warns of ${spec.name}: ${created.warnings.join(' ')}`);
    const found = setUpDifferences(await containers.read(id), body, networksOf(spec));
    if (found.length > 0)
      throw new RunnerError(
        'policy_unenforceable',
        `The engine made ${spec.name} differently from what was asked; it was removed. ${found.slice(0, 10).join('; ')}.`,
      );
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

interface SetUpBody extends Readonly<Record<string, unknown>> {
  readonly HostConfig: Readonly<Record<string, unknown>>;
}

/** What apt, dpkg, pip and npm need of root: owners, modes, and becoming another user. */
const capabilities = ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'SETGID', 'SETUID'];

function bodyOf(spec: SetUpSpec): SetUpBody {
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
      NetworkMode: modeOf(spec.network, spec.name),
      IpcMode: 'none',
      CapDrop: ['ALL'],
      CapAdd: capabilities,
      SecurityOpt: ['no-new-privileges:true'],
      LogConfig: { Type: 'none', Config: {} },
      RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
      Memory: memoryBytes,
      MemorySwap: memoryBytes,
      PidsLimit: pidsMax,
      NanoCpus: Math.round(cpus * 1e9),
    },
  };
}

function modeOf(network: SetUpNetwork, name: string): string {
  switch (network.kind) {
    case 'none':
      return 'none';
    case 'bridge':
      return name;
    case 'sandbox':
      return `container:${network.container}`;
  }
}

/** The names of what the engine says it is on. */
function networksOf({ network, name }: SetUpSpec): readonly string[] {
  return network.kind === 'sandbox' ? [] : [modeOf(network, name)];
}

async function layFiles(id: string, spec: SetUpSpec, calls: DockerCalls, timeouts: Timeouts): Promise<void> {
  const path = pathOf(['containers', id, 'archive'], { path: '/', noOverwriteDirNonDir: '1' });
  const call = { what: `lay files into ${spec.name}`, method: 'PUT', path, contentType: 'application/x-tar' } as const;
  await calls.text({ ...call, body: spec.files, timeoutMs: timeouts.filesMs });
}

async function runToEnd(id: string, spec: SetUpSpec, containers: Containers): Promise<number> {
  const { duplex } = openStream(await containers.attach(id), `container ${spec.name}`);
  duplex.on('data', spec.onOutput);
  const { signal } = spec;
  const stop = (): void => void duplex.destroy(signal?.reason as Error);
  signal?.addEventListener('abort', stop, { once: true });
  try {
    signal?.throwIfAborted();
    return await Deadline.run(spec.timeoutMs, `set up ${spec.name}`, async () => {
      const ended = finished(duplex, { writable: false });
      ended.catch(() => undefined);
      await containers.start(id, spec);
      await ended;
      for (;;) {
        signal?.throwIfAborted();
        const state = await containers.find(id);
        if (state?.exitCode !== undefined) return state.exitCode;
        if (state === undefined) throw new RunnerError('engine_failed', `Container ${spec.name} is gone.`);
        await sleep(50);
      }
    });
  } finally {
    signal?.removeEventListener('abort', stop);
    duplex.on('error', () => undefined);
    duplex.destroy();
  }
}
