import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { DataDir } from './data-dir/data-dir.ts';
import { canonicalJson, digestOf } from './digest.ts';
import type { Engine } from './engine/engine.ts';
import { messageOf } from './errors.ts';
import { newId } from './ids.ts';
import { thisProcess } from './process-identity.ts';
import { Layer } from './workspace/layer/layer.ts';

/** Whether overlays of bounded layers work here: asked of the engine once for each boot, by trying. */
export class OverlayTrial {
  readonly #engine: Engine;
  readonly #dataDir: DataDir;
  #trial: Promise<Trial> | undefined;

  constructor(engine: Engine, dataDir: DataDir) {
    this.#engine = engine;
    this.#dataDir = dataDir;
  }

  async works(image: string): Promise<Trial> {
    this.#trial ??= this.#tryOnce(image);
    return this.#trial;
  }

  /** A trial makes a container; what it found holds until this machine or the engine starts anew. */
  async #tryOnce(image: string): Promise<Trial> {
    const facts = await this.#engine.describe();
    if (process.getuid?.() !== 0) return { works: false, detail: 'only root can mount a bounded layer' };
    if (!facts.local || facts.rootless)
      return { works: false, detail: 'the engine is not one of this machine and root' };
    const { version, kernel, endpoint } = facts;
    const about = digestOf(canonicalJson({ version, kernel, endpoint, boot: thisProcess().bootId }));
    const file = join(this.#dataDir.path, 'overlay.json');
    const known = Known.safeParse(parsed(await readFile(file, 'utf8').catch(() => '')));
    if (known.success && known.data.about === about) return known.data.trial;
    const trial = await this.#try(image);
    await writeFile(file, JSON.stringify({ about, trial }), { mode: 0o600 }).catch(() => undefined); // tried again next time
    return trial;
  }

  async #try(image: string): Promise<Trial> {
    const directory = join(this.#dataDir.basesDir, `.trial-${newId()}`);
    try {
      await mkdir(directory, { mode: 0o700 });
      await Layer.make(join(directory, 'layer'), { bytes: 1024 * 1024, inodes: 64 }, { owner: 'root', mode: 0o755 });
      return await this.#engine.tryVolume('overlay', image);
    } catch (error) {
      return { works: false, detail: messageOf(error) };
    } finally {
      await Layer.remove(join(directory, 'layer'));
      await rm(directory, { recursive: true, force: true });
    }
  }
}

const Trial = z.strictObject({ works: z.boolean(), detail: z.string() });
export type Trial = Readonly<z.infer<typeof Trial>>;
const Known = z.strictObject({ about: z.string(), trial: Trial });

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
