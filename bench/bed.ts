import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DockerEngine } from '../src/engine/docker/docker-engine.ts';
import type { Engine, Runtime } from '../src/engine/engine.ts';
import { newId } from '../src/ids.ts';
import { readAccepted, resolveImage } from '../src/images/accepted.ts';
import { DataDir } from '../src/data-dir/data-dir.ts';
import { defaultLimits } from '../src/sandbox/container-body.ts';
import { Sandbox } from '../src/sandbox/sandbox.ts';
import type { EgressBed } from './egress-bed.ts';
import type { DockerodePeer } from './peers.ts';
import type { LargeBed } from './workspace-bed.ts';

/** What a row measures with. */
export interface Bench {
  readonly bed: Bed;
  readonly peer: DockerodePeer;
  /** What several rows measure in: made for the first of them, and gone after the last row. */
  readonly large: Shared<LargeBed>;
  readonly egress: Shared<EgressBed>;
}

/** Made when it is first asked for. */
export class Shared<T extends { close(): Promise<void> }> {
  readonly #make: () => Promise<T>;
  #made: Promise<T> | undefined;

  constructor(make: () => Promise<T>) {
    this.#make = make;
  }

  get(): Promise<T> {
    return (this.#made ??= this.#make());
  }

  async close(): Promise<void> {
    await (await this.#made?.catch(() => undefined))?.close(); // who asked has heard why it could not be made
  }
}

/** Where sandboxes of the bench come from; everything it made is gone after `close`. */
export class Bed {
  readonly engine: Engine;
  readonly image: string;
  readonly #directory: string;
  readonly #open = new Set<Sandbox>();

  private constructor(engine: Engine, image: string, directory: string) {
    this.engine = engine;
    this.image = image;
    this.#directory = directory;
  }

  static async make(): Promise<Bed> {
    const engine = await DockerEngine.connect();
    const accepted = await readAccepted((await DataDir.open()).path);
    return new Bed(
      engine,
      await resolveImage(engine, accepted, 'base'),
      await mkdtemp(join(tmpdir(), 'glovebox-bench-')),
    );
  }

  async sandbox(runtime: Runtime = 'runc'): Promise<Sandbox> {
    const id = newId();
    const spec = {
      id,
      image: this.image,
      runtime,
      limits: defaultLimits,
      labels: { 'glovebox.bench': '1' },
    };
    const sandbox = await Sandbox.open(this.engine, spec, { directory: join(this.#directory, id) });
    this.#open.add(sandbox);
    return sandbox;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open].map((sandbox) => sandbox.close()));
    await rm(this.#directory, { recursive: true, force: true });
  }
}
