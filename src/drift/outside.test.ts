import { expect, test } from 'vitest';
import type { ContainerReading } from '../engine/reading.ts';
import { outsideFindings } from './outside.ts';

const reading: ContainerReading = {
  state: {
    id: 'c',
    name: 'glovebox-1',
    labels: {},
    status: 'running',
    exitCode: undefined,
    outOfMemory: false,
    startedAt: '2026-01-01',
  },
  image: 'sha256:1',
  runtime: 'runc',
  limits: { memoryBytes: 2 ** 31, cpus: 2, pidsMax: 256 },
  networks: ['none'],
  mounts: [{ target: '/workspace', kind: 'volume', writable: true, options: '' }],
  execs: 0,
};

const stateOf = (change: Partial<ContainerReading['state']>): Partial<ContainerReading> => ({
  state: { ...reading.state, ...change },
});

test('a container that nobody touched gives nothing', () => {
  expect(outsideFindings(reading, { ...reading })).toEqual([]);
});

test.each<readonly [string, Partial<ContainerReading>, string, string, string]>([
  [
    'memory',
    { limits: { ...reading.limits, memoryBytes: 2 ** 26 } },
    'resource_pressure',
    'engine.memory_bytes',
    'memory is 64 MiB instead of 2 GiB',
  ],
  [
    'processors',
    { limits: { ...reading.limits, cpus: 0.1 } },
    'resource_pressure',
    'engine.cpus',
    'processors is 0.1 instead of 2',
  ],
  [
    'a limit that is gone',
    { limits: { memoryBytes: 2 ** 31, cpus: 2 } },
    'resource_pressure',
    'engine.pids',
    'processes is unlimited instead of 256',
  ],
  [
    'a network',
    { networks: ['bridge', 'none'] },
    'egress',
    'network bridge',
    'connected the container to the network bridge',
  ],
  ['a pause', stateOf({ status: 'paused' }), 'engine', 'status', 'paused the container'],
  ['a kill', stateOf({ status: 'exited', exitCode: 137 }), 'engine', 'status', 'killed the container'],
  ['an end', stateOf({ status: 'exited', exitCode: 0 }), 'engine', 'status', 'ended by itself'],
  ['a restart', stateOf({ startedAt: '2026-02-02' }), 'engine', 'started', 'restarted the container'],
  ['another name', stateOf({ name: 'mine' }), 'engine', 'name', 'another name: mine'],
  ['an exec', { execs: 2 }, 'process_left', 'execs', '2 programs in the container'],
  [
    'a mount',
    { mounts: [...reading.mounts, { target: '/data', kind: 'bind', writable: true, options: '' }] },
    'mount',
    '/data',
    '/data bind rw',
  ],
])('%s that somebody else has changed is one finding, with what was and what is', (_, change, kind, key, text) => {
  const findings = outsideFindings(reading, { ...reading, ...change });
  expect(findings.map((finding) => [finding.kind, finding.key, finding.source])).toEqual([[kind, key, 'container']]);
  expect(findings[0]?.text).toContain(text);
});

test('a container that is gone was removed by somebody', () => {
  expect(outsideFindings(reading, undefined)).toMatchObject([{ kind: 'engine', found: 'gone' }]);
});
