import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { DataDir } from '../src/data-dir/data-dir.ts';

const program = fileURLToPath(new URL('../bin/glovebox.js', import.meta.url));

const policy = `apiVersion: glovebox/v1
kind: Policy
name: bench
images: [base]
files: { read: ["**"], write: ["**"] }
budget: { max_actions_per_run: 100000, max_parallel_actions: 64 }
`;

/** A service in a process of its own, as it is started by people, and a client that keeps its connections. */
export class ServiceBed {
  readonly #process: ChildProcess;
  readonly #directory: string;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 128 });

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

  /** Opens a run; what it returns is one echo in it, over HTTP. */
  async run(): Promise<() => Promise<void>> {
    const { id } = (await this.#ask('POST', '/v1/runs', { policy: { text: policy } })) as { id: string };
    const counter = { n: 0 };
    return async () => {
      const call = { tool: 'exec', argv: ['echo', 'hi'] };
      const result = (await this.#ask('PUT', `/v1/runs/${id}/calls/c${counter.n++}`, call)) as { ok: boolean };
      if (!result.ok) throw new Error(JSON.stringify(result));
    };
  }

  async close(): Promise<void> {
    this.#agent.destroy();
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGTERM');
    await ended;
    await rm(this.#directory, { recursive: true, force: true });
  }

  #ask(method: string, path: string, body: unknown): Promise<unknown> {
    const text = JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const asked = request(
        {
          socketPath: join(this.#directory, 'service.sock'),
          agent: this.#agent,
          method,
          path,
          headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
        },
        (answer) => {
          const parts: Buffer[] = [];
          answer.on('data', (part: Buffer) => parts.push(part));
          answer.on('end', () => {
            const value: unknown = JSON.parse(Buffer.concat(parts).toString());
            if ((answer.statusCode ?? 500) < 300) resolve(value);
            else reject(new Error(JSON.stringify(value)));
          });
          answer.on('error', reject);
        },
      );
      asked.on('error', reject);
      asked.end(text);
    });
  }
}
