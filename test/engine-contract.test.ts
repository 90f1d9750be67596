import { randomBytes } from 'node:crypto';
import { Readable, type Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Deadline } from '../src/deadline.ts';
import { diagnose } from '../src/engine/doctor.ts';
import { DockerEngine } from '../src/engine/docker/docker-engine.ts';
import type { ContainerSpec, Engine, VolumeFile } from '../src/engine/engine.ts';
import { FakeEngine, fakeMisses } from '../src/engine/fake/fake-engine.ts';
import { FakeHost } from '../src/engine/fake/host.ts';
import { collect } from '../src/engine/gc.ts';
import { sandboxLabels } from '../src/engine/labels.ts';
import { newId } from '../src/ids.ts';
import { importTinyImage } from './fixtures/tiny-image.ts';

/** What an adapter may lack. A name in its list is the only reason for a case to be left out. */
type Feature = (typeof fakeMisses)[number];

interface Adapter {
  readonly name: string;
  readonly misses: readonly Feature[];
  /** A new client of the same engine: what a runner has after it was restarted. */
  readonly connect: () => Promise<Engine>;
}

const fakeHost = new FakeHost();
const adapters: readonly Adapter[] = [
  { name: 'fake', misses: fakeMisses, connect: async () => new FakeEngine(fakeHost) },
  { name: 'docker', misses: [], connect: async () => await DockerEngine.connect() },
];

describe.each(adapters)('an engine ($name)', ({ name, misses, connect }) => {
  const owner = newId();
  const tag = `glovebox-test/contract-${owner}:1`;
  const leftOut: string[] = [];
  let engine: Engine;
  let image: string;

  const promise = (what: string, needs: readonly Feature[], body: () => Promise<void>): void => {
    const missing = needs.filter((feature) => misses.includes(feature));
    if (missing.length === 0) it(what, body);
    else leftOut.push(`${what} (needs ${missing.join(', ')})`);
  };

  const specOf = (change: Partial<ContainerSpec> = {}): ContainerSpec => {
    const sandbox = newId();
    return {
      name: `glovebox-${sandbox}`,
      image,
      labels: sandboxLabels({ owner, instance: 'me', sandbox, created: new Date() }),
      argv: ['/bin/cat'],
      env: ['LANG=C'],
      runtime: 'runc',
      workdir: '/',
      hostname: 'box',
      limits: { memoryBytes: 64 * 1024 * 1024, pidsMax: 64, cpus: 1, openFilesMax: 256, shmBytes: 65_536 },
      tmpfs: [],
      volumes: [],
      seccomp: JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW' }),
      ...change,
    };
  };
  const left = async (): Promise<readonly string[]> =>
    (await engine.list({ 'glovebox.owner': owner })).map((c) => c.name);

  /** What it said, line by line. With `unwanted`, it is ended as soon as it says something. */
  const setUpIn = async (container: string, script: string, unwanted?: AbortController): Promise<readonly string[]> => {
    let said = '';
    const end = await engine.setUp(
      {
        name: `glovebox-setup-${newId()}`,
        image,
        labels: { 'glovebox.owner': owner },
        argv: ['/bin/sh', '-c', script],
        env: ['PATH=/bin'],
        files: Readable.from([Buffer.alloc(1024)]), // an archive without entries
        network: { kind: 'sandbox', container },
        limits: { memoryBytes: 64 * 1024 * 1024, pidsMax: 16, cpus: 1 },
        timeoutMs: 10_000,
        onOutput: (bytes) => {
          said += bytes.toString();
          unwanted?.abort(new Error('the fence is gone'));
        },
        ...(unwanted === undefined ? {} : { signal: unwanted.signal }),
      },
      async () => undefined,
    );
    expect(end).toMatchObject({ kind: 'done' });
    return said.trim().split('\n');
  };

  beforeAll(async () => {
    engine = await connect();
    image = await importTinyImage(engine, tag);
  });

  afterAll(async () => {
    for (const { id } of await engine.list({ 'glovebox.owner': owner })) await engine.destroy(id);
    await engine.removeVolumes({ 'glovebox.owner': owner }, []);
    await engine.removeImage(tag);
    if (leftOut.length > 0) console.info(`${name} leaves out:\n  ${leftOut.join('\n  ')}`);
  });

  promise('carries bytes to PID 1 and back as they are, whatever they look like', [], async () => {
    const { id, stream } = await engine.start(specOf());
    // Bytes that look like the engine's own framing are PID 1's business.
    const sent = Buffer.concat([
      Buffer.from([1, 0, 0, 0, 0, 0, 0, 5]),
      randomBytes(1_000_000),
      Buffer.from([2, 0, 0, 0]),
    ]);
    stream.duplex.write(sent);
    expect(Buffer.compare(await take(stream.duplex, sent.length), sent)).toBe(0);
    await engine.destroy(id);
  });

  promise('says what runs, and that nothing is known of what does not', [], async () => {
    const spec = specOf();
    const { id } = await engine.start(spec);
    expect(await engine.inspect(id)).toMatchObject({ id, name: spec.name, status: 'running', exitCode: undefined });
    expect((await engine.inspect(id))?.labels).toMatchObject(spec.labels);
    await engine.destroy(id);
    expect(await engine.inspect(id)).toBeUndefined();
  });

  promise('says what a container runs with now, where it can be looked at by the kernel too', [], async () => {
    const spec = specOf();
    const { id } = await engine.start(spec);
    const reading = await engine.read(id);
    expect(reading).toMatchObject({ state: { id }, image, runtime: 'runc', networks: ['none'], execs: 0 });
    expect(reading?.limits).toMatchObject(spec.limits);
    const { memoryBytes, pidsMax, cpus } = spec.limits;
    if (reading?.kernel !== undefined) expect(reading.kernel.limits).toMatchObject({ memoryBytes, pidsMax, cpus });
    await engine.destroy(id);
    expect(await engine.read(id)).toBeUndefined();
  });

  promise('ends the stream when PID 1 ends, and keeps its exit code', [], async () => {
    const { id, stream } = await engine.start(
      specOf({ argv: ['/bin/sh', '-c', 'read line; echo "got $line"; exit 7'] }),
    );
    stream.duplex.write('it\n');
    expect((await untilEnd(stream.duplex)).toString()).toBe('got it\n');
    stream.duplex.write('nobody is there any more'); // is no error: the end has been told
    await until(async () => (await engine.inspect(id))?.status === 'exited');
    expect((await engine.inspect(id))?.exitCode).toBe(7);
    await engine.destroy(id);
  });

  promise('keeps the last 8 KiB that PID 1 wrote as its errors, apart from the stream', [], async () => {
    const script = 'read go; n=0; while [ $n -lt 3000 ]; do echo "line $n" >&2; n=$((n + 1)); done; echo done';
    const { id, stream } = await engine.start(specOf({ argv: ['/bin/sh', '-c', script] }));
    stream.duplex.write('\n');
    expect((await untilEnd(stream.duplex)).toString()).toBe('done\n');
    await until(async () => stream.stderrTail().endsWith('line 2999\n'));
    expect(stream.stderrTail().length).toBeLessThanOrEqual(8192);
    await engine.destroy(id);
  });

  promise('stops reading from PID 1 while nobody reads the stream, and destroys it all the same', [], async () => {
    const { id, stream } = await engine.start(specOf({ argv: ['/bin/cat', '/dev/zero'] }));
    stream.duplex.read(0);
    await until(async () => stream.duplex.readableLength > 16_384);
    for (let turn = 0; turn < 20; turn++) {
      await sleep(10);
      expect(stream.duplex.readableLength).toBeLessThan(1024 * 1024);
    }
    await engine.destroy(id);
  });

  promise('destroys a running container, twice, and one that never was', [], async () => {
    const { id } = await engine.start(specOf());
    await engine.destroy(id);
    await engine.destroy(id);
    await engine.destroy('glovebox-never-was');
    expect(await left()).toEqual([]);
  });

  promise('destroys a paused container', ['pause'], async () => {
    const { id } = await engine.start(specOf());
    await rawEngine('POST', `/containers/${id}/pause`);
    expect((await engine.inspect(id))?.status).toBe('paused');
    await engine.destroy(id);
    expect(await engine.inspect(id)).toBeUndefined();
  });

  promise('finds by label alone, from another process, what runs, and attaches to it again', [], async () => {
    const spec = specOf();
    const first = await engine.start(spec);
    first.stream.duplex.write('half a fra');
    await take(first.stream.duplex, 10);
    first.stream.duplex.destroy(); // the runner is gone
    const restarted = await connect();
    const [found] = await restarted.list({
      'glovebox.owner': owner,
      'glovebox.sandbox': spec.labels['glovebox.sandbox'] ?? '',
    });
    expect(found).toMatchObject({ id: first.id, name: spec.name, status: 'running' });
    expect(Math.abs((found?.createdMs ?? 0) - Date.now())).toBeLessThan(60_000);
    const again = await restarted.attach(first.id);
    again.duplex.write('back');
    expect((await take(again.duplex, 4)).toString()).toBe('back');
    await restarted.destroy(first.id);
  });

  promise('finds nothing under labels of which one differs', [], async () => {
    const { id } = await engine.start(specOf());
    expect(await engine.list({ 'glovebox.owner': owner, 'glovebox.instance': 'other' })).toEqual([]);
    await engine.destroy(id);
  });

  promise('refuses to attach to what has ended or is gone', [], async () => {
    const { id, stream } = await engine.start(specOf({ argv: ['/bin/sh', '-c', 'read line'] }));
    stream.duplex.write('\n');
    await untilEnd(stream.duplex);
    await until(async () => (await engine.inspect(id))?.status === 'exited');
    await expect(engine.attach(id)).rejects.toMatchObject({ code: 'sandbox_lost' });
    await engine.destroy(id);
    await expect(engine.attach(id)).rejects.toMatchObject({ code: 'sandbox_lost' });
  });

  promise('replaces what a crash left under the same name', [], async () => {
    const spec = specOf({ argv: ['/bin/sh', '-c', 'read line'] });
    const dead = await engine.start(spec);
    dead.stream.duplex.write('\n');
    await untilEnd(dead.stream.duplex);
    await until(async () => (await engine.inspect(dead.id))?.status === 'exited');
    const alive = await engine.start({ ...spec, argv: ['/bin/cat'] });
    expect(alive.id).not.toBe(dead.id);
    expect(await left()).toEqual([spec.name]);
    await engine.destroy(alive.id);
  });

  promise('never takes a name away from a running container, or from somebody else', [], async () => {
    const spec = specOf();
    const running = await engine.start(spec);
    await expect(engine.start(spec)).rejects.toMatchObject({ code: 'engine_failed' });
    const stranger = { ...spec, labels: { ...spec.labels, 'glovebox.owner': 'someone-else' } };
    await expect(engine.start(stranger)).rejects.toMatchObject({ code: 'engine_failed' });
    expect((await engine.inspect(running.id))?.status).toBe('running');
    await engine.destroy(running.id);
  });

  promise('refuses an image that it has not, and one that is not pinned', [], async () => {
    const unknown = `sha256:${'0'.repeat(64)}`;
    await expect(engine.start(specOf({ image: unknown }))).rejects.toMatchObject({ code: 'image_not_found' });
    await expect(engine.start(specOf({ image: tag }))).rejects.toMatchObject({ code: 'image_not_allowed' });
    expect(await engine.findImage('glovebox-test/never-was:1')).toBeUndefined();
    expect(await left()).toEqual([]);
  });

  promise(
    'makes a container before what it needs is ready, starts it after, and removes it when that fails',
    [],
    async () => {
      const status = async () => (await engine.list({ 'glovebox.owner': owner })).map((found) => found.status).join();
      const needs = (async () => until(async () => (await status()) === 'created'))();
      const { id } = await engine.start(specOf(), needs);
      expect((await engine.inspect(id))?.status).toBe('running');
      await engine.destroy(id);
      const failure = new Error('it never will be');
      await expect(engine.start(specOf(), Promise.reject(failure))).rejects.toBe(failure);
      expect(await left()).toEqual([]);
    },
  );

  promise('says that PID 1 is not there, and leaves nothing behind', [], async () => {
    const spec = specOf({ argv: ['/.glovebox/not-there'] });
    await expect(engine.start(spec)).rejects.toMatchObject({ code: 'supervisor_missing' });
    expect(await left()).toEqual([]);
  });

  promise('refuses a runtime that it has not or cannot hold', [], async () => {
    await expect(engine.start(specOf({ runtime: 'runsc' }))).rejects.toMatchObject({ code: 'policy_unenforceable' });
    expect(await left()).toEqual([]);
  });

  promise('runs PID 1 from a volume of files, made once, and removed when nobody uses it', [], async () => {
    const volume = `glovebox-test-${owner}`;
    const files: readonly VolumeFile[] = [
      { path: 'bin/hello', mode: 0o555, bytes: Buffer.from('#!/bin/sh\necho hello; exec cat\n') },
      { path: 'empty', mode: 0o444, bytes: Buffer.alloc(0) },
    ];
    const labels = { 'glovebox.owner': owner };
    await engine.ensureFiles(volume, files, image, labels);
    await (await connect()).ensureFiles(volume, files, image, labels);
    const volumes = [{ name: volume, target: '/.glovebox', kind: 'files' }] as const;
    const { id, stream } = await engine.start(specOf({ argv: ['/.glovebox/bin/hello'], volumes }));
    expect((await take(stream.duplex, 6)).toString()).toBe('hello\n');
    expect(await engine.removeVolumes(labels, [])).toEqual([]);
    expect(await engine.removeVolume(volume)).toBe(false);
    await engine.destroy(id);
    expect(await engine.removeVolumes(labels, [volume])).toEqual([]);
    expect(await engine.listVolumes({ ...labels, 'glovebox.files': '' })).toEqual([volume]);
    expect(await engine.removeVolumes(labels, [])).toEqual([volume]);
    expect(await engine.removeVolumes(labels, [])).toEqual([]);
    expect(await left()).toEqual([]);
  });

  promise('fills a volume once when several processes ask for it at the same time', [], async () => {
    const volume = `glovebox-test-${owner}-many`;
    const files = [{ path: 'data', mode: 0o444, bytes: randomBytes(300_000) }];
    const clients = await Promise.all(Array.from({ length: 4 }, connect));
    await Promise.all(clients.map((client) => client.ensureFiles(volume, files, image, { 'glovebox.owner': owner })));
    expect(await left()).toEqual([]);
    expect(await engine.listVolumes({ 'glovebox.owner': owner })).toEqual([volume]);
    for (const time of ['first', 'second']) expect([time, await engine.removeVolume(volume)]).toEqual([time, true]);
    expect(await engine.listVolumes({ 'glovebox.owner': owner })).toEqual([]);
  });

  promise('heals a volume whose filling was cut short', ['image contents'], async () => {
    const volume = `glovebox-test-${owner}-half`;
    const labels = { 'glovebox.owner': owner };
    const whole = [
      { path: 'a', mode: 0o555, bytes: Buffer.from('#!/bin/sh\necho whole; read line\n') },
      { path: 'b', mode: 0o444, bytes: Buffer.from('b') },
    ];
    await engine.ensureFiles(volume, whole, image, labels);
    const { id } = await engine.start(specOf());
    await rawEngine('POST', '/containers/create', {
      Image: image,
      Labels: labels,
      Entrypoint: ['/bin/sh', '-c', 'echo broken > /v/a; rm -f /v/b; sleep 0'],
      HostConfig: { NetworkMode: 'none', Mounts: [{ Type: 'volume', Source: volume, Target: '/v' }] },
    }).then((made) => rawEngine('POST', `/containers/${String(made['Id'])}/start`));
    await until(async () => (await engine.list(labels)).some((found) => found.status === 'exited'));
    await (await connect()).ensureFiles(volume, whole, image, labels);
    const volumes = [{ name: volume, target: '/v', kind: 'files' }] as const;
    const healed = await engine.start(specOf({ argv: ['/v/a'], volumes }));
    expect((await take(healed.stream.duplex, 6)).toString()).toBe('whole\n');
    for (const found of [id, healed.id]) await engine.destroy(found);
    for (const found of await engine.list(labels)) await engine.destroy(found.id);
    await engine.removeVolumes(labels, []);
  });

  promise('collects what dead runners left, nothing else, and twice without harm', [], async () => {
    const of = (owner: string, instance: string): ContainerSpec => {
      const spec = specOf();
      return { ...spec, labels: { ...spec.labels, 'glovebox.owner': owner, 'glovebox.instance': instance } };
    };
    const mine = newId();
    const dead = await engine.start(of(mine, 'dead'));
    const alive = await engine.start(of(mine, 'alive'));
    const stranger = await engine.start(of(owner, 'dead'));
    const options = { owner: mine, isAlive: (instance: string) => instance === 'alive' };
    const wouldGo = await collect(engine, { ...options, dryRun: true });
    expect((await engine.inspect(dead.id))?.status).toBe('running');
    const gone = await collect(engine, options);
    expect(gone).toEqual(wouldGo);
    expect(gone.map((one) => one.kind === 'container' && one.id)).toEqual([dead.id]);
    expect(await collect(engine, options)).toEqual([]);
    for (const { id } of [alive, stranger]) expect((await engine.inspect(id))?.status).toBe('running');
    for (const { id } of [alive, stranger]) await engine.destroy(id);
  });

  promise('collects the networks of setups that died, but not one that a container is on', ['networks'], async () => {
    const mine = newId();
    const make = async (name: string, of: string, instance: string): Promise<string> => {
      const labels = { 'glovebox.owner': of, 'glovebox.instance': instance };
      const full = `glovebox-test-${mine}-${name}`;
      await rawEngine('POST', '/networks/create', { Name: full, Driver: 'bridge', Internal: true, Labels: labels });
      return full;
    };
    const [dead, used] = [await make('dead', mine, 'dead'), await make('used', mine, 'dead')];
    const others = [await make('alive', mine, 'alive'), await make('other', owner, 'dead')];
    const guest = { Image: image, Entrypoint: ['/bin/cat'], OpenStdin: true, HostConfig: { NetworkMode: used } };
    const { Id } = await rawEngine('POST', '/containers/create', guest);
    await rawEngine('POST', `/containers/${String(Id)}/start`);
    const options = { owner: mine, isAlive: (instance: string) => instance === 'alive' };
    const wouldGo = await collect(engine, { ...options, dryRun: true });
    expect(wouldGo.map((one) => `${one.kind} ${one.name}`).sort()).toEqual([`network ${dead}`, `network ${used}`]);
    expect(await engine.findNetworks({ 'glovebox.owner': mine })).toHaveLength(3);
    expect(await collect(engine, options)).toEqual([{ kind: 'network', name: dead }]);
    await engine.destroy(String(Id));
    expect(await collect(engine, options)).toEqual([{ kind: 'network', name: used }]);
    expect(await collect(engine, options)).toEqual([]);
    for (const of of [mine, owner]) {
      for (const { id, name } of await engine.findNetworks({ 'glovebox.owner': of })) {
        expect(others).toContain(name);
        expect(await engine.removeNetwork(id)).toBe(true);
        expect(await engine.removeNetwork(id)).toBe(true);
      }
    }
    await expect(engine.findNetworks({})).rejects.toMatchObject({ code: 'invalid_request' });
  });

  promise('gives a setup the loopback of a sandbox and nothing else of it', ['networks'], async () => {
    const look = 'for kind in net pid mnt ipc; do ls -l /proc/self/ns/$kind; done';
    const sandbox = await engine.start(specOf({ argv: ['/bin/sh', '-c', `${look}; exec cat`] }));
    const outer = spacesIn(await takeLines(sandbox.stream.duplex, 4));
    const lines = await setUpIn(sandbox.id, `${look}; ls /sys/class/net; cat /etc/resolv.conf; id -u`);
    const inner = spacesIn(lines.slice(0, 4));
    expect(inner['net']).toBe(outer['net']);
    for (const kind of ['pid', 'mnt', 'ipc']) expect(inner[kind], kind).not.toBe(outer[kind]);
    expect(lines[4]).toBe('lo');
    expect(lines).toContain('nameserver 127.0.0.1');
    expect(lines.at(-1)).toBe('0');
    await engine.destroy(sandbox.id);
    await expect(setUpIn(sandbox.id, 'true')).rejects.toMatchObject({ code: 'policy_unenforceable' });
    expect(await left()).toEqual([]);
  });

  promise('gives a setup no network of a container that has more than loopback', ['networks'], async () => {
    const host = { Image: image, Entrypoint: ['/bin/cat'], OpenStdin: true, HostConfig: { NetworkMode: 'host' } };
    const { Id } = await rawEngine('POST', '/containers/create', host);
    await rawEngine('POST', `/containers/${String(Id)}/start`);
    await expect(setUpIn(String(Id), 'true')).rejects.toMatchObject({
      code: 'policy_unenforceable',
      message: expect.stringMatching(/running, network host \(host\)/),
    });
    await engine.destroy(String(Id));
    expect(await left()).toEqual([]);
  });

  promise('ends a setup that is not wanted any more, and says why', ['networks'], async () => {
    const sandbox = await engine.start(specOf());
    const unwanted = new AbortController();
    const ending = setUpIn(sandbox.id, 'echo begun; sleep 60', unwanted);
    await expect(ending).rejects.toThrow('the fence is gone');
    await engine.destroy(sandbox.id);
    expect(await left()).toEqual([]);
  });

  promise('is found fit for sandboxes by the doctor, whose trials leave nothing behind', ['confinement'], async () => {
    const labels = { 'glovebox.owner': owner };
    const diagnosis = await diagnose(engine, { images: [tag, 'glovebox-test/never-was:1'], labels });
    expect(diagnosis.usable).toBe(true);
    const verdicts = new Map(diagnosis.checks.map((check) => [check.id, check.ok]));
    expect(verdicts.get(`image ${tag}`)).toBe('yes');
    expect(verdicts.get('image glovebox-test/never-was:1')).toBe('limited');
    for (const check of diagnosis.checks) expect(check.found).not.toBe('');
    expect(await left()).toEqual([]);
    expect(await engine.listVolumes({ 'glovebox.filler': '' })).toEqual([]);
  });

  promise('gives an image the labels that were asked, whatever they hold', ['image contents'], async () => {
    const facts = await engine.findImage(tag);
    expect(facts).toMatchObject({ id: image, tags: [tag], labels: { 'glovebox.image.test': 'a "quoted" $value' } });
    expect((await engine.images({ 'glovebox.image.test': 'a "quoted" $value' })).map((found) => found.id)).toContain(
      image,
    );
  });

  promise('hands out an image as an archive and takes the same archive in again', ['image archives'], async () => {
    const chunks: Buffer[] = [];
    for await (const chunk of await engine.saveImage(image)) chunks.push(chunk as Buffer);
    await engine.loadImage(Readable.from(chunks));
    expect(await engine.findImage(image)).toMatchObject({ id: image });
    await expect(engine.loadImage(Readable.from([Buffer.from('no archive')]))).rejects.toMatchObject({
      code: 'engine_failed',
    });
    await expect(engine.saveImage(`sha256:${'0'.repeat(64)}`)).rejects.toMatchObject({ code: 'image_not_found' });
  });
});

afterAll(async () => await fakeHost.close());

/** Exactly the next bytes. */
async function take(stream: Duplex, bytes: number): Promise<Buffer> {
  return await Deadline.run(10_000, `read ${bytes} bytes`, async () => {
    const parts: Buffer[] = [];
    for (let length = 0; length < bytes;) {
      const part = stream.read() as Buffer | null;
      if (part === null) await new Promise((resolve) => stream.once('readable', resolve));
      else {
        parts.push(part);
        length += part.length;
      }
    }
    return Buffer.concat(parts);
  });
}

async function takeLines(stream: Duplex, count: number): Promise<readonly string[]> {
  let text = '';
  while (text.split('\n').length <= count) text += (await take(stream, 1)).toString();
  return text.trim().split('\n');
}

/** `net:[4026531840]` in the lines of `ls -l`. */
function spacesIn(lines: readonly string[]): Readonly<Record<string, string>> {
  const found = lines.map((line) => /(\w+):\[(\d+)\]/.exec(line) ?? []);
  return Object.fromEntries(found.map(([, kind = '', inode = '']) => [kind, inode]));
}

async function untilEnd(stream: Duplex): Promise<Buffer> {
  return await Deadline.run(10_000, 'read to the end', async () => {
    const parts: Buffer[] = [];
    for await (const part of stream) parts.push(part as Buffer);
    return Buffer.concat(parts);
  });
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  await Deadline.run(10_000, 'wait until it holds', async (signal) => {
    while (!signal.aborted && !(await holds())) await sleep(10);
  });
}

/** The engine's API itself, for what the port cannot say. */
async function rawEngine(method: string, path: string, body?: unknown): Promise<Record<string, unknown>> {
  const { rawDocker } = await import('./fixtures/raw-docker.ts');
  return await rawDocker(method, path, body);
}
