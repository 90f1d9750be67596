import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { labelKeys } from '../src/engine/labels.ts';
import { removeEnvironment } from '../src/environment/build.ts';
import { listEnvironmentLocks } from '../src/environment/lock.ts';
import { findRecord } from '../src/environment/record.ts';
import { newId } from '../src/ids.ts';
import { checkJournal } from '../src/journal/check.ts';
import type { Entry } from '../src/journal/entry.ts';
import { readEntries } from '../src/journal/read.ts';
import { parseChain, parsePolicy, policyFor, type LoadedPolicy } from '../src/policy/policy.ts';
import { Runner, type Run } from '../src/runner.ts';
import { Bench } from './fixtures/bench.ts';
import { Packages } from './fixtures/packages.ts';
import { here, Servers } from './fixtures/servers.ts';
import { importSetupImage } from './fixtures/tiny-image.ts';

/** npm, pip and apt as they are, in a real setup container: what they read, what they are refused, what stays behind. */
const secret = 'tok-Z9y8X7w6V5u4T3s2';
const variable = 'GLOVEBOX_TEST_NPM_TOKEN';
const smallImage = `glovebox-test/setup-${newId()}:1`;

let bench: Bench;
let packages: Packages;
let runner: Runner;
let small: string;

beforeAll(async () => {
  [bench, packages] = await Promise.all([Bench.make(), Packages.open()]);
  small = await importSetupImage(bench.engine, smallImage, ['bash']);
  process.env[variable] = secret;
  runner = await Runner.create(bench.engine, bench.dataDir, { network: packages.network() });
});

afterAll(async () => {
  Reflect.deleteProperty(process.env, variable);
  const { path } = bench.dataDir;
  for (const lock of await listEnvironmentLocks(path)) await removeEnvironment(bench.engine, path, lock);
  await bench.engine.removeImage(smallImage);
  await runner.close();
  await bench.close();
  await packages.close();
});

function policyWith(image: string, setup: readonly (readonly string[])[], more = ''): LoadedPolicy {
  const own = 'addresses: ["127.0.0.0/8"]';
  const text = `apiVersion: glovebox/v1
kind: Policy
name: dependencies
images: ["${image}"]
files: { read: ["**"], write: ["src/**"], scratch: ["node_modules/**"] }
environment:
  image: "${image}"
  setup: ${JSON.stringify(setup)}
  files: ["package*.json", "requirements.txt", "archive.gpg"]
  egress: [registry_read]
egress:
  profiles:
    registry_read:
      - { id: npm, registry: npm, credential: npm_token, ${own} }
      - { id: pypi, registry: pypi, ${own} }
      - { id: debian, registry: debian, ${own} }
  ${more}
credentials:
  npm_token: { source: "env:${variable}", host: npm.test, path: ["/**"] }
`;
  return policyFor(parseChain([{ text, source: 'dependencies.yaml' }]), {}, { registries: packages.registries });
}

const sh = (script: string): readonly string[] => ['sh', '-c', script];

async function build(
  policy: LoadedPolicy,
  workspace?: string,
  lines: string[] = [],
  options: { network?: boolean } = {},
) {
  return runner.buildEnvironment(policy.policy, workspace, { ...options, onProgress: (line) => void lines.push(line) });
}

async function recordOf(name: string): Promise<{ readonly path: string; readonly entries: readonly Entry[] }> {
  const path = await findRecord(bench.dataDir.path, name);
  const entries: Entry[] = [];
  for await (const entry of readEntries(path ?? 'none')) entries.push(entry);
  return { path: path ?? 'none', entries };
}

let calls = 0;
async function text(run: Run, script: string): Promise<string> {
  return (await run.call(`c${calls++}`, { tool: 'exec', script })).text;
}

/** Which of these are anywhere in it. */
async function foundIn(stream: Readable, needles: readonly string[]): Promise<readonly string[]> {
  const found = new Set<string>();
  const longest = Math.max(...needles.map((needle) => needle.length));
  let rest = Buffer.alloc(0);
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    const bytes = Buffer.concat([rest, chunk]);
    for (const needle of needles) if (bytes.includes(needle)) found.add(needle);
    rest = Buffer.from(bytes.subarray(Math.max(0, bytes.length - longest)));
  }
  return [...found];
}

test('npm ci and apt-get install get what the policy names, with a credential they never see; nothing of the way out is left', async () => {
  const entry = { version: '1.0.0', integrity: packages.integrity };
  const lockfile = { name: 'n', lockfileVersion: 3, packages: { '': { dependencies: { '@acme/left': '1.0.0' } } } };
  const workspace = await bench.workspace({
    'package.json': JSON.stringify({ name: 'n', dependencies: { '@acme/left': '1.0.0' } }),
    'package-lock.json': JSON.stringify({
      ...lockfile,
      packages: { ...lockfile.packages, 'node_modules/@acme/left': entry },
    }),
  });
  await writeFile(join(workspace, 'archive.gpg'), packages.keyring);
  const setup = [
    sh('tail -n 3 /run/glovebox/ca.pem | head -n 1; echo "stands for it: $GLOVEBOX_CREDENTIAL_NPM_TOKEN"'),
    ['cp', 'archive.gpg', '/usr/share/keyrings/debian-archive-keyring.gpg'],
    ['apt-get', 'update'],
    ['apt-get', 'install', '-y', '--no-install-recommends', 'middle'],
    ['npm', 'ci', '--no-audit'],
  ];
  const policy = policyWith('node', setup);
  const lines: string[] = [];
  const { lock } = await build(policy, workspace, lines);
  const { port } = packages;
  const apt = new URL(packages.registries.debian[0]?.url ?? '').host;
  expect(lock).toMatchObject({
    network: false,
    base: { reference: 'node' },
    packages: {
      debian: expect.arrayContaining([expect.stringMatching(/^git=/), expect.stringMatching(/^middle=/)]) as string[],
    },
    egress: { profiles: ['registry_read'], reached: [apt, `npm.test:${port}`], refused: 0 },
  });
  expect(packages.arrived).toContain('GET npm.test /@acme/left/-/left-1.0.0.tgz');
  expect(packages.arrived).toContain('GET apt.test /debian/pool/middle.deb');
  expect(new Set(packages.authorized)).toEqual(new Set([`Bearer ${secret}`]));

  const { path, entries } = await recordOf(lock.name);
  expect((await checkJournal(path)).verdict).toBe('closed');
  expect(entries.at(-1)).toMatchObject({ type: 'run.closed', data: { outcome: 'finished' } });
  const decided = entries.filter(({ type }) => type === 'egress.decided').map(({ data }) => data);
  expect(decided).toContainEqual(
    expect.objectContaining({ callId: 'setup', host: 'npm.test', rule: 'npm', decision: 'allowed', method: 'GET' }),
  );

  const authority = lines[lines.findIndex((line) => line.startsWith('+ sh -c tail')) + 1] ?? '';
  const [, placeholder = ''] = /^stands for it: (\S{20,})$/m.exec(lines.join('\n')) ?? [];
  expect(authority).toMatch(/^[A-Za-z0-9+/]{20,}/);
  const needles = [secret, placeholder, authority, 'Acquire::https::CaInfo', '127.0.0.1:3128', 'apt.test', 'npm.test'];
  const installed = 'middle of acme'; // what is searched holds what was installed
  expect(await foundIn(await bench.engine.saveImage(lock.id), [...needles, installed])).toEqual([installed]);

  const run = await runner.open({ policy, workspace });
  expect(await text(run, `middle; node -p "require('@acme/left')"; env | grep -c -i -e proxy -e CREDENTIAL`)).toMatch(
    /^middle of acme\nleft of acme\n0\n/,
  );
  // What looks for authorities in the system's place alone finds the image's there, and in a run with a fence its own too.
  const count = 'grep -c BEGIN /etc/ssl/certs/ca-certificates.crt';
  const ofImage = Number.parseInt(await text(run, count), 10);
  expect(ofImage).toBeGreaterThan(50);
  await run.close();
  const letOut = await runner.open({ policy: policyWith('node', setup, 'use: [registry_read]'), workspace });
  expect(Number.parseInt(await text(letOut, count), 10)).toBe(ofImage + 1);
  const fetch = `import urllib.request; print(urllib.request.urlopen('https://npm.test:${port}/@acme%2fleft').status)`;
  expect(await text(letOut, `env -i python3 -c "${fetch}"`)).toMatch(/^200\n/);
  await letOut.close();
  const shown = await bench.cliHere(['egress', lock.name]);
  expect(shown.stdout).toMatch(/setup +allowed +GET +npm\.test:\d+ +\/@acme\/left\/-\/left-1\.0\.0\.tgz +200/);
  const [listed] = JSON.parse((await bench.cliHere(['env', 'ls', '--json'])).stdout) as { egress: unknown }[];
  expect(listed?.egress).toEqual(lock.egress);
}, 120_000);

test('pip installs what the policy names; another host is refused, told at once and in the end, and never hears of it', async () => {
  const workspace = await bench.workspace({
    'requirements.txt': `right==1.0.0 --hash=sha256:${packages.wheel.sha256}\n`,
  });
  const ask = `import right, urllib.request, urllib.error
print(right.said)
for url in ('https://git.test:${packages.port}/acme/web.git/HEAD', 'https://pypi.test:${packages.port}/simple/right/'):
    try:
        print(urllib.request.urlopen(urllib.request.Request(url, method='POST' if 'pypi' in url else 'GET')).status)
    except urllib.error.HTTPError as error:
        print(error.code, error.headers['glovebox-egress'])
    except OSError as error:
        print('cut', error)
raise SystemExit(7)`;
  const policy = policyWith('python', [
    ['pip', 'install', '--require-hashes', '-r', 'requirements.txt'],
    ['python3', '-c', ask],
  ]);
  const lines: string[] = [];
  const failing = build(policy, workspace, lines);
  await expect(failing).rejects.toMatchObject({
    code: 'engine_failed',
    message: expect.stringMatching(
      /exit code 7; of the network it did not get:\n  denied: git\.test[^]*denied: POST pypi\.test[^]*its last lines:\n[^]*right of acme/,
    ),
  });
  expect(lines).toContain('right of acme');
  expect(lines.filter((line) => line.startsWith('refused: ')).join('\n')).toMatch(
    /git\.test[^]*POST https:\/\/pypi\.test:\d+\/simple\/right\//,
  );
  expect(packages.arrived).toContain(`GET pypi.test /files/${packages.wheel.name}`);
  expect(packages.arrived.filter((one) => one.includes('git.test') || one.startsWith('POST'))).toEqual([]);

  const { name } = await runner.findEnvironment(policy.policy, workspace);
  const { path, entries } = await recordOf(name);
  expect((await checkJournal(path)).verdict).toBe('closed');
  const denied = entries.flatMap((one) =>
    one.type === 'egress.decided' && one.data.decision === 'denied' ? [one.data] : [],
  );
  expect(denied).toContainEqual(expect.objectContaining({ host: 'git.test', callId: 'setup' }));
  expect(denied).toContainEqual(expect.objectContaining({ host: 'pypi.test', method: 'POST' }));
  expect(entries.at(-1)).toMatchObject({ type: 'run.closed', data: { outcome: 'failed' } });
  expect((await listEnvironmentLocks(bench.dataDir.path)).map((lock) => lock.name)).not.toContain(name);
  expect(await bench.containers()).toEqual([]);
});

describe('the way out of setup', () => {
  test('is loopback alone, and nothing of whoever carries it can be seen or signalled by root of the setup', async () => {
    const look = 'ls /sys/class/net; cat /etc/resolv.conf; echo /proc/[0-9]*; id -u; tail -n +2 /proc/net/route';
    const lines: string[] = [];
    const { lock } = await build(policyWith(small, [sh(`${look}; exit 0`)]), undefined, lines);
    const said = lines.slice(lines.findIndex((line) => line.startsWith('+ ')) + 1);
    expect(said[0]).toBe('lo');
    expect(said).toContain('nameserver 127.0.0.1');
    const processes = said.find((line) => line.startsWith('/proc/')) ?? '';
    expect(processes.split(' ').length).toBeLessThan(4); // of setup itself: its PID 1 is the script
    expect(said.indexOf('packing the image')).toBe(said.indexOf('0') + 1); // no route
    expect(lock.egress).toMatchObject({ reached: [], refused: 0 });
  });

  test('is not opened beside a network of the operator', async () => {
    const policy = policyWith(small, [['true']]);
    await expect(build(policy, undefined, [], { network: true })).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringMatching(/environment\.egress: registry_read.*--setup-network/),
    });
  });

  test('ends setup when it is lost, and leaves nothing', async () => {
    const lines: string[] = [];
    const policy = policyWith(small, [sh('echo begun; sleep 60')]);
    const building = runner.buildEnvironment(policy.policy, undefined, {
      onProgress: (line) => {
        lines.push(line);
        if (line === 'begun') void loseSandbox();
      },
    });
    await expect(building).rejects.toMatchObject({ code: 'sandbox_lost' });
    expect(await bench.containers()).toEqual([]);
    const { name } = await runner.findEnvironment(policy.policy, undefined);
    expect((await recordOf(name)).entries.at(-1)).toMatchObject({ type: 'run.closed', data: { outcome: 'failed' } });
  });

  test('lets nothing through once its record cannot be written, and what was set up is not kept', async (context) => {
    if (process.getuid?.() !== 0) return context.skip('a data directory of a size of its own needs root');
    const [own, servers] = await Promise.all([
      Bench.make({ dataDirBytes: 128 * 1024 * 1024 }),
      Servers.open({ names: here('plain.test') }),
    ]);
    const other = await Runner.create(own.engine, own.dataDir, { network: servers.network() });
    const place = `plain.test:${servers.port('http')}`;
    const ask = `exec 3<>/dev/tcp/127.0.0.1/3128; printf 'GET http://${place}/ HTTP/1.1\\r\\nHost: ${place}\\r\\nConnection: close\\r\\n\\r\\n' >&3; head -n 1 <&3`;
    const setup = `ask() { (${ask}) 2>&1; }; ask; while ask | grep -q 200; do :; done; echo refused; sleep 2; echo "then $(ask)"`;
    const policy = parsePolicy(cliPolicy(servers.port('http'), ['bash', '-c', setup]), 'test policy');
    const lines: string[] = [];
    let arrived = 0;
    try {
      const onProgress = (line: string): void => {
        lines.push(line);
        if (/ 200 /.test(line)) void own.fillDataDir();
        // There is room again before setup says that all is well.
        if (line === 'refused')
          void rm(join(own.dataDir.path, 'filler')).then(() => (arrived = servers.arrived.length));
      };
      await expect(other.buildEnvironment(policy.policy, undefined, { onProgress })).rejects.toThrow(
        /writing the journal [^]*disk full/,
      );
      expect(lines.find((line) => line.startsWith('then '))).toMatch(/then HTTP\/1\.1 403/);
      expect(servers.arrived).toHaveLength(arrived);
      expect(arrived).toBeGreaterThan(0);
      expect(await listEnvironmentLocks(own.dataDir.path)).toEqual([]);
      expect(await own.containers()).toEqual([]);
    } finally {
      await other.close();
      await Promise.all([own.close(), servers.close()]);
    }
  });

  test('is closed when whoever builds is interrupted; nothing is left but the record', async () => {
    const policy = join(bench.folder, 'interrupted.yaml');
    await writeFile(policy, cliPolicy());
    const building = bench.cli(['env', 'build', '-p', policy]);
    building.stderr.on('data', (bytes: Buffer) => {
      if (bytes.toString().includes('begun\n')) building.kill('SIGTERM');
    });
    const { exitCode, stderr } = await building;
    expect(exitCode).toBe(143);
    expect(stderr).toContain('interrupted, closing the build');
    expect(await bench.containers()).toEqual([]);
    const [, name = ''] = /setting up (env-\S+)/.exec(stderr) ?? [];
    expect((await recordOf(name)).entries.at(-1)).toMatchObject({ type: 'run.closed', data: { outcome: 'failed' } });
  });

  test('of a build that was killed is found and closed, with its record', async () => {
    const own = await Bench.make();
    try {
      const policy = join(own.folder, 'policy.yaml');
      await writeFile(policy, cliPolicy());
      const building = own.cli(['env', 'build', '-p', policy]);
      await new Promise<void>((resolve) => {
        building.stderr.on('data', (bytes: Buffer) => {
          if (bytes.toString().includes('begun\n')) resolve();
        });
      });
      building.kill('SIGKILL');
      await building;
      expect(await own.containers()).toHaveLength(2);
      const gone = await own.cliHere(['gc']);
      expect(gone.stdout).toMatch(/removed container glovebox-setup-[^]*closed the record of a build of env-/);
      expect(await own.containers()).toEqual([]);
      expect((await own.cliHere(['gc'])).stdout).toBe('nothing left behind');
      const [, name = ''] = /a build of (env-[0-9a-f]{16})\./.exec(gone.stdout) ?? [];
      expect((await own.cliHere(['egress', name])).stdout).toBe('nothing was asked of the network');
    } finally {
      await own.close();
    }
  });
});

function cliPolicy(port = 443, setup: readonly string[] = ['sh', '-c', 'echo begun; sleep 60']): string {
  return `apiVersion: glovebox/v1
kind: Policy
name: cli
images: ["${small}"]
files: { read: ["**"], write: [] }
environment: { image: "${small}", setup: [${JSON.stringify(setup)}], egress: [web] }
egress:
  profiles:
    web:
      - { id: web, host: [a.test] }
      - { id: plain, host: [plain.test], ports: [${port}], tls: none, addresses: ["127.0.0.0/8"], max_requests: 1000000 }
`;
}

/** As somebody with the engine at hand would. */
async function loseSandbox(): Promise<void> {
  const found = await bench.engine.list({ [labelKeys.owner]: bench.dataDir.owner });
  for (const { id, name } of found) if (!name.startsWith('glovebox-setup-')) await bench.engine.destroy(id);
}
