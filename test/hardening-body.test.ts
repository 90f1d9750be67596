import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Deadline } from '../src/deadline.ts';
import { DockerEngine } from '../src/engine/docker/docker-engine.ts';
import type { ContainerSpec } from '../src/engine/engine.ts';
import { sandboxLabels } from '../src/engine/labels.ts';
import { newId } from '../src/ids.ts';
import { rawDocker } from './fixtures/raw-docker.ts';
import { importTinyImage, rootOf } from './fixtures/tiny-image.ts';

// What the container's body promises, held by what PID 1 can and cannot do. Tools get less: see the supervisor's tests.

const mebibyte = 1024 * 1024;
const runtimes = ['runc', 'runsc'] as const;

describe('the body of a container', () => {
  const owner = newId();
  const tag = `glovebox-test/body-${owner}:1`;
  const withVolume = `glovebox-test/volume-${owner}:1`;
  let engine: DockerEngine;
  let image: string;
  let listed: readonly string[];

  const specOf = (change: Partial<ContainerSpec>): ContainerSpec => {
    const sandbox = newId();
    return {
      name: `glovebox-${sandbox}`,
      image,
      labels: sandboxLabels({ owner, instance: 'me', sandbox, created: new Date() }),
      argv: ['/bin/cat'],
      env: ['ONLY=this'],
      runtime: 'runc',
      workdir: '/work',
      hostname: 'box',
      limits: { memoryBytes: 64 * mebibyte, pidsMax: 600, cpus: 0.5, openFilesMax: 123, shmBytes: mebibyte },
      tmpfs: [
        { target: '/work', sizeBytes: mebibyte, inodesMax: 16, uid: 10_001, gid: 10_001, mode: 0o750, exec: true },
        { target: '/quiet', sizeBytes: mebibyte, inodesMax: 16, uid: 0, gid: 0, mode: 0o755, exec: false },
      ],
      volumes: [{ name: `glovebox-test-${owner}`, target: '/.glovebox', kind: 'files' }],
      seccomp: JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW' }),
      ...change,
    };
  };

  /** What a script that is PID 1 prints. */
  const said = async (script: string, change: Partial<ContainerSpec> = {}): Promise<string> => {
    // It waits for a line, so that it is still there when the engine is asked what it runs.
    const { id, stream } = await engine.start(
      specOf({ argv: ['/bin/sh', '-c', `read go; exec 2>&1; ${script}`], ...change }),
    );
    stream.duplex.write('\n');
    const text = await Deadline.run(20_000, 'read what the script prints', async () => {
      const parts: Buffer[] = [];
      for await (const part of stream.duplex) parts.push(part as Buffer);
      return Buffer.concat(parts).toString();
    });
    await engine.destroy(id);
    return text;
  };

  beforeAll(async () => {
    engine = await DockerEngine.connect();
    listed = (await engine.describe()).runtimes;
    image = await importTinyImage(engine, tag);
    const file = { path: 'data', mode: 0o666, bytes: Buffer.from('read me') };
    await engine.ensureFiles(`glovebox-test-${owner}`, [file], image, { 'glovebox.owner': owner });
    const query = `fromSrc=-&repo=${withVolume.split(':')[0]}&tag=1&changes=${encodeURIComponent('VOLUME /data')}`;
    await rawDocker('POST', `/images/create?${query}`, await rootOf(['sh', 'cat']));
  });

  afterAll(async () => {
    for (const { id } of await engine.list({ 'glovebox.owner': owner })) await engine.destroy(id);
    await engine.removeVolumes({ 'glovebox.owner': owner }, []);
    for (const reference of [tag, withVolume]) await engine.removeImage(reference);
  });

  describe.each(runtimes)('under %s', (runtime) => {
    const on = (what: string, body: () => Promise<void>): void => {
      it(what, async (context) => {
        if (!listed.includes(runtime)) context.skip(`the engine has no runtime ${runtime}`);
        await body();
      });
    };

    on('brings nothing of the image or the engine into the environment', async () => {
      const environ = await said('cat /proc/1/environ', { runtime });
      expect(environ.split('\0').filter(Boolean).sort()).toEqual(['HOME=/', 'ONLY=this']);
    });

    on('leaves PID 1 with the capabilities of a supervisor', async () => {
      const status = await said('cat /proc/self/status', { runtime });
      const inUserNamespace = (await engine.describe()).enforces.userNamespace;
      // KILL 5, SETGID 6, SETUID 7, SETPCAP 8; SYS_NICE 23, which a supervisor gives up at once
      const supervisor = 0b1_1110_0000 + (inUserNamespace ? 0 : 1 << 23);
      for (const set of ['CapPrm', 'CapEff', 'CapBnd']) {
        expect(Number.parseInt(new RegExp(`${set}:\\s+([0-9a-f]+)`).exec(status)?.[1] ?? '', 16)).toBe(supervisor);
      }
      expect(status).toMatch(/CapInh:\s+0+\n/);
      if (runtime === 'runc') expect(status).toMatch(/CapAmb:\s+0+\n/); // gVisor does not list it
    });

    on('has no network but loopback', async () => {
      const devices = await said('cat /proc/net/dev', { runtime });
      const names = devices.split('\n').flatMap((line) => /^\s*([^\s:|]+):/.exec(line)?.[1] ?? []);
      expect(names).toEqual(['lo']);
    });

    on('asks for names on loopback, and knows nothing of how the host does', async () => {
      expect(await said('cat /etc/resolv.conf', { runtime })).toBe(
        'nameserver 127.0.0.1\noptions timeout:2 attempts:3\n',
      );
    });

    on('lets anybody listen on low ports where that is asked for', async () => {
      const script = 'cat /proc/sys/net/ipv4/ip_unprivileged_port_start';
      const start = await said(script, { runtime, lowPorts: true });
      // gVisor has no such setting and no such ports: test/gateway.test.ts listens on them.
      expect(start).toMatch(runtime === 'runc' ? /^0\n$/ : /No such file/);
    });

    on('writes only where a bounded tmpfs is', async () => {
      const tries = ['/x', '/bin/x', '/etc/x', '/.glovebox/data', '/proc/sys/kernel/hostname', '/sys/x'];
      const script = tries.map((path) => `(echo x > ${path}) && echo "WROTE ${path}"`).join('; ');
      expect(await said(`${script}; (echo x > /quiet/fine) && echo fine`, { runtime })).toMatch(
        /^(?!.*WROTE)[^]*fine\n$/,
      );
    });

    on('bounds what a tmpfs holds, in bytes and in files', async () => {
      const full = await said('head -c 2000000 /dev/zero > /quiet/a; ls -l /quiet/a', { runtime });
      expect(full).toMatch(/No space left/);
      if (runtime === 'runsc') return; // its tmpfs counts bytes only; the memory limit bounds the rest
      const many = await said('n=0; while [ $n -lt 40 ]; do echo > /quiet/$n || exit; n=$((n + 1)); done; echo ALL', {
        runtime,
      });
      expect(many).toMatch(/No space left/);
      expect(many).not.toMatch(/ALL/);
    });

    on('reads the files of a volume, and can never change them', async () => {
      expect(await said('cat /.glovebox/data', { runtime })).toBe('read me');
    });
  });

  it('filters system calls with the profile that was given, and never gives privileges back', async () => {
    const status = await said('cat /proc/self/status');
    expect(status).toMatch(/NoNewPrivs:\s+1\n/);
    expect(status).toMatch(/Seccomp:\s+2\n/);
    const refusing = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['chdir'], action: 'SCMP_ACT_ERRNO', errnoRet: 95 }],
    };
    expect(await said('cd /work && echo WENT', { seccomp: JSON.stringify(refusing), workdir: '/' })).not.toMatch(
      /WENT/,
    );
  });

  it('holds the limits that were asked, as the kernel has them', async () => {
    const limits = await said('cat /proc/self/limits; cat /proc/self/oom_score_adj');
    expect(limits).toMatch(/Max open files\s+123\s+123/);
    expect(limits).toMatch(/Max core file size\s+0\s+0/);
    expect(limits).toMatch(/Max locked memory\s+65536\s+65536/);
    expect(limits).toMatch(/\n500\n$/);
    const version = (await engine.describe()).cgroupVersion;
    const files =
      version === 2
        ? ['memory.max', 'memory.swap.max', 'pids.max', 'cpu.max']
        : [
            'memory/memory.limit_in_bytes',
            'memory/memory.memsw.limit_in_bytes',
            'pids/pids.max',
            'cpu/cpu.cfs_quota_us',
          ];
    const held = await said(`cat ${files.map((file) => `/sys/fs/cgroup/${file}`).join(' ')}`);
    const memory = String(64 * mebibyte);
    const cpu = version === 2 ? '50000 100000' : '50000';
    expect(held.trim().split('\n')).toEqual([memory, version === 2 ? '0' : memory, '600', cpu]);
  });

  it('shares no mount with the host, and each asked mount has its flags', async () => {
    const mounts = (await said('cat /proc/self/mountinfo')).trim().split('\n');
    expect(mounts.filter((line) => / (shared|propagate_from):/.test(line))).toEqual([]);
    const options = (target: string): string =>
      mounts.find((line) => line.split(' ')[4] === target)?.split(' ')[5] ?? 'absent';
    expect(options('/')).toMatch(/^ro\b/);
    expect(options('/.glovebox')).toMatch(/^ro\b/);
    expect(options('/work')).toBe('rw,nosuid,nodev,relatime');
    expect(options('/quiet')).toBe('rw,nosuid,nodev,noexec,relatime');
    expect(options('/dev/shm')).toMatch(/nosuid,nodev,noexec/);
    expect(mounts.filter((line) => / - (nfs|9p|virtiofs|fuse)/.test(line))).toEqual([]);
  });

  it('shows nothing of the host that the masks cover', async () => {
    const files = ['interrupts', 'kallsyms', 'cmdline', 'modules', 'keys', 'timer_list', 'kcore', 'sched_debug'];
    const bytes = await said(files.map((file) => `head -c 1 /proc/${file}`).join('; '));
    expect(bytes.replaceAll(/head: .*: (No such file or directory|Permission denied)\n/g, '')).toBe('');
    const directories = [
      '/sys/firmware',
      '/sys/kernel',
      '/sys/devices/virtual/powercap',
      '/sys/class/dmi',
      '/proc/acpi',
      '/proc/scsi',
    ];
    const names = await said(directories.map((path) => `ls -A ${path}`).join('; '));
    expect(names.replaceAll(/ls: .*: No such file or directory\n/g, '')).toBe('');
  });

  it('makes no writable volume of a path that an image declares as one', async () => {
    const volumed = (await engine.findImage(withVolume))?.id ?? '';
    const before = await volumeNames();
    const script = '(echo x > /data/x) && echo WROTE; cat /proc/self/mountinfo';
    const text = await said(script, { image: volumed });
    expect(text).not.toMatch(/WROTE/);
    expect(text).toMatch(/ \/data ro,nosuid,nodev,noexec/);
    expect(await volumeNames()).toEqual(before);
  });

  it('refuses a limit of zero, which engines read as none', async () => {
    const limits = { memoryBytes: 64 * mebibyte, pidsMax: 0, cpus: 1, openFilesMax: 64, shmBytes: mebibyte };
    await expect(engine.start(specOf({ limits }))).rejects.toMatchObject({ code: 'invalid_request' });
  });

  it('keeps no log of what PID 1 writes', async () => {
    const { id } = await engine.start(specOf({}));
    const inspected = await rawDocker('GET', `/containers/${id}/json`);
    expect(inspected['LogPath']).toBe('');
    await engine.destroy(id);
  });

  const volumeNames = async (): Promise<readonly string[]> => {
    const volumes = (await rawDocker('GET', '/volumes'))['Volumes'] as { Name: string }[] | null;
    return (volumes ?? [])
      .map((volume) => volume.Name)
      .filter((name) => /^[0-9a-f]{64}$/.test(name))
      .sort();
  };
});
