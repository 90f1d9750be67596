import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readKernel } from './kernel-reading.ts';

const id = 'c0ffee'.repeat(10);
let place: string;

beforeEach(async () => {
  place = await mkdtemp(join(tmpdir(), 'glovebox-kernel-'));
});
afterEach(() => rm(place, { recursive: true }));

describe('what the kernel has for a container', () => {
  test('is read from control groups of version 2', async () => {
    await lay({
      'proc/7/cgroup': `0::/system.slice/docker-${id}.scope\n`,
      ...under(`groups/system.slice/docker-${id}.scope`, v2),
    });
    expect(await read()).toEqual({
      limits: { memoryBytes: 1000, memorySwapBytes: 1000, pidsMax: 50, cpus: 0.5 },
      pressure: {
        memoryBytes: 400,
        memoryPeakBytes: 900,
        memoryLimitHits: 4,
        oomKills: 2,
        pids: 3,
        pidsLimitHits: 1,
        cpuPeriods: 10,
        cpuThrottledPeriods: 5,
        cpuThrottledMs: 12,
        cpuWaitPercent: 1.5,
      },
    });
  });

  test('is read from control groups of version 1', async () => {
    await lay({ 'proc/7/cgroup': `5:cpuacct,cpu:/d/${id}\n4:memory:/d/${id}\n3:pids:/d/${id}\n0::/\n` });
    await lay(under(`groups/memory/d/${id}`, v1memory));
    await lay(under(`groups/cpu/d/${id}`, { 'cpu.cfs_quota_us': '-1\n', 'cpu.cfs_period_us': '100000\n' }));
    await lay(under(`groups/pids/d/${id}`, { 'pids.max': '64\n', 'pids.events': 'max 3\n' }));
    expect(await read()).toEqual({
      limits: { memoryBytes: 2000, pidsMax: 64 },
      pressure: { memoryPeakBytes: 1500, oomKills: 1, pidsLimitHits: 3 },
    });
  });

  test('is nothing when the process is that of another container, or its group is outside of what we see', async () => {
    await lay({ 'proc/7/cgroup': `0::/docker/${'f'.repeat(60)}\n`, ...under(`groups/docker/${id}`, v2) });
    expect(await read()).toBeUndefined();
    await lay({ 'proc/7/cgroup': `0::/../docker/${id}\n` });
    expect(await read()).toBeUndefined();
  });

  test('has the mounts that the programs inside see, without what is of this machine alone', async () => {
    await lay({ 'proc/7/cgroup': `0::/${id}\n`, ...under(`groups/${id}`, v2) });
    await lay({
      'proc/7/mountinfo':
        '75 49 0:39 / / ro,relatime master:2 - overlay overlay rw,lowerdir=/var/l,upperdir=/var/u\n' +
        '92 78 0:47 / /tmp/a\\040b rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k\nnot a mount\n',
    });
    expect((await read(true))?.mounts).toEqual([
      { target: '/', kind: 'overlay', writable: false, options: '' },
      { target: '/tmp/a b', kind: 'tmpfs', writable: true, options: 'nodev,noexec,nosuid,size=65536k' },
    ]);
  });
});

const v2 = {
  'memory.max': '1000\n',
  'memory.swap.max': '0\n',
  'memory.current': '400\n',
  'memory.peak': '900\n',
  'memory.events': 'low 0\nmax 4\noom 3\noom_kill 2\n',
  'pids.max': '50\n',
  'pids.current': '3\n',
  'pids.events': 'max 1\n',
  'cpu.max': '50000 100000\n',
  'cpu.stat': 'usage_usec 1\nnr_periods 10\nnr_throttled 5\nthrottled_usec 12345\n',
  'cpu.pressure': 'some avg10=1.50 avg60=0.00 avg300=0.00 total=1\n',
};

const v1memory = {
  'memory.limit_in_bytes': '2000\n',
  'memory.memsw.limit_in_bytes': '9223372036854771712\n',
  'memory.max_usage_in_bytes': '1500\n',
  'memory.oom_control': 'oom_kill_disable 0\noom_kill 1\n',
};

function under(directory: string, files: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(files).map(([name, text]) => [join(directory, name), text]));
}

async function lay(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(place, name)), { recursive: true });
    await writeFile(join(place, name), text);
  }
}

function read(withMounts = false): ReturnType<typeof readKernel> {
  return readKernel(7, id, withMounts, { processes: join(place, 'proc'), groups: join(place, 'groups') });
}
