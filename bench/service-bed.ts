import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { DataDir } from '../src/data-dir/data-dir.ts';
import { LeanClient } from './lean-client.ts';

const program = fileURLToPath(new URL('../bin/glovebox.js', import.meta.url));

const policy = `apiVersion: glovebox/v1
kind: Policy
name: bench
images: [base]
files: { read: ["**"], write: ["**"] }
budget: { max_actions_per_run: 100000, max_parallel_actions: 64 }
`;

/** A service in a process of its own, as it is started by people, and clients that keep a connection each. */
export class ServiceBed {
  readonly #process: ChildProcess;
  readonly #directory: string;
  readonly #clients: LeanClient[] = [];

  private constructor(process: ChildProcess, directory: string) {
    this.#process = process;
    this.#directory = directory;
  }

  static async make(): Promise<ServiceBed> {
    const directory = await mkdtemp(join(tmpdir(), 'glovebox-bench-serve-'));
    await copyFile(join((await DataDir.open()).path, 'images.json'), join(directory, 'images.json'));
    const started = spawn(process.execPath, [program, 'serve', '--json', '--log-level', 'error', '--warm', '0'], {
      env: { ...process.env, GLOVEBOX_DATA: directory },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    if (started.stdout !== null) await once(createInterface(started.stdout), 'line');
    return new ServiceBed(started, directory);
  }

  /** Opens a run; each of the callers that it returns makes one echo in it, over HTTP, by a connection of its own. */
  async run(callers: number): Promise<readonly (() => Promise<void>)[]> {
    const clients = Array.from({ length: callers }, () => new LeanClient(join(this.#directory, 'service.sock')));
    this.#clients.push(...clients);
    const opened = await clients[0]?.ask('POST', '/v1/runs', { policy: { text: policy } });
    const { id } = (opened?.value ?? {}) as { id?: string };
    if (id === undefined) throw new Error(JSON.stringify(opened));
    const counter = { n: 0 };
    return clients.map((client) => async () => {
      const call = { tool: 'exec', argv: ['echo', 'hi'] };
      const { status, value } = await client.ask('PUT', `/v1/runs/${id}/calls/c${counter.n++}`, call);
      if (status >= 300 || !(value as { ok: boolean }).ok) throw new Error(JSON.stringify(value));
    });
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.close();
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGTERM');
    await ended;
    await rm(this.#directory, { recursive: true, force: true });
  }
}
