import { access, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { writeWhole } from '../data-dir/write-whole.ts';
import { Deadline } from '../deadline.ts';
import { canonicalJson } from '../digest.ts';
import { Section } from './fingerprint.ts';
import type { Installed } from './installed.ts';

const Remembered = z.strictObject({
  v: z.literal(1),
  image: z.string(),
  runtime: z.string(),
  packages: Section,
  system_files: Section,
  tools: Section,
  users: Section,
  locales: z.string(),
  localtime: z.string(),
});

const imagesMax = 32;
const lookWithinMs = 45_000;
/** For the look of somebody else: what is in their sandbox may make it slow, or break it. */
const othersWithinMs = 5_000;

/**
 * What images have installed, looked at once for each and runtime: the root of a sandbox is read-only, which every reading of the
 * engine shows anew. Kept in the data directory; one that is not what was written is looked at again.
 */
export class InstalledMemory {
  readonly #directory: string;
  readonly #known = new Map<string, Promise<Installed>>();
  readonly #othersWithinMs: number;

  constructor(dataDir: string, waits = { othersWithinMs }) {
    this.#directory = join(dataDir, 'fingerprints');
    this.#othersWithinMs = waits.othersWithinMs;
  }

  /** It was looked at already, by this process or another one. */
  async has(image: string, runtime: string): Promise<boolean> {
    const key = keyOf(image, runtime);
    if (this.#known.has(key)) return true;
    return access(join(this.#directory, `${key}.json`)).then(
      () => true,
      () => false,
    );
  }

  /**
   * Two that ask at once share a look, but nobody waits long for that of another, or fails with it; what a look fails with is not
   * remembered.
   */
  async of(image: string, runtime: string, look: () => Promise<Installed>): Promise<Installed> {
    const key = keyOf(image, runtime);
    const find = (): Promise<Installed> => this.#find(join(this.#directory, `${key}.json`), image, runtime, look);
    const known = this.#known.get(key);
    if (known !== undefined) return Deadline.run(this.#othersWithinMs, 'look at an image', () => known).catch(find);
    const finding = find();
    this.#known.set(key, finding);
    finding.catch(() => this.#known.delete(key));
    const [oldest] = this.#known.keys();
    if (this.#known.size > imagesMax && oldest !== undefined) this.#known.delete(oldest);
    return finding;
  }

  async #find(file: string, image: string, runtime: string, look: () => Promise<Installed>): Promise<Installed> {
    const kept = Remembered.safeParse(parseJson(await readFile(file, 'utf8').catch(() => 'null')));
    if (kept.success && kept.data.image === image && kept.data.runtime === runtime) {
      const { v: _, image: __, runtime: ___, ...installed } = kept.data;
      return installed;
    }
    const installed = await Deadline.run(lookWithinMs, 'look at what an image has installed', look);
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeWhole(file, canonicalJson({ v: 1, image, runtime, ...installed }));
    return installed;
  }
}

function keyOf(image: string, runtime: string): string {
  return `${image.replace(':', '-')}.${runtime}`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
