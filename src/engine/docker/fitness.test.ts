import { mkdtempSync, rmSync } from 'node:fs';
import * as http from 'node:http';
import { hostname, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { diagnose } from '../doctor.ts';
import type { ContainerSpec, SetUpSpec } from '../engine.ts';
import { DockerEngine } from './docker-engine.ts';

/** What the engines said that were tried (docs/limitations.md); only what is read of it. */
const rootlessDocker: Recorded = {
  info: {
    Driver: 'overlay2',
    MemoryLimit: false,
    SwapLimit: false,
    CpuCfsPeriod: false,
    CpuCfsQuota: false,
    PidsLimit: false,
    CgroupDriver: 'none',
    CgroupVersion: '1',
    KernelVersion: '6.1.0-18-amd64',
    OperatingSystem: 'Debian GNU/Linux 12 (bookworm)',
    Architecture: 'x86_64',
    NCPU: 2,
    MemTotal: 25276502016,
    Runtimes: { runc: { path: 'runc' } },
    SecurityOptions: ['name=seccomp,profile=default', 'name=rootless'],
    Warnings: ['WARNING: Running in rootless-mode without cgroups.'],
  },
  version: {
    Version: '20.10.24+dfsg1',
    ApiVersion: '1.41',
    Components: [{ Name: 'Engine', Version: '20.10.24+dfsg1' }],
  },
};
const podman: Recorded = {
  info: {
    Driver: 'overlay',
    MemoryLimit: true,
    SwapLimit: true,
    CpuCfsPeriod: true,
    CpuCfsQuota: true,
    PidsLimit: true,
    CgroupDriver: 'cgroupfs',
    CgroupVersion: '1',
    KernelVersion: '6.1.0-18-amd64',
    OperatingSystem: 'debian',
    Architecture: 'amd64',
    NCPU: 2,
    MemTotal: 25276502016,
    Runtimes: { crun: { path: '/usr/bin/crun' }, runc: { path: '/usr/bin/runc' }, runsc: { path: '/usr/bin/runsc' } },
    SecurityOptions: ['name=seccomp,profile=default'],
    Warnings: [],
  },
  version: {
    Version: '4.3.1',
    ApiVersion: '1.41',
    Components: [
      { Name: 'Podman Engine', Version: '4.3.1' },
      { Name: 'Conmon', Version: 'conmon version 2.1.6, commit: unknown' },
    ],
  },
};

const engines = [
  ['rootless Docker without control groups', rootlessDocker, /a memory limit.*a limit on processes/, /docker 20\.10/],
  ['Podman', podman, /own variables.*tmpfs.*read-only root.*masked paths.*seccomp/, /podman 4\.3\.1/],
] as const;

describe.each(engines)('%s', (_, recorded, missing, name) => {
  it('is found, and refused for what it cannot enforce before anything is made there', async () => {
    const { engine, made } = await listen(recorded);
    const works = [
      () => engine.start(spec),
      () => engine.ensureFiles('v', [], spec.image),
      () => engine.setUp(setUp, async () => undefined),
    ];
    for (const work of works) {
      const error: unknown = await work().catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'policy_unenforceable' });
      expect(String(error)).toMatch(missing);
      expect(String(error)).toMatch(name);
    }
    expect(made()).toEqual([]);
  });

  it('is found unfit by the doctor, which tries nothing there and says for each thing how to get it', async () => {
    const { engine, made } = await listen(recorded);
    const { usable, checks } = await diagnose(engine, { images: ['some:1'] });
    expect(usable).toBe(false);
    for (const check of checks.filter(({ ok }) => ok === 'no')) expect(check.remedy).not.toBe('');
    expect(made()).toEqual([]);
  });
});

it('says to rootless Docker without control groups how to boot with those that it can use', async () => {
  const { checks } = await diagnose((await listen(rootlessDocker)).engine);
  expect(checks.filter(({ ok }) => ok === 'no').map(({ id }) => id)).toEqual([
    'cgroups',
    'memory',
    'swap',
    'pids',
    'cpu',
  ]);
  expect(checks.find(({ id }) => id === 'cgroups')?.remedy).toContain('systemd.unified_cgroup_hierarchy=1');
});

it('says to rootless Docker with control groups that were not delegated how to delegate them', async () => {
  const info = { ...rootlessDocker.info, CgroupVersion: '2', CgroupDriver: 'systemd', MemoryLimit: true };
  const { checks } = await diagnose((await listen({ ...rootlessDocker, info })).engine);
  expect(checks.filter(({ ok }) => ok === 'no').map(({ id }) => id)).toEqual(['swap', 'pids', 'cpu']);
  expect(checks.find(({ id }) => id === 'pids')?.remedy).toContain('Delegate=cpu cpuset io memory pids');
});

it('says to Podman which engine to use instead', async () => {
  const { checks } = await diagnose((await listen(podman)).engine);
  expect(checks.filter(({ ok }) => ok === 'no').map(({ id }) => id)).toEqual(['requests']);
  expect(checks.find(({ id }) => id === 'requests')?.remedy).toContain('Use Docker Engine');
});

it.each([
  ['of this machine', hostname(), release(), true],
  ['of another machine with the same kernel, whose socket was forwarded', 'another-machine', release(), false],
  ['of a virtual machine of the same name', hostname(), '0.0.1-other', false],
  ['that does not say where it is', undefined, release(), false],
])('takes the files and processes of an engine %s for what they are', async (_, Name, KernelVersion, local) => {
  const { engine } = await listen({ ...podman, info: { ...podman.info, Name, KernelVersion } });
  expect((await engine.describe()).local).toBe(local);
});

interface Recorded {
  readonly info: Readonly<Record<string, unknown>>;
  readonly version: Readonly<Record<string, unknown>>;
}

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** An engine that answers what was recorded, has every image, and takes whatever it is asked to make. */
async function listen(recorded: Recorded): Promise<{ engine: DockerEngine; made: () => readonly string[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'glovebox-recorded-'));
  const made: string[] = [];
  const image = { Id: spec.image, RepoTags: ['some:1'], Size: 1, Architecture: 'amd64' };
  const server = http.createServer((request, response) => {
    const url = request.url ?? '';
    if (request.method !== 'GET') made.push(`${request.method} ${url}`);
    if (request.method !== 'GET') response.statusCode = 201;
    const json = { Id: '0'.repeat(64), Name: 'v', Driver: 'local', Warnings: [] };
    const answers = [
      ['/info', recorded.info],
      ['/version', recorded.version],
      ['/images/json', [image]],
      ['/images/', image],
    ] as const;
    response.end(JSON.stringify(answers.find(([path]) => url.startsWith(path))?.[1] ?? json));
  });
  const path = join(folder, 'engine.sock');
  await new Promise<void>((resolve) => server.listen(path, resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true });
  });
  return { engine: await DockerEngine.connect({ endpoint: { kind: 'unix', path } }), made: () => made };
}

const limits = { memoryBytes: 1000, pidsMax: 600, cpus: 1, openFilesMax: 10, shmBytes: 10 };
const common = { name: 'a', image: `sha256:${'0'.repeat(64)}`, labels: {}, argv: ['/s'], env: [], limits };
const spec: ContainerSpec = {
  ...common,
  runtime: 'runc',
  workdir: '/',
  hostname: 'box',
  tmpfs: [],
  volumes: [],
  seccomp: '{}',
};
const setUp: SetUpSpec = {
  ...common,
  files: Readable.from([]),
  network: { kind: 'none' },
  timeoutMs: 1000,
  onOutput: () => undefined,
};
