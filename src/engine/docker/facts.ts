import { hostname, release } from 'node:os';
import { endpointName } from '../endpoint.ts';
import type { EngineFacts } from '../engine.ts';
import { infoAnswer, versionAnswer } from './answers.ts';
import type { DockerCalls } from './calls.ts';
import { podmanLacks } from './fitness.ts';

/** Asks the engine what it is. What it does not say, it is taken not to enforce. */
export async function readFacts(calls: DockerCalls, timeoutMs: number): Promise<EngineFacts> {
  const beforeMs = Date.now();
  const info = await calls.json(
    { what: 'read what the engine is', method: 'GET', path: '/info', timeoutMs },
    infoAnswer,
  );
  const middleMs = (beforeMs + Date.now()) / 2;
  const version = await calls.json(
    { what: 'read the version of the engine', method: 'GET', path: '/version', timeoutMs },
    versionAnswer,
  );
  const options = info.SecurityOptions ?? [];
  const has = (name: string): boolean => options.some((option) => option.split(',').includes(`name=${name}`));
  const runtimes = Object.keys(info.Runtimes ?? {});
  const runsc = info.Runtimes?.['runsc'];
  const podman = version.Components?.some(({ Name }) => Name.startsWith('Podman')) === true;
  return {
    kind: podman ? 'podman' : 'docker',
    version: version.Version,
    apiVersion: version.ApiVersion,
    endpoint: endpointName(calls.endpoint),
    // Another kernel behind a local socket is a virtual machine, another name a forwarded socket or a runner in a
    // container: their files and processes are not ours.
    local: calls.endpoint.kind === 'unix' && info.KernelVersion === release() && info.Name === hostname(),
    rootless: has('rootless'),
    kernel: info.KernelVersion,
    os: info.OperatingSystem,
    architecture: info.Architecture,
    cpus: info.NCPU,
    memoryBytes: info.MemTotal,
    cgroupVersion: info.CgroupVersion === '1' ? 1 : info.CgroupVersion === '2' ? 2 : undefined,
    runtimes,
    storageDriver: info.Driver,
    ...(info.DockerRootDir === undefined ? {} : { dataRoot: info.DockerRootDir }),
    lacks: podman ? podmanLacks : [],
    enforces: {
      memory: info.MemoryLimit === true,
      swap: info.SwapLimit === true,
      pids: info.PidsLimit === true,
      cpu: info.CpuCfsQuota === true || info.CPUCfsQuota === true,
      seccomp: has('seccomp'),
      userNamespace: has('userns') || has('rootless'),
      // With that argument gVisor sets none of the limits, and says nothing.
      gvisor: runsc !== undefined && runsc.runtimeArgs?.includes('--ignore-cgroups') !== true,
    },
    clockSkewMs: skew(info.SystemTime, middleMs),
  };
}

function skew(systemTime: string | undefined, nowMs: number): number | undefined {
  const engineMs = systemTime === undefined ? Number.NaN : Date.parse(systemTime);
  return Number.isNaN(engineMs) ? undefined : Math.round(engineMs - nowMs);
}
