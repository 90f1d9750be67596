import * as net from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { DockerEngine } from '../src/engine/docker/docker-engine.ts';
import type { ContainerSpec, Engine } from '../src/engine/engine.ts';
import { findEngine } from '../src/engine/find-engine.ts';
import { sandboxLabels } from '../src/engine/labels.ts';
import { newId } from '../src/ids.ts';
import { type Fault, FaultProxy } from './fixtures/fault-proxy.ts';
import { importTinyImage } from './fixtures/tiny-image.ts';

// What an adapter must survive: an engine that hangs, lies, breaks off, or cannot do what it is asked.

const waitMs = 300;
const timeouts = {
  readMs: waitMs,
  createMs: waitMs,
  startMs: waitMs,
  attachMs: waitMs,
  destroyMs: waitMs,
  cleanUpMs: waitMs,
  filesMs: waitMs,
  importMs: waitMs,
};

describe('between the runner and an engine', () => {
  const owner = newId();
  const tag = `glovebox-test/transport-${owner}:1`;
  let direct: DockerEngine;
  let proxy: FaultProxy;
  let engine: DockerEngine;
  let hurried: DockerEngine;
  let image: string;

  const specOf = (): ContainerSpec => {
    const sandbox = newId();
    return {
      name: `glovebox-${sandbox}`,
      image,
      labels: sandboxLabels({ owner, instance: 'me', sandbox, created: new Date() }),
      argv: ['/bin/cat'],
      env: [],
      runtime: 'runc',
      workdir: '/',
      hostname: 'box',
      limits: { memoryBytes: 64 * 1024 * 1024, pidsMax: 64, cpus: 1, openFilesMax: 256, shmBytes: 65_536 },
      tmpfs: [],
      volumes: [],
      seccomp: JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW' }),
    };
  };
  const on = (method: string, path: RegExp, fault: Fault): void => {
    proxy.fault = (askedMethod, askedPath) => (askedMethod === method && path.test(askedPath) ? fault : undefined);
  };
  const left = async (): Promise<readonly string[]> =>
    (await direct.list({ 'glovebox.owner': owner })).map((found) => found.name);
  const creations = (): number => proxy.requests.filter((request) => request === 'POST /containers/create').length;

  beforeAll(async () => {
    direct = await DockerEngine.connect();
    const real = await findEngine();
    if (real.kind !== 'unix') throw new Error('these tests need an engine on a socket');
    proxy = await new FaultProxy(real.path).listen();
    const endpoint = { kind: 'unix', path: proxy.path } as const;
    engine = await DockerEngine.connect({ endpoint });
    hurried = await DockerEngine.connect({ endpoint, timeouts });
    image = await importTinyImage(direct, tag);
  });

  afterEach(async () => {
    proxy.fault = () => undefined;
    proxy.requests.length = 0;
    for (const { id } of await direct.list({ 'glovebox.owner': owner })) await direct.destroy(id);
  });

  afterAll(async () => {
    await direct.removeImage(tag);
    await proxy.close();
  });

  const calls: readonly [string, (engine: Engine) => Promise<unknown>][] = [
    ['list', (engine) => engine.list({ 'glovebox.owner': owner })],
    ['inspect', (engine) => engine.inspect('glovebox-x')],
    ['destroy', (engine) => engine.destroy('glovebox-x')],
    ['attach', (engine) => engine.attach('glovebox-x')],
    ['start', (engine) => engine.start(specOf())],
    ['images', (engine) => engine.images()],
    ['findImage', (engine) => engine.findImage('x')],
    [
      'importImage',
      (engine) =>
        engine.importImage(Readable.from([Buffer.alloc(10_240)]), {
          tag: 'x:1',
          labels: {},
          env: [],
          architecture: 'amd64',
        }),
    ],
    ['loadImage', (engine) => engine.loadImage(Readable.from([Buffer.alloc(10_240)]))],
    ['saveImage', (engine) => engine.saveImage(image)],
    ['removeImage', (engine) => engine.removeImage('x')],
    [
      'ensureFiles',
      (engine) => engine.ensureFiles('glovebox-x', [{ path: 'a', mode: 0o444, bytes: Buffer.alloc(1) }], image),
    ],
    ['removeVolume', (engine) => engine.removeVolume('x')],
    ['removeVolumes', (engine) => engine.removeVolumes({ 'glovebox.owner': owner }, [])],
  ];

  it.each(calls)('%s gives up in time on an engine that accepts and never answers', async (_, call) => {
    proxy.fault = () => ({ kind: 'stuck' });
    const startMs = performance.now();
    await expect(call(hurried)).rejects.toMatchObject({ code: 'engine_timeout' });
    expect(performance.now() - startMs).toBeLessThan(waitMs * 4);
  });

  it('says of an engine that hangs from the start that it hangs', async () => {
    proxy.fault = () => ({ kind: 'stuck' });
    const env = { DOCKER_HOST: `unix://${proxy.path}` };
    await expect(DockerEngine.connect({ env, probeMs: 200 })).rejects.toMatchObject({
      code: 'engine_unavailable',
      message: expect.stringContaining('hangs: restart it') as string,
    });
  });

  it('a switch to the raw stream that never comes is given up in time, and nothing is left', async () => {
    on('POST', /\/attach$/, { kind: 'stuck' });
    const patient = await DockerEngine.connect({
      endpoint: { kind: 'unix', path: proxy.path },
      timeouts: { attachMs: waitMs },
    });
    await expect(patient.start(specOf())).rejects.toMatchObject({ code: 'engine_timeout' });
    expect(await left()).toEqual([]);
  });

  it('a slow engine makes one container, and it works', async () => {
    proxy.fault = () => ({ kind: 'slow', ms: 150 });
    const { id, stream } = await engine.start(specOf());
    stream.duplex.write('x');
    await new Promise((resolve) => stream.duplex.once('data', resolve));
    expect(creations()).toBe(1);
    expect(await left()).toHaveLength(1);
    await engine.destroy(id);
  });

  it.each(['reset', 'truncate'] as const)(
    'an answer to create that breaks off (%s) is not repeated, and the container goes',
    async (kind) => {
      on('POST', /\/containers\/create$/, { kind });
      const startMs = performance.now();
      await expect(engine.start(specOf())).rejects.toMatchObject({ code: 'engine_failed' });
      expect(performance.now() - startMs).toBeLessThan(5_000);
      expect(creations()).toBe(1);
      expect(await left()).toEqual([]);
    },
  );

  it.each(['reset', 'truncate'] as const)('a read whose answer breaks off (%s) fails at once', async (kind) => {
    const { id } = await direct.start(specOf());
    proxy.fault = () => ({ kind });
    const startMs = performance.now();
    await expect(engine.inspect(id)).rejects.toMatchObject({ code: 'engine_failed' });
    await expect(engine.list({ 'glovebox.owner': owner })).rejects.toMatchObject({ code: 'engine_failed' });
    expect(performance.now() - startMs).toBeLessThan(5_000);
  });

  it.each([
    ['create', 'POST', /\/containers\/create$/],
    ['attach', 'POST', /\/attach$/],
    ['start', 'POST', /\/start$/],
    ['inspect', 'GET', /\/containers\/[0-9a-f]{64}\/json$/],
  ] as const)('an engine that fails at %s leaves nothing behind', async (_, method, path) => {
    on(method, path, { kind: 'status', status: 500, message: 'disk on fire' });
    await expect(engine.start(specOf())).rejects.toMatchObject({
      code: 'engine_failed',
      message: expect.stringContaining('disk on fire') as string,
    });
    expect(await left()).toEqual([]);
  });

  it('destroys in spite of an engine that fails now and then', async () => {
    const { id } = await direct.start(specOf());
    let failures = 2;
    proxy.fault = (method) =>
      method === 'DELETE' && failures-- > 0
        ? { kind: 'status', status: 500, message: 'device or resource busy' }
        : undefined;
    await engine.destroy(id);
    expect(await left()).toEqual([]);
  });

  it('an engine that warns is an engine that does not do what was asked: refused, and nothing is left', async () => {
    const change = (answer: Record<string, unknown>): void => {
      answer['Warnings'] = ['Your kernel does not support swap limit capabilities. Limitation discarded.'];
    };
    on('POST', /\/containers\/create$/, { kind: 'rewrite', change });
    await expect(engine.start(specOf())).rejects.toMatchObject({
      code: 'policy_unenforceable',
      message: expect.stringContaining('swap limit') as string,
    });
    expect(await left()).toEqual([]);
  });

  const widened: readonly [string, (host: Record<string, unknown>, answer: Record<string, unknown>) => void][] = [
    ['privileges', (host) => void (host['Privileged'] = true)],
    [
      'a capability',
      (host) => void (host['CapAdd'] = ['KILL', 'SETUID', 'SETGID', 'SETPCAP', 'SYS_NICE', 'SYS_ADMIN']),
    ],
    ['no seccomp profile', (host) => void (host['SecurityOpt'] = ['no-new-privileges:true'])],
    ['a network', (host) => void (host['NetworkMode'] = 'bridge')],
    ['more memory', (host) => void (host['Memory'] = 0)],
    ['a device', (host) => void (host['Devices'] = [{ PathOnHost: '/dev/kvm' }])],
    ['a key that nobody knows yet', (host) => void (host['HostPassthrough'] = { everything: true })],
    [
      'a mount',
      (_, answer) => void (answer['Mounts'] = [{ Type: 'bind', Source: '/', Destination: '/host', RW: true }]),
    ],
    ['an environment', (_, answer) => ((answer['Config'] as { Env: string[] }).Env = ['LD_PRELOAD=/x'])],
  ];

  it.each(widened)('a container that runs with %s that was not asked for is removed', async (_, widen) => {
    const change = (answer: Record<string, unknown>): void =>
      widen(answer['HostConfig'] as Record<string, unknown>, answer);
    on('GET', /\/containers\/[0-9a-f]{64}\/json$/, { kind: 'rewrite', change });
    await expect(engine.start(specOf())).rejects.toMatchObject({ code: 'policy_unenforceable' });
    expect(await left()).toEqual([]);
  });

  it('an engine whose filter finds too much does not make us take what is not ours', async () => {
    const stranger = { Id: 'f'.repeat(64), Names: ['/stranger'], Labels: {}, State: 'running', Created: 0 };
    const change = (answer: Record<string, unknown>): void => void (answer as unknown as unknown[]).push(stranger);
    on('GET', /\/containers\/json$/, { kind: 'rewrite', change });
    expect(await engine.list({ 'glovebox.owner': owner })).toEqual([]);
  });

  it('an engine that goes away in the middle ends the stream with an error and is unavailable', async () => {
    const real = await findEngine();
    const other = await new FaultProxy(real.kind === 'unix' ? real.path : '').listen();
    const through = await DockerEngine.connect({ endpoint: { kind: 'unix', path: other.path } });
    const { id, stream } = await through.start(specOf());
    const closed = new Promise((resolve) => stream.duplex.once('close', resolve));
    stream.duplex.on('error', () => undefined).resume();
    await other.close();
    await closed;
    await expect(through.inspect(id)).rejects.toMatchObject({ code: 'engine_unavailable' });
    // The container runs on: it is found again by whoever comes back.
    expect((await direct.inspect(id))?.status).toBe('running');
  });

  it('what answers and is no engine is named as such', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'glovebox-not-'));
    const path = join(directory, 'sock');
    const server = net.createServer((socket) => socket.end('SSH-2.0-OpenSSH\r\n'));
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const env = { DOCKER_HOST: `unix://${path}` };
    await expect(DockerEngine.connect({ env })).rejects.toMatchObject({ code: 'engine_unavailable' });
    server.close();
    rmSync(directory, { recursive: true });
  });
});
