import { describe, expect, it } from 'vitest';
import type { ContainerSpec, EngineFacts } from '../engine.ts';
import { FakeEngine } from '../fake/fake-engine.ts';
import { compileBody } from './body.ts';

describe('the body that a spec compiles to', () => {
  it('says all of its confinement, key by key', () => {
    const { HostConfig, ...body } = compileBody(spec, { env: [], volumes: [] }, facts);
    expect(body).toEqual({
      Image: spec.image,
      User: '0:0',
      WorkingDir: '/workspace',
      Hostname: 'box',
      Domainname: '',
      Env: ['A=1', 'HOME=/', 'PATH', 'HOSTNAME', 'TERM'],
      Entrypoint: ['/s'],
      Cmd: [],
      Labels: {},
      Healthcheck: { Test: ['NONE'] },
      StopSignal: 'SIGKILL',
      Tty: false,
      OpenStdin: true,
      StdinOnce: false,
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
    });
    expect(HostConfig).toMatchObject({
      NetworkMode: 'none',
      IpcMode: 'private',
      Privileged: false,
      CapDrop: ['ALL'],
      CapAdd: ['KILL', 'SETUID', 'SETGID', 'SETPCAP', 'SYS_NICE'],
      SecurityOpt: ['no-new-privileges:true', 'seccomp={}'],
      ReadonlyRootfs: true,
      Tmpfs: {
        '/tmp': 'rw,exec,nosuid,nodev,size=1000,nr_inodes=10,mode=1777,uid=1,gid=2',
        '/dev/shm': 'rw,noexec,nosuid,nodev,size=10,nr_inodes=1024,mode=1777,uid=0,gid=0',
      },
      Mounts: [{ Type: 'volume', Source: 'v', Target: '/v', ReadOnly: true, VolumeOptions: { NoCopy: true } }],
      Memory: 1000,
      MemorySwap: 1000,
      NanoCpus: 1_500_000_000,
      PidsLimit: 600,
      OomScoreAdj: 500,
      LogConfig: { Type: 'none', Config: {} },
      RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
      Init: false,
      Dns: ['127.0.0.1'],
      DnsSearch: ['.'],
      DnsOptions: ['timeout:2', 'attempts:3'],
      Runtime: 'runc',
    });
    for (const key of [
      'Binds',
      'Devices',
      'DeviceRequests',
      'PortBindings',
      'VolumesFrom',
      'Links',
      'ExtraHosts',
      'GroupAdd',
      'Sysctls',
    ]) {
      expect(HostConfig).not.toHaveProperty(key);
    }
  });

  it('opens low ports where they are asked for, and nothing else', () => {
    const plain = compileBody(spec, { env: [], volumes: [] }, facts);
    const open = compileBody({ ...spec, lowPorts: true }, { env: [], volumes: [] }, facts);
    const Sysctls = { 'net.ipv4.ip_unprivileged_port_start': '0' };
    expect(open).toEqual({ ...plain, HostConfig: { ...plain.HostConfig, Sysctls } });
  });

  it('takes away every variable of the image that was not asked for, and keeps those that were', () => {
    const image = { env: ['PATH=/evil', 'LD_PRELOAD=/x', 'A=image', 'HOME=/evil'], volumes: [] };
    const { Env } = compileBody({ ...spec, env: ['A=1', 'PATH=/bin'] }, image, facts);
    expect(Env).toEqual(['A=1', 'PATH=/bin', 'HOME=/', 'HOSTNAME', 'TERM', 'LD_PRELOAD']);
  });

  it('covers the volumes that an image declares, but not where the spec has its own', () => {
    const { HostConfig } = compileBody(spec, { env: [], volumes: ['/data', '/tmp', '/v'] }, facts);
    expect(Object.keys(HostConfig['Tmpfs'] as object)).toEqual(['/data', '/tmp', '/dev/shm']);
    expect((HostConfig['Tmpfs'] as Record<string, string>)['/data']).toMatch(/^ro,/);
  });

  it('leaves swappiness out where the engine would warn', () => {
    expect(compileBody(spec, { env: [], volumes: [] }, facts).HostConfig).toHaveProperty('MemorySwappiness', 0);
    const second = { ...facts, cgroupVersion: 2 } as const;
    expect(compileBody(spec, { env: [], volumes: [] }, second).HostConfig).not.toHaveProperty('MemorySwappiness');
  });

  it.each(['memory', 'swap', 'pids', 'cpu', 'seccomp'] as const)('refuses an engine that cannot enforce %s', (what) => {
    const weak = { ...facts, enforces: { ...facts.enforces, [what]: false } };
    expect(refusal(spec, weak)).toMatchObject({ code: 'policy_unenforceable' });
  });

  it.each([
    ['not listed', { runtime: 'runsc' }, { ...enforces, gvisor: false }, ['runc']],
    ['without limits', { runtime: 'runsc' }, { ...enforces, gvisor: false }, ['runc', 'runsc']],
  ] as const)('refuses gVisor %s', (_, change, enforces, runtimes) => {
    expect(refusal({ ...spec, ...change }, { ...facts, enforces, runtimes })).toMatchObject({
      code: 'policy_unenforceable',
    });
  });

  it('asks for no priority where a user namespace would have it for nothing', () => {
    const remapped = { ...facts, enforces: { ...enforces, userNamespace: true } };
    const { HostConfig } = compileBody(spec, { env: [], volumes: [] }, remapped);
    expect(HostConfig['CapAdd']).toEqual(['KILL', 'SETUID', 'SETGID', 'SETPCAP']);
  });

  it('refuses gVisor with fewer processes than it needs itself', () => {
    const few = { ...spec, runtime: 'runsc', limits: { ...spec.limits, pidsMax: 511 } } as const;
    expect(refusal(few, { ...facts, runtimes: ['runsc'] })).toMatchObject({ code: 'policy_unenforceable' });
    expect(
      refusal({ ...few, limits: { ...few.limits, pidsMax: 512 } }, { ...facts, runtimes: ['runsc'] }),
    ).toBeUndefined();
  });

  it.each(['memoryBytes', 'pidsMax', 'cpus', 'openFilesMax', 'shmBytes'] as const)(
    'refuses %s of zero, less, or no number',
    (key) => {
      for (const value of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
        const limits = { ...spec.limits, [key]: value };
        expect(refusal({ ...spec, limits }, facts)).toMatchObject({ code: 'invalid_request' });
      }
    },
  );
});

const enforces = { memory: true, swap: true, pids: true, cpu: true, seccomp: true, userNamespace: false, gvisor: true };
const facts: EngineFacts = { ...(await new FakeEngine().describe()), kind: 'docker', cgroupVersion: 1, enforces };

const spec: ContainerSpec = {
  name: 'glovebox-x',
  image: `sha256:${'1'.repeat(64)}`,
  labels: {},
  argv: ['/s'],
  env: ['A=1'],
  runtime: 'runc',
  workdir: '/workspace',
  hostname: 'box',
  limits: { memoryBytes: 1000, pidsMax: 600, cpus: 1.5, openFilesMax: 10, shmBytes: 10 },
  tmpfs: [{ target: '/tmp', sizeBytes: 1000, inodesMax: 10, uid: 1, gid: 2, mode: 0o1777, exec: true }],
  volumes: [{ name: 'v', target: '/v', kind: 'files' }],
  seccomp: '{}',
};

function refusal(spec: ContainerSpec, facts: EngineFacts): unknown {
  try {
    compileBody(spec, { env: [], volumes: [] }, facts);
    return undefined;
  } catch (error) {
    return error;
  }
}
