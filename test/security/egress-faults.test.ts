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
