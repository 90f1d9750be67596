import { fork, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { DataDir } from '../src/data-dir/data-dir.ts';
import { Network } from '../src/egress/outside/network.ts';
import { parsePolicy } from '../src/policy/policy.ts';
import { Runner, type Run } from '../src/runner.ts';
import type { Bed } from './bed.ts';

const squid = '/usr/sbin/squid';
const client = readFileSync(new URL('egress-client.py', import.meta.url), 'utf8');

/** Servers in a process of their own, a run that may reach them, and Squid beside it where it is installed. */
export class EgressBed {
  readonly run: Run;
  /** Of the server on the host's loopback; `httpsPort` answers as `looked.test` and `passed.test`. */
  readonly httpPort: number;
  readonly httpsPort: number;
  /** `host:port`; undefined where Squid is not installed. */
  readonly proxy: string | undefined;
  readonly #folder: string;
  readonly #runner: Runner;
  readonly #children: readonly ChildProcess[];

  private constructor(parts: { run: Run; ports: readonly number[]; proxy: string | undefined } & Made) {
    this.run = parts.run;
    [this.httpPort = 0, this.httpsPort = 0] = parts.ports;
    this.proxy = parts.proxy;
    this.#folder = parts.folder;
    this.#runner = parts.runner;
    this.#children = parts.children;
  }

  static async make(bed: Bed): Promise<EgressBed> {
    const folder = await mkdtemp(join(tmpdir(), 'glovebox-bench-'));
    const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')];
    const names = ['looked.test', 'passed.test', 'plain.test'];
    const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
    const alternatives = `subjectAltName=${names.map((name) => `DNS:${name}`).join(',')},IP:127.0.0.1`;
    const files = ['-keyout', key, '-out', certificate, '-subj', '/CN=bench', '-addext', alternatives];
    await execa('openssl', ['req', ...kind, ...files]);
    const server = fork(new URL('egress-server.ts', import.meta.url), [key, certificate]);
    const [ports] = (await once(server, 'message')) as [number[]];
    const beside = await startSquid(folder);
    const network = new Network({
      hosts: Object.fromEntries(names.map((name) => [name, ['127.0.0.1']])),
      ca: [readFileSync(certificate, 'utf8')],
    });
    const runner = await Runner.create(bed.engine, await DataDir.open(join(folder, 'data')), { network });
    const run = await runner.open({ policy: parsePolicy(policyText(bed.image, ports), 'bench') });
    const children = [server, ...(beside === undefined ? [] : [beside.child])];
    return new EgressBed({ run, ports, proxy: beside?.address, folder, runner, children });
  }

  /** What the client measures inside, as the tools of a run do: it knows of no proxy and goes by name. */
  async inside(url: string, what: 'latency' | 'rate', count: number): Promise<number> {
    const env = { http_proxy: '', https_proxy: '', HTTP_PROXY: '', HTTPS_PROXY: '' };
    const callId = `m${(measured += 1)}`;
    const argv: [string, ...string[]] = ['python3', '-c', client, url, what, String(count)];
    const { text, ok } = await this.run.call(callId, { tool: 'exec', argv, env, yieldMs: 120_000 });
    if (!ok) throw new Error(text);
    return numberIn(text);
  }

  /** The same client on the host. */
  async outside(url: string, what: 'latency' | 'rate', count: number, proxy?: string): Promise<number> {
    const argv = ['-c', client, url, what, String(count), ...(proxy === undefined ? [] : [proxy])];
    return numberIn((await execa('python3', argv)).stdout);
  }

  async close(): Promise<void> {
    await this.run.close();
    await this.#runner.close();
    for (const child of this.#children) child.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

interface Made {
  readonly folder: string;
  readonly runner: Runner;
  readonly children: readonly ChildProcess[];
}

let measured = 0;

function numberIn(text: string): number {
  const found = /^[\d.]+$/m.exec(text)?.[0];
  if (found === undefined) throw new Error(`the client says: ${text}`);
  return Number(found);
}

/** A forward proxy that decides by port and logs each request, and keeps nothing. */
async function startSquid(folder: string): Promise<{ child: ChildProcess; address: string } | undefined> {
  if (!existsSync(squid)) return undefined;
  const port = await freePort();
  const logs = join(folder, 'squid');
  mkdirSync(logs);
  chmodSync(folder, 0o755);
  chmodSync(logs, 0o777); // it gives up root
  const settings = [
    `http_port 127.0.0.1:${port}`,
    'acl ports port 1024-65535',
    'http_access allow ports',
    'http_access deny all',
    'cache deny all',
    'cache_mem 8 MB',
    `access_log stdio:${join(logs, 'access.log')}`,
    `cache_log ${join(logs, 'cache.log')}`,
    `pid_filename ${join(logs, 'squid.pid')}`,
    'shutdown_lifetime 0 seconds',
    'visible_hostname bench.test',
  ];
  const file = join(folder, 'squid.conf');
  writeFileSync(file, `${settings.join('\n')}\n`);
  const child = spawn(squid, ['-N', '-n', `bench${port}`, '-f', file], { stdio: 'ignore' });
  for (let n = 0; n < 100; n++) {
    if (await answers(port)) return { child, address: `127.0.0.1:${port}` };
    await sleep(100);
  }
  child.kill('SIGKILL');
  throw new Error('squid did not start');
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

function policyText(image: string, [http = 0, https = 0]: readonly number[]): string {
  const own = 'addresses: [127.0.0.0/8], max_requests: 1000000, max_received: 100GiB';
  return `apiVersion: glovebox/v1
kind: Policy
name: bench
images: ["${image}"]
files: { read: ["**"], write: ["**"] }
budget: { max_actions_per_run: 1000 }
egress:
  use: [web]
  profiles:
    web:
      - { id: plain, host: [plain.test], ports: [${http}], tls: none, methods: [GET], ${own} }
      - { id: looked, host: [looked.test], ports: [${https}], methods: [GET], ${own} }
      - { id: passed, host: [passed.test], ports: [${https}], tls: pass_through, addresses: [127.0.0.0/8], max_received: 100GiB }
`;
}
