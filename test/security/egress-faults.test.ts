import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { DockerEngine } from '../../src/engine/docker/docker-engine.ts';
import { Runner } from '../../src/runner.ts';
import { cuttable } from '../fixtures/cuttable-engine.ts';
import { openEgressBench } from '../fixtures/egress-bench.ts';
import { egressPolicy, egressPolicyText, eventually, Inside, type PolicyOptions } from '../fixtures/inside.ts';
import { rawDocker } from '../fixtures/raw-docker.ts';
import { here } from '../fixtures/servers.ts';
import { underEachRuntime } from './fixtures/host.ts';
import { compiled } from '../../src/program.fixture.ts';

/** What carries a sandbox's connections breaks in the middle of them: nothing passes until it is whole again, if ever. */
const isRoot = process.getuid?.() === 0;
const names = here('api.test', 'raw.test', 'plain.test');
const { bench, facts, servers, runner } = await openEgressBench(names);
function egress(): string {
  const [http, https] = [servers.port('http'), servers.port('https')];
  const own = 'addresses: [127.0.0.0/8]';
  return `egress:
  use: [web]
  profiles:
    web:
      - { id: api, host: [api.test], ports: [${https}], ${own} }
      - { id: raw, host: [raw.test], ports: [${https}], tls: pass_through, ${own} }
      - { id: plain, host: [plain.test], ports: [${http}], tls: none, max_requests: 1000000, ${own} }
`;
}

const policyFor = (options: PolicyOptions = {}) => egressPolicy(egress(), options);

/** One transfer of each kind, begun again whenever it ends. */
const transfers = (): string => `unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY\npython3 - <<'END'
import http.client, ssl, threading, time
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
def drip(way):
    while True:
        try:
            if way == 'plain': c = http.client.HTTPConnection('plain.test', ${servers.port('http')}, timeout=20)
            else: c = http.client.HTTPSConnection(f'{way}.test', ${servers.port('https')}, timeout=20, context=context)
            c.request('GET', '/drip'); answer = c.getresponse(); print(way, 'begun', flush=True)
            while piece := answer.read1(): pass
        except Exception as error: print(way, 'ended', flush=True)
        time.sleep(0.05)
for way in ('api', 'raw', 'plain'): threading.Thread(target=drip, args=(way,)).start()
END`;

async function transferring(inside: Inside): Promise<void> {
  await inside.start('transfers', transfers());
  await eventually('three transfers are under way', () => servers.drips === 3);
}

describe('a runner that is killed in the middle of transfers', () => {
  underEachRuntime(facts, (runtime) => {
    test('is the end of them, and nothing passes afterwards, however often it is tried', async () => {
      const program = await compiled(new URL('../fixtures/dying-run.ts', import.meta.url));
      const policy = egressPolicyText(egress(), { runtime });
      const args = [bench.dataDir.path, policy, JSON.stringify(names), servers.certificate, transfers()];
      const child = execa(process.execPath, [program, ...args], { reject: false });
      const containerId = await new Promise<string>((resolve, reject) => {
        child.stdout.once('data', (text: Buffer) => resolve(text.toString().trim()));
        void child.then(({ stderr }) => reject(new Error(`the runner ended by itself: ${stderr}`)));
      });
      await eventually('three transfers are under way', () => servers.drips === 3);
      child.kill('SIGKILL');
      await child;
      await eventually('the servers are left', () => servers.drips === 0);
      const { total } = servers;
      await sleep(1_500); // thirty tries of each kind
      expect(servers.total).toBe(total);
      expect(await bench.engine.inspect(containerId)).toMatchObject({ status: 'running' });
      await bench.engine.destroy(containerId);
    });
  });
});

describe('what is put right again', () => {
  test('a gateway that is killed: its connections end, and another one carries the same names', async (context) => {
    if (!isRoot) return context.skip('killing what runs in a container, from this host, needs root');
    const inside = new Inside(await runner.open({ policy: policyFor() }));
    const gateway = await gatewayOf(inside.run.sandbox.containerId);
    await transferring(inside);
    const { total } = servers;
    process.kill(gateway, 'SIGKILL');
    await inside.until('transfers', /ended[^]*ended[^]*ended[^]*begun[^]*begun[^]*begun/);
    await eventually('three transfers are under way again', () => servers.drips === 3);
    expect(servers.total).toBeGreaterThanOrEqual(total + 3);
    await eventually('the ends of the first three are on record', async () => (await inside.ended()).length >= 3);
    expect((await inside.ended()).map(({ result }) => result)).toEqual(['cut', 'cut', 'cut']);
    await inside.run.close();
  });

  test('a stream that breaks: the same', async () => {
    const { engine, cut } = cuttable(await DockerEngine.connect(), 'direct');
    const other = await Runner.create(engine, bench.dataDir, { network: servers.network() });
    const inside = new Inside(await other.open({ policy: policyFor() }));
    await transferring(inside);
    cut();
    await inside.until('transfers', /ended[^]*ended[^]*ended[^]*begun[^]*begun[^]*begun/);
    await eventually('three transfers are under way again', () => servers.drips === 3);
    await inside.run.close();
    await other.close();
    expect(servers.drips).toBe(0);
  });
});

/** The only process beside PID 1 in a sandbox that nothing runs in, as this host numbers it. */
async function gatewayOf(containerId: string): Promise<number> {
  const { Titles, Processes } = (await rawDocker('GET', `/containers/${containerId}/top`)) as {
    Titles: string[];
    Processes: string[][];
  };
  const [pid, parent] = [Titles.indexOf('PID'), Titles.indexOf('PPID')];
  const pids = new Set(Processes.map((row) => row[pid]));
  const found = Processes.filter((row) => pids.has(row[parent]));
  expect(found).toHaveLength(1);
  return Number(found[0]?.[pid]);
}

describe('a flood from one sandbox', () => {
  /** Milliseconds of 60 requests on one connection, sorted; all of them have to be answered. */
  const asking = (): string => `import http.client, json, time
c = http.client.HTTPConnection('plain.test', ${servers.port('http')}, timeout=20); took = []
for n in range(60):
    start = time.monotonic(); c.request('GET', '/small'); answer = c.getresponse(); answer.read()
    if answer.status == 200: took.append((time.monotonic() - start) * 1000)
print(json.dumps(sorted(took)))`;
  const flood = (): string => `unset http_proxy https_proxy\npython3 - <<'END'
import socket, threading
held = []
def connections(n):
    while True:
        try:
            s = socket.create_connection((('127.0.0.1', 3128), ('plain.test', ${servers.port('http')}), ('raw.test', ${servers.port('https')}))[n % 3], 5)
            s.sendall((b'GET / HTTP/1.1\\r\\nX: ', b'\\x16\\x03\\x01\\x40\\x00', b'CONNECT evil.test:1 HTTP/1.1\\r\\n\\r\\n')[n % 3] * 10); held.append(s)
        except OSError: pass
        if len(held) > 200: held.pop(0).close()
def names():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 53))
    for n in range(10 ** 9):
        label = b'%010d' % n
        try: s.send(b'\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\x0a' + label + b'\\4evil\\4test\\0\\0\\1\\0\\1')
        except OSError: pass
for n in range(6): threading.Thread(target=connections, args=(n,)).start()
print('flooding', flush=True)
names()
END`;

  async function answeredIn(victim: Inside, id: string): Promise<readonly number[]> {
    await victim.start(id, `unset http_proxy\npython3 - <<'END'\n${asking()}\nEND`);
    const text = await victim.until(id, 'Exit code 0');
    const took = JSON.parse(/\[[\d., ]+\]/.exec(text)?.[0] ?? '[]') as number[];
    expect(took).toHaveLength(60);
    return took;
  }

  /** The same 60 requests beside something that another sandbox does. */
  async function beside(attacker: Inside, script: string, begun: string, victim: Inside, id: string) {
    await attacker.start(id, script);
    await attacker.until(id, begun);
    const took = await answeredIn(victim, `beside-${id}`);
    await attacker.run.call(`end-${id}`, { tool: 'exec_kill', callId: id });
    return { median: took[30] ?? 0, most: took[58] ?? 0 };
  }

  test('of connections, halves of requests and names leaves another one its time', async () => {
    const [victim, attacker] = await Promise.all(
      [0, 1].map(async () => new Inside(await runner.open({ policy: policyFor() }))),
    );
    if (victim === undefined || attacker === undefined) throw new Error('two runs were opened');
    const [worked, flooded] = [[] as Took[], [] as Took[]];
    const best = (all: readonly Took[], of: keyof Took): number => Math.min(...all.map((one) => one[of]));
    // The tail of a moment is the scheduler's: of two processors, the flood has one.
    const holds = (): boolean =>
      best(flooded, 'median') < 2 * best(worked, 'median') + 5 && best(flooded, 'most') < 2 * best(worked, 'most') + 50;
    // In turns, and the best of each: what else this machine does meanwhile comes to both.
    for (let round = 0; round < 2 || (round < 4 && !holds()); round++) {
      worked.push(await beside(attacker, 'echo working; while :; do :; done', 'working', victim, `work${round}`));
      flooded.push(await beside(attacker, flood(), 'flooding', victim, `flood${round}`));
    }
    await Promise.all([victim.run.close(), attacker.run.close()]);
    expect(holds(), JSON.stringify({ worked, flooded })).toBe(true);
    expect((await attacker.entries()).length).toBeLessThan(5_000);
  });
});

/** Of 60 requests, in milliseconds. */
interface Took {
  readonly median: number;
  /** Of all but one. */
  readonly most: number;
}
