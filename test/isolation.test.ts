import { execFileSync, spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { proveIsolation } from '../src/egress/self-test.ts';
import type { Engine, StartedContainer } from '../src/engine/engine.ts';
import { newId } from '../src/ids.ts';
import { readEntries } from '../src/journal/read.ts';
import type { Run } from '../src/run/run.ts';
import { Runner } from '../src/runner.ts';
import { Bench, smallPolicy } from './fixtures/bench.ts';
import { Boxes, testLabel } from './fixtures/box.ts';
import { rawDocker } from './fixtures/raw-docker.ts';
import { underEachRuntime } from './security/fixtures/host.ts';

/** Before anything runs in a sandbox it is proven, from inside, that it has no network of its own. */
const boxes = await Boxes.make();
const facts = await boxes.engine.describe();
/** Some machines cannot make one. */
const network = await makeNetwork();
/** Interfaces: gone with their containers, sooner or later. */
const added: string[] = [];
const isRoot = process.getuid?.() === 0;
let bench: Bench;

beforeAll(async () => {
  bench = await Bench.make();
});
afterAll(async () => {
  for (const name of added) ip(`link delete ${name}o`, 'ignore');
  await bench.close();
  if (network !== undefined) await rawDocker('DELETE', `/networks/${network}`);
  await boxes.close();
});

underEachRuntime(facts, (runtime) => {
  test('a sealed sandbox is proven to be one, in a moment', async () => {
    const box = await boxes.open({ runtime });
    const proof = await proveIsolation(box.sandbox, 'refused');
    expect(proof.interfaces).toEqual(['lo']);
    expect(proof.attempts.map(({ to }) => to)).toEqual([
      'tcp 192.0.2.1:80',
      'tcp 169.254.169.254:80',
      'tcp [2001:db8::1]:80',
      'udp 192.0.2.1:53',
      'udp 127.0.0.1:53',
    ]);
    expect(proof.attempts.map(({ end }) => end).join(' ')).toMatch(
      /^((ENETUNREACH|EHOSTUNREACH|EADDRNOTAVAIL) ){4}ECONNREFUSED$/,
    );
    await expect(proveIsolation(box.sandbox, 'nxdomain')).rejects.toMatchObject({ code: 'isolation_unproven' });
    await box.close();
  });

  test('one that answers for names, though nobody should, is not', async () => {
    const box = await boxes.open({ runtime, egress: true });
    const gateway = await box.sandbox.openGateway({
      connection: (inner) => inner.reset(),
      datagram: (listener, question, peer) => gateway.answer(listener, peer, nxdomain(question)),
      lost: () => undefined,
    });
    await gateway.listen('udp', '127.0.0.1', 53);
    await proveIsolation(box.sandbox, 'nxdomain');
    await expect(proveIsolation(box.sandbox, 'refused')).rejects.toMatchObject({ code: 'isolation_unproven' });
    await box.close();
  });
});

test('nor does the engine attach one that runs to a network', async () => {
  const box = await boxes.open();
  const body = { Container: box.sandbox.containerId };
  await expect(rawDocker('POST', '/networks/bridge/connect', body)).rejects.toThrow(/private \(none\) mode/);
  expect((await proveIsolation(box.sandbox, 'refused')).interfaces).toEqual(['lo']);
  await box.close();
});

test('a run says in its journal how it was proven, before its first call', async () => {
  const runner = await Runner.create(bench.engine, bench.dataDir);
  const run = await runner.open({ policy: smallPolicy(''), workspace: await bench.workspace({ a: 'a\n' }) });
  for await (const entry of readEntries(run.dir.journal))
    if (entry.type === 'sandbox.started') {
      expect(entry.data.isolation?.interfaces).toEqual(['lo']);
      expect(entry.data.isolation?.attempts).toHaveLength(5);
    }
  await run.close();
  await runner.close();
});

test.for<[string, string[]]>([
  ['an interface', []],
  [
    'an interface with an address and a way out',
    ['addr add 192.0.2.7/24 dev GLOVE', 'route add default via 192.0.2.1'],
  ],
])(
  'a sandbox that somebody has given %s is refused: nothing runs in it, nothing is left',
  async ([, more], context) => {
    if (!isRoot) return context.skip('giving a container an interface needs root');
    const given: string[] = [];
    const runner = await Runner.create(meddled(bench.engine, ['link set GLOVE up', ...more], given), bench.dataDir);
    try {
      const opening = runner.open({ policy: smallPolicy(''), workspace: await bench.workspace({ a: 'a\n' }) });
      await expect(opening).rejects.toMatchObject({
        code: 'isolation_unproven',
        message: expect.stringContaining('it has the network interface "gbx'),
      });
      expect(await bench.containers()).toEqual([]);
    } finally {
      for (const name of given) ip(`link delete ${name}o`, 'ignore'); // gone with the container, sooner or later
      await runner.close();
    }
  },
);

describe.each<[string, Meddling]>([
  ['by the engine', { needs: 'a network', add: connect }],
  [
    'by root, past the engine',
    { needs: 'root', add: async (id) => void added.push(await addInterface(id, ['link set GLOVE up'])) },
  ],
])('a network that a sandbox was given later, %s,', (_, { needs, add }) => {
  const may = needs === 'root' ? isRoot : network !== undefined;

  test.for([
    ['sealed', ''],
    ['with a fence', 'egress: { use: [web], profiles: { web: [{ id: web, host: [example.org], ports: [443] }] } }\n'],
  ])(
    'ends the run within its next look (%s): what ran is lost, and the record says why',
    async ([, egress = ''], context) => {
      if (!may) return context.skip(`it takes ${needs}, which is not to be had here`);
      const runner = await Runner.create(bench.engine, bench.dataDir, { lookAgainMs: 100 });
      const run = await runner.open({ policy: smallPolicy(egress), workspace: await bench.workspace({ a: 'a\n' }) });
      await run.call('long', { tool: 'exec', script: 'echo x > new; sleep 60', yieldMs: 200 });
      await add(run.sandbox.containerId);
      expect(await run.lost).toMatchObject({
        code: 'isolation_unproven',
        reason: expect.stringMatching(/network interface "(eth0|gbx\w+)"/),
      });
      await run.close();
      expect(run.candidate).toBeUndefined();
      expect(await endOf(run)).toEqual([
        expect.stringMatching(/^sandbox\.lost .*not sealed any more: it has the network interface/),
        expect.stringMatching(/^run\.closed lost stopped: .*not sealed any more/),
      ]);
      expect(await bench.engine.inspect(run.sandbox.containerId)).toBeUndefined();
      await runner.close();
    },
  );

  test('is found before the diff is taken at the latest: nothing of it is taken over', async (context) => {
    if (!may) return context.skip(`it takes ${needs}, which is not to be had here`);
    const runner = await Runner.create(bench.engine, bench.dataDir);
    const run = await runner.open({ policy: smallPolicy(''), workspace: await bench.workspace({ a: 'a\n' }) });
    await run.call('write', { tool: 'exec', script: 'echo x > new' });
    await add(run.sandbox.containerId);
    await run.close();
    expect(run.candidate).toBeUndefined();
    expect((await endOf(run)).map((line) => line.split(' ').slice(0, 2).join(' '))).toEqual([
      'sandbox.lost The',
      'run.closed lost',
    ]);
    await runner.close();
  });
});

/** How its journal ends: from the loss of the sandbox on. */
async function endOf(run: Run): Promise<readonly string[]> {
  const lines: string[] = [];
  for await (const entry of readEntries(run.dir.journal)) {
    if (entry.type === 'sandbox.lost') lines.push(`${entry.type} ${entry.data.reason}`);
    if (entry.type === 'run.closed') lines.push(`${entry.type} ${entry.data.outcome} ${entry.data.summary}`);
  }
  return lines;
}

interface Meddling {
  readonly needs: 'a network' | 'root';
  readonly add: (containerId: string) => Promise<void>;
}

/** As somebody would at the command line. */
async function connect(containerId: string): Promise<void> {
  await rawDocker('POST', '/networks/none/disconnect', { Container: containerId });
  await rawDocker('POST', `/networks/${network}/connect`, { Container: containerId });
}

/** The same engine, on a machine where something attaches networks to what it has started. */
function meddled(engine: Engine, lines: readonly string[], given: string[]): Engine {
  return new Proxy(engine, {
    get(target, name) {
      if (name === 'start')
        return async (...args: Parameters<Engine['start']>): Promise<StartedContainer> => {
          const started = await target.start(...args);
          given.push(await addInterface(started.id, lines));
          return started;
        };
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === 'function' ? member.bind(target) : member;
    },
  });
}

/** Its name. The other end of the pair stays here. */
async function addInterface(container: string, lines: readonly string[]): Promise<string> {
  const { Pid } = (await rawDocker('GET', `/containers/${container}/json`))['State'] as { Pid: number };
  const name = `gbx${newId().slice(-8)}`;
  ip(`link add ${name} type veth peer name ${name}o`);
  ip(`link set ${name}o up`);
  ip(`link set ${name} netns ${Pid}`);
  for (const line of lines) {
    const args = ['-t', String(Pid), '-n', 'ip', ...line.replace('GLOVE', name).split(' ')];
    execFileSync('nsenter', args, { stdio: 'pipe' });
  }
  return name;
}

async function makeNetwork(): Promise<string | undefined> {
  const body = {
    Name: `glovebox-test-${newId()}`,
    Driver: 'bridge',
    Internal: true,
    Labels: { [testLabel]: 'isolation' },
  };
  const made = await rawDocker('POST', '/networks/create', body).catch(() => undefined);
  return made?.['Id'] as string | undefined;
}

function ip(line: string, failure: 'throw' | 'ignore' = 'throw'): void {
  const { status, stderr } = spawnSync('ip', line.split(' '), { encoding: 'utf8' });
  if (status !== 0 && failure === 'throw') throw new Error(`ip ${line}: ${stderr}`);
}

/** The question, answered: no such name. */
function nxdomain(question: Buffer): Buffer {
  const answer = Buffer.from(question);
  answer.writeUInt16BE(0x8183, 2);
  return answer;
}
