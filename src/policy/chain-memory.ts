import { loadChain, parseChain, readText } from './policy.ts';
import type { SourceFile } from './language/source-file.ts';

const chainsMax = 64;

/**
 * Policies that were read and checked before. Their files are read again each time, and looked into only where one says something
 * else: to parse them and to run their own tests takes as long as hundreds of decisions.
 */
export class ChainMemory {
  /** By name or path, and by text. The one that was not asked for longest first. */
  readonly #known = new Map<string, Known>();

  /** As `loadChain`. */
  async load(pathOrName: string): Promise<readonly SourceFile[]> {
    const key = `file ${pathOrName}`;
    const known = this.#known.get(key);
    if (known !== undefined && (await isUnchanged(known))) return this.#keep(key, known);
    const files = new Map<string, string>();
    const chain = await loadChain(pathOrName, { onRead: (path, text) => files.set(path, text) });
    return this.#keep(key, { files, chain });
  }

  /** As `parseChain` of one text. */
  parse(text: string, source: string): readonly SourceFile[] {
    const key = `text ${source}\n${text}`;
    const known = this.#known.get(key) ?? { files: new Map(), chain: parseChain([{ text, source }]) };
    return this.#keep(key, known);
  }

  #keep(key: string, known: Known): readonly SourceFile[] {
    this.#known.delete(key);
    this.#known.set(key, known);
    for (const oldest of this.#known.keys()) if (this.#known.size > chainsMax) this.#known.delete(oldest);
    return known.chain;
  }
}

interface Known {
  /** What each file said, by its path. */
  readonly files: ReadonlyMap<string, string>;
  readonly chain: readonly SourceFile[];
}

async function isUnchanged({ files }: Known): Promise<boolean> {
  for (const [path, text] of files) if ((await readText(path)) !== text) return false;
  return true;
}
