import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { GenericContainer } from 'testcontainers';
import type { Sandbox } from '../src/sandbox/sandbox.ts';
import type { Bench } from './bed.ts';
import { decideRow } from './decide-row.ts';
import { stateRow } from './state-row.ts';
import { egressLatency, egressTerminated, egressThroughput } from './egress-rows.ts';
import { fingerprint } from './fingerprint-row.ts';
import { fork } from './fork-row.ts';
import { inTurn, lessIsBetter, median, moreIsBetter, timed, type Row } from './measure.ts';
import { dockerCliEcho } from './peers.ts';
import { callsHttp64, callsHttp8, echoHttp } from './service-rows.ts';
import { warmOpen } from './warm-row.ts';
import { diff20, import50k, open50k } from './workspace-rows.ts';

/** Every row by its name; each measures ours and the peer's in the same minutes. */
export const rows: Readonly<Record<string, (bench: Bench) => Promise<readonly Row[]>>> = {
  'echo-in-process': echoInProcess,
  'echo-http': echoHttp,
  'calls-http-8': callsHttp8,
  'calls-http-64': callsHttp64,
  'cold-open': coldOpen,
  'warm-open': warmOpen,
  'out-1mb': outOneMegabyte,
  'read-1mb': readOneMegabyte,
  'write-1mb': writeOneMegabyte,
  'parallel-8': parallelEight,
  'idle-memory': idleMemory,
  'echo-gvisor': echoGvisor,
  fork,
  fingerprint,
  decide: decideRow,
  'state-commit': stateRow,
  'import-50k': import50k,
  'open-50k': open50k,
  'diff-20-of-50k': diff20,
  'egress-latency': egressLatency,
  'egress-throughput': egressThroughput,
  'egress-tls-terminated': egressTerminated,
};

const mebibyte = 1024 * 1024;

async function echoInProcess({ bed, peer }: Bench): Promise<readonly Row[]> {
  const sandbox = await bed.sandbox();
  const ours = echoIn(sandbox);
  const dockerode = await inTurn(400, ours, { rounds: 40, work: () => peer.exec(['echo', 'hi']) });
  const cli = await inTurn(100, ours, { rounds: 20, work: () => dockerCliEcho(peer.id) });
  process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true'; // its reaper image cannot be pulled everywhere; we remove the container ourselves
  const started = await new GenericContainer(bed.image)
    .withCommand(['sleep', 'infinity'])
    .withLabels({ 'glovebox.bench': '1' })
    .withNetworkMode(peer.network)
    .start();
  const testcontainers = await inTurn(100, ours, { rounds: 20, work: () => started.exec(['echo', 'hi']) });
  await started.stop();
  return [
    lessIsBetter('echo-in-process', 'ms', dockerode, 'dockerode exec', { bound: 1, ratio: 30 }),
    lessIsBetter('echo-in-process/docker-cli', 'ms', cli, 'docker exec', {}),
    lessIsBetter('echo-in-process/testcontainers', 'ms', testcontainers, 'testcontainers exec', {}),
  ];
}

async function coldOpen({ bed, peer }: Bench): Promise<readonly Row[]> {
  const closing: (() => Promise<unknown>)[] = [];
  const ours = async () => {
    const sandbox = await bed.sandbox();
    await echoIn(sandbox)();
    closing.push(() => sandbox.close());
  };
  const theirs = async () => {
    closing.push(await peer.cold());
  };
  const times = { ours: [] as number[], peer: [] as number[] };
  await ours();
  for (let n = 0; n < 12; n++) {
    times.ours.push(await timed(ours));
    times.peer.push(await timed(theirs));
    for (const close of closing.splice(0)) await close();
  }
  return [
    lessIsBetter(
      'cold-open',
      'ms',
      { ours: median(times.ours), peer: median(times.peer) },
      'dockerode create + start + exec, bridge',
      { ratio: 1.5 },
    ),
  ];
}

async function outOneMegabyte({ bed, peer }: Bench): Promise<readonly Row[]> {
  const sandbox = await bed.sandbox();
  const argv: [string, ...string[]] = ['head', '-c', `${mebibyte}`, '/dev/zero'];
  const run = command(sandbox, argv);
  const measured = await inTurn(60, run, { rounds: 20, work: () => peer.exec(argv) });
  return [lessIsBetter('out-1mb', 'ms', measured, 'dockerode exec', { bound: 5 })];
}

async function readOneMegabyte({ bed, peer }: Bench): Promise<readonly Row[]> {
  const sandbox = await bed.sandbox();
  await sandbox.files.write('/tmp/one', Buffer.alloc(mebibyte, 7));
  await peer.write('one', Buffer.alloc(mebibyte, 7));
  const measured = await inTurn(60, () => sandbox.files.read('/tmp/one'), { rounds: 20, work: () => peer.read('one') });
  return [lessIsBetter('read-1mb', 'ms', measured, 'dockerode getArchive', { bound: 5 })];
}

async function writeOneMegabyte({ bed, peer }: Bench): Promise<readonly Row[]> {
  const sandbox = await bed.sandbox();
  const bytes = Buffer.alloc(mebibyte, 7);
  const measured = await inTurn(60, () => sandbox.files.write('/tmp/one', bytes), {
    rounds: 20,
    work: () => peer.write('one', bytes),
  });
  return [lessIsBetter('write-1mb', 'ms', measured, 'dockerode putArchive', { bound: 5 })];
}

async function parallelEight({ bed, peer }: Bench): Promise<readonly Row[]> {
  const sandbox = await bed.sandbox();
  await perSecond(8, 5, echoIn(sandbox));
  const ours = [await perSecond(8, 60, echoIn(sandbox))];
  const theirs = [await perSecond(8, 4, () => peer.exec(['echo', 'hi']))];
  ours.push(await perSecond(8, 60, echoIn(sandbox)));
  theirs.push(await perSecond(8, 4, () => peer.exec(['echo', 'hi'])));
  return [
    moreIsBetter('parallel-8', 'calls/s', { ours: median(ours), peer: median(theirs) }, 'dockerode exec', {
      ratio: 30,
    }),
  ];
}

/** What a sandbox that does nothing costs: our heap and buffers here, and the supervisor's own pages there. */
async function idleMemory({ bed }: Bench): Promise<readonly Row[]> {
  const many = 16;
  await bed.sandbox(); // what the first one loads is not its own
  const before = await settledBytes();
  const sandboxes: Sandbox[] = [];
  for (let n = 0; n < many; n++) sandboxes.push(await bed.sandbox());
  const runner = ((await settledBytes()) - before) / many;
  const supervisors = await Promise.all(sandboxes.map((sandbox) => supervisorBytes(sandbox)));
  await Promise.all(sandboxes.map((sandbox) => sandbox.close()));
  const rowOf = (name: string, ours: number) => lessIsBetter(name, 'bytes', { ours, peer: null }, null, {});
  return [
    rowOf('idle-memory', runner + median(supervisors)),
    rowOf('idle-memory/runner', runner),
    rowOf('idle-memory/supervisor', median(supervisors)),
  ];
}

async function echoGvisor({ bed, peer }: Bench): Promise<readonly Row[]> {
  if (!(await bed.engine.describe()).enforces.gvisor) return [];
  const sandbox = await bed.sandbox('runsc');
  const measured = await inTurn(60, echoIn(sandbox), { rounds: 10, work: () => peer.exec(['echo', 'hi']) });
  return [lessIsBetter('echo-gvisor', 'ms', measured, 'dockerode exec (runc)', {})];
}

function echoIn(sandbox: Sandbox): () => Promise<void> {
  return command(sandbox, ['echo', 'hi']);
}

function command(sandbox: Sandbox, argv: [string, ...string[]]): () => Promise<void> {
  const label = Math.random().toString(36).slice(2);
  const counter = { n: 0 };
  return async () => {
    const call = await sandbox.start(`${label}-${counter.n++}`, { command: { kind: 'argv', argv } });
    const end = await call.ended;
    if (end.outcome.kind !== 'exited' || end.outcome.code !== 0) throw new Error(JSON.stringify(end.outcome));
    await call.output.read(0, 4096);
  };
}

async function perSecond(parallel: number, each: number, work: () => Promise<unknown>): Promise<number> {
  const ms = await timed(() =>
    Promise.all(
      Array.from({ length: parallel }, async () => {
        for (let n = 0; n < each; n++) await work();
      }),
    ),
  );
  return (parallel * each * 1000) / ms;
}

async function settledBytes(): Promise<number> {
  for (let n = 0; n < 3; n++) {
    globalThis.gc?.();
    await sleep(100);
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Private pages of PID 1, from the host. */
async function supervisorBytes(sandbox: Sandbox): Promise<number> {
  const { execa } = await import('execa');
  const { stdout } = await execa('docker', ['inspect', '--format', '{{.State.Pid}}', sandbox.containerId]);
  const rollup = await readFile(`/proc/${stdout}/smaps_rollup`, 'utf8');
  return [...rollup.matchAll(/^Private_\w+:\s+(\d+) kB/gm)].reduce((sum, match) => sum + Number(match[1]) * 1024, 0);
}
