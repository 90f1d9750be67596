import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { Deadline } from '../../deadline.ts';
import { RunnerError } from '../../errors.ts';
import type { ContainerSpec, ContainerState, ImageFacts, Labels, VolumeFile } from '../engine.ts';
import { FakeStream } from './fake-stream.ts';

/** What outlives a runner: the containers, volumes and images of one stand-in engine. Several `FakeEngine`s may share it. */
export class FakeHost {
  readonly containers = new Map<string, FakeContainer>();
  readonly volumes = new Map<string, FakeVolume>();
  readonly images = new Map<string, ImageFacts>();

  /** Ends whatever still runs. */
  async close(): Promise<void> {
    for (const container of this.containers.values()) await container.kill();
    this.containers.clear();
    this.volumes.clear();
  }
}

export interface FakeVolume {
  readonly labels: Labels;
  readonly files: readonly VolumeFile[];
}

/**
 * A real process tree: PID 1 of its own pid, mount, network and ipc namespaces when we are root, in a root directory
 * that has the host's programs, the asked tmpfs and the volumes' files. It confines nothing: trusted programs only.
 */
export class FakeContainer {
  readonly id: string;
  readonly spec: ContainerSpec;
  readonly createdMs = Date.now();
  status: ContainerState['status'] = 'created';
  exitCode: number | undefined;
  readonly #clients = new Set<FakeStream>();
  readonly #directory = mkdtempSync(join(tmpdir(), 'glovebox-fake-'));
  #child: ChildProcessByStdio<Writable, Readable, Readable> | undefined;
  #stderr = '';

  constructor(id: string, spec: ContainerSpec) {
    this.id = id;
    this.spec = spec;
  }

  attach(): FakeStream {
    const stream = new FakeStream({
      write: (chunk, done) => this.#write(chunk, done),
      resume: () => this.#child?.stdout.resume(),
      leave: () => this.#clients.delete(stream),
      stderrTail: () => this.#stderr,
    });
    this.#clients.add(stream);
    return stream;
  }

  async start(volumes: ReadonlyMap<string, FakeVolume>): Promise<void> {
    for (const { name, target } of this.spec.volumes) {
      for (const file of volumes.get(name)?.files ?? []) this.#place(join(this.#directory, target, file.path), file);
    }
    const program = this.spec.argv[0] ?? '';
    if (!existsSync(join(this.#directory, program)) && !existsSync(program)) {
      const message = `Container ${this.spec.name} cannot be started: its PID 1, ${program}, is not there.`;
      throw new RunnerError('supervisor_missing', `${message} Build it (make supervisor).`);
    }
    const child = process.getuid?.() === 0 ? this.#spawnInNamespaces() : this.#spawnPlainly(program);
    this.#child = child;
    child.stdin.on('error', () => undefined); // its end is reported by `exit`
    child.stdout.on('data', (chunk: Buffer) => this.#broadcast(chunk));
    child.stderr.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString('utf8')).slice(-8192);
    });
    child.on('close', (code, signal) => this.#ended(code ?? (signal === null ? 255 : 137)));
    await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
    this.status = 'running';
  }

  async kill(): Promise<void> {
    const child = this.#child;
    for (const client of this.#clients) client.finish();
    this.#clients.clear();
    if (child !== undefined && this.status === 'running') {
      const ended = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGKILL');
      child.stdout.resume(); // what nobody reads would keep it from closing
      await Deadline.run(5_000, `kill ${this.spec.name}`, () => ended);
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #spawnInNamespaces(): ChildProcessByStdio<Writable, Readable, Readable> {
    const { spec } = this;
    const tmpfs = spec.tmpfs.flatMap((mount) => [
      mount.target,
      `size=${mount.sizeBytes},nr_inodes=${mount.inodesMax},uid=${mount.uid},gid=${mount.gid},mode=${mount.mode.toString(8)}`,
    ]);
    const namespaces = ['--mount', '--pid', '--net', '--ipc', '--uts', '--fork', '--kill-child=SIGKILL'];
    const ports = spec.lowPorts === true ? 'low' : '';
    const script = [
      '/bin/sh',
      '-euc',
      makeRoot,
      'fake',
      this.#directory,
      spec.workdir,
      ports,
      String(spec.tmpfs.length),
    ];
    const argv = [...namespaces, ...script, ...tmpfs, ...spec.env, ...spec.argv];
    const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
    return spawn('unshare', argv, { stdio: ['pipe', 'pipe', 'pipe'], env });
  }

  /** Without root there are no namespaces: the program as it is. */
  #spawnPlainly(program: string): ChildProcessByStdio<Writable, Readable, Readable> {
    const placed = join(this.#directory, program);
    const env = Object.fromEntries(this.spec.env.map((variable) => splitVariable(variable)));
    return spawn(existsSync(placed) ? placed : program, this.spec.argv.slice(1), {
      stdio: ['pipe', 'pipe', 'pipe'],
      env,
      cwd: this.#directory,
    });
  }

  #place(path: string, file: VolumeFile): void {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, file.bytes);
    chmodSync(path, file.mode);
  }

  #write(chunk: Buffer, done: (error?: Error | null) => void): void {
    if (this.#child === undefined || this.status !== 'running') done(new Error('the container does not run'));
    else this.#child.stdin.write(chunk, (error) => done(error));
  }

  /** Like an engine: everyone attached gets it, the slowest sets the pace, and with nobody there it is thrown away. */
  #broadcast(chunk: Buffer): void {
    let more = true;
    for (const client of this.#clients) more = client.push(chunk) && more;
    if (!more) this.#child?.stdout.pause();
  }

  #ended(code: number): void {
    this.status = 'exited';
    this.exitCode = code;
    for (const client of this.#clients) client.finish();
  }
}

/**
 * $1 root directory, $2 working directory, $3 `low` where anybody may listen on low ports, $4 number of tmpfs, then target and options of each, then the environment
 * and argv. Only ever given what a test's spec says.
 */
const makeRoot = `
root=$1 workdir=$2 ports=$3 mounts=$4; shift 4
mount --make-rprivate /
mount --bind "$root" "$root"
for name in usr bin sbin lib lib64 etc; do
  if [ -L "/$name" ]; then ln -s "$(readlink "/$name")" "$root/$name"
  elif [ -d "/$name" ]; then mkdir -p "$root/$name"; mount --rbind "/$name" "$root/$name"; fi
done
mkdir -p "$root/proc" "$root/dev" "$root/sys"
mount -t proc proc "$root/proc"
if [ "$ports" = low ]; then echo 0 > "$root/proc/sys/net/ipv4/ip_unprivileged_port_start"; fi
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
while [ "$mounts" -gt 0 ]; do
  mkdir -p "$root$1"; mount -t tmpfs -o "nosuid,nodev,$2" tmpfs "$root$1"; shift 2; mounts=$((mounts - 1))
done
mkdir -p "$root$workdir"
exec chroot "$root" /usr/bin/env -i -C "$workdir" "$@"
`;

function splitVariable(variable: string): readonly [string, string] {
  const equals = variable.indexOf('=');
  return [variable.slice(0, equals), variable.slice(equals + 1)];
}
