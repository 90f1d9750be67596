import { createConnection } from 'node:net';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { Deadline } from '../../src/deadline.ts';
import type { Runtime } from '../../src/engine/engine.ts';
import { newId } from '../../src/ids.ts';
import { containerBody, defaultLimits } from '../../src/sandbox/container-body.ts';
import { Boxes, testLabel } from '../fixtures/box.ts';
import { rawDocker } from '../fixtures/raw-docker.ts';
import { compile, script, underEachRuntime } from './fixtures/host.ts';
import { hostAddresses, Wire } from './fixtures/wire.ts';

/**
 * Nothing leaves a sandbox. The host listens on all its addresses and captures every interface; that both would see
 * something is shown by a container with a network that runs the same program.
 */
const boxes = await Boxes.make();
const facts = await boxes.engine.describe();
const isRoot = process.getuid?.() === 0;
const outside = ['198.51.100.2', '2001:db8::1', '169.254.169.254', 'fd00:ec2::254', '10.0.0.1'];
const attack = Buffer.concat([script('attempt.py'), script('reach.py')]).toString();
const starts: Record<Runtime, number> = { runc: 8, runsc: 2 };

if (!isRoot) test('nothing leaves a sandbox', (context) => context.skip('capturing packets on this host needs root'));
else {
  let wire: Wire;
  let first: Buffer;
  let network: string;
  let addresses: readonly string[];

  beforeAll(async () => {
    network = await makeBridge();
    addresses = [...hostAddresses(), ...outside];
    wire = await Wire.open(await compile('capture.c'), boxes.directory);
    first = await compile('first.c');
  });
  beforeEach(() => wire.forget());
  afterAll(async () => {
    await wire.close();
    await boxes.close();
    await removeBridge(network);
  });

  test('a container with a network is heard by the listeners and seen by the capture', async () => {
    const tag = newTag();
    await wire.listenAbstract(tag);
    const own = createConnection(`\0${tag}`);
    await once(own, 'connect');
    own.destroy();
    const reachable = hostAddresses().filter((address) => !isLoopback(address));
    await runWithNetwork(network, [
      'python3',
      '-c',
      attack,
      tag,
      String(wire.port),
      JSON.stringify(reachable),
      'addresses only',
    ]);
    await wire.settle();
    const seen = wire.arrivals();
    expect(seen).toContain(`abstract ${tag}`);
    expect(seen.filter((line) => line === tag).length, 'by UDP and by TCP').toBeGreaterThanOrEqual(2);
    expect(seen).toContain('connection');
    expect(seen).toContain(`tag ${tag}`);
    expect(seen).toContain('port ip4');
  });

  underEachRuntime(facts, (runtime) => {
    test('TCP, UDP, ICMP, raw, IPv6, DNS, broadcast, metadata and host sockets reach nobody', async () => {
      const tag = newTag();
      await wire.listenAbstract(tag);
      const box = await boxes.open({ runtime });
      const command = ['python3', '-c', attack, tag, String(wire.port), JSON.stringify(addresses)] as const;
      const { results, ...state } = JSON.parse(await box.output(command)) as Reached;
      await wire.settle();
      expect(wire.arrivals()).toEqual([]);

      expect(Object.keys(results).length).toBeGreaterThan(addresses.length * 10);
      const worked = Object.entries(results).filter(([, answer]) => answer === 'ok');
      expect(worked.map(([name]) => name).filter((name) => !isLoopback(name.split(' ')[0] ?? ''))).toEqual([]);
      expect(state.interfaces).toEqual(['lo']);
      expect(state.ofInit).toEqual(['lo']);
      expect(state.routes.filter((line) => !line.startsWith('lo\t'))).toEqual([]);
      expect(state.addresses6.filter((line) => line !== '00000000000000000000000000000001 lo')).toEqual([]);
      await box.close();
    });

    test(`the first instruction of PID 1 has no network already (${starts[runtime]} starts)`, async () => {
      const name = `glovebox-test-${newId()}`;
      const labels = { [testLabel]: name };
      await boxes.engine.ensureFiles(name, [{ path: 'supervisor', mode: 0o555, bytes: first }], boxes.image, labels);
      try {
        for (let start = 0; start < starts[runtime]; start++) {
          const said = await firstWords(runtime, name, [String(wire.port), newTag(), ...addresses]);
          const worked = said.filter((line) => line.endsWith(' 0') && !isLoopback(line.split(' ')[1] ?? ''));
          expect(said.length).toBeGreaterThan(addresses.length * 20);
          expect(worked).toEqual([]);
        }
        await wire.settle();
        expect(wire.arrivals()).toEqual([]);
      } finally {
        await boxes.engine.removeVolumes(labels, []);
      }
    });
  });
}

interface Reached {
  readonly results: Record<string, string>;
  readonly interfaces: readonly string[];
  readonly ofInit: readonly string[];
  readonly routes: readonly string[];
  readonly addresses6: readonly string[];
}

function newTag(): string {
  return `glovebox-${randomBytes(8).toString('hex')}`;
}

/** What stays inside whoever sends it. */
function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1' || address === 'ff02::1%lo';
}

/** What first.c says as PID 1 of a container made exactly like a sandbox's. */
async function firstWords(runtime: Runtime, volume: string, args: readonly string[]): Promise<readonly string[]> {
  const id = newId();
  const spec = {
    id,
    image: boxes.image,
    runtime,
    limits: defaultLimits,
    labels: { [testLabel]: volume },
  };
  const body = containerBody(spec, volume);
  const { id: container, stream } = await boxes.engine.start({ ...body, argv: [...body.argv, ...args] });
  try {
    let said = '';
    stream.duplex.on('error', () => undefined);
    await Deadline.run(20_000, 'waiting for PID 1 to have tried everything', async () => {
      for await (const chunk of stream.duplex as AsyncIterable<Buffer>) {
        said += chunk.toString();
        if (said.endsWith('end\n')) return;
      }
    });
    return said.trim().split('\n');
  } finally {
    await boxes.engine.destroy(container);
  }
}

/** A bridge of our own, with an address of the host; where none can be made, the host's own network. */
async function makeBridge(): Promise<string> {
  const name = `glovebox-test-${newId()}`;
  const body = { Name: name, Driver: 'bridge', Labels: { [testLabel]: name } };
  const made = await rawDocker('POST', '/networks/create', body).catch(() => undefined);
  return made === undefined ? 'host' : name;
}

async function removeBridge(name: string): Promise<void> {
  if (name !== 'host') await rawDocker('DELETE', `/networks/${name}`);
}

async function runWithNetwork(network: string, argv: readonly string[]): Promise<void> {
  const body = {
    Image: boxes.image,
    Entrypoint: argv,
    Labels: { [testLabel]: 'control' },
    HostConfig: { NetworkMode: network, LogConfig: { Type: 'none' } },
  };
  const { Id } = (await rawDocker('POST', '/containers/create', body)) as { Id: string };
  try {
    await rawDocker('POST', `/containers/${Id}/start`);
    await rawDocker('POST', `/containers/${Id}/wait`);
  } finally {
    await rawDocker('DELETE', `/containers/${Id}?force=1`);
  }
}
