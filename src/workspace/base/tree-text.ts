import { encodePath } from '../../bytes-path.ts';
import type { Node } from '../change-set.ts';
import { encodeTree, encodeTreeEntry } from '../manifest.ts';
import { sortedByBytes } from '../diff.ts';

/**
 * The canonical text of a tree (`manifest.ts`), used as it is: of fifty thousand entries it takes a tenth of a second to read
 * them all, and a few milliseconds to write another text with twenty others. What it says must have been proven before.
 */
export class TreeText {
  readonly bytes: Buffer;
  readonly #end: number;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.#end = bytes.length - tailBytes;
  }

  find(path: string): Node | undefined {
    const { at, end } = this.#locate(path);
    return at === end ? undefined : this.#entryAt(at, end)[1];
  }

  /** Undefined: that path is not there any more. The result is canonical if every path has a directory. */
  with(changes: ReadonlyMap<string, Node | undefined>): TreeText {
    const parts: Buffer[] = [];
    let from = headBytes;
    const add = (part: Buffer): void => {
      if (part.length > 0) parts.push(parts.length === 0 ? opening : comma, part);
    };
    const keep = (to: number): void => {
      if (to > from) add(this.bytes.subarray(from, this.bytes[to - 1] === 0x2c ? to - 1 : to));
    };
    for (const [path, node] of sortedByBytes(changes)) {
      const { at, end } = this.#locate(path);
      keep(at);
      if (node !== undefined) add(Buffer.from(encodeTreeEntry(path, node)));
      from = end > at && this.bytes[end] === 0x2c ? end + 1 : end;
    }
    keep(this.#end);
    if (parts.length === 0) parts.push(opening);
    return new TreeText(Buffer.concat([...parts, this.bytes.subarray(this.#end)]));
  }

  /** The paths of all entries whose last part is this. */
  pathsOf(name: string): readonly string[] {
    const paths: string[] = [];
    const wanted = `${JSON.stringify(name).slice(1)},{`;
    for (let at = this.bytes.indexOf(wanted); at >= 0; at = this.bytes.indexOf(wanted, at + 1)) {
      const path = this.#pathAt(this.bytes.lastIndexOf(entryBegin, at));
      if (path === name || path.endsWith(`/${name}`)) paths.push(path);
    }
    return paths;
  }

  /** Where the entry lies, without a comma; where it would begin, and then `end` is the same. */
  #locate(path: string): { readonly at: number; readonly end: number } {
    const wanted = encodePath(path);
    let [low, high] = [headBytes, this.#end];
    if (low === high) return { at: low, end: low };
    // Entries that begin from `low` on and before `high`; the first of them is not behind the wanted one, or is the first of all.
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      const at = this.#nextEntry(middle);
      if (at >= high || Buffer.compare(encodePath(this.#pathAt(at)), wanted) > 0) high = middle;
      else low = at;
    }
    const order = Buffer.compare(encodePath(this.#pathAt(low)), wanted);
    if (order > 0) return { at: low, end: low };
    const next = this.#nextEntry(low + 1);
    const end = next < this.#end ? next - 1 : next;
    return order === 0 ? { at: low, end } : { at: next, end: next };
  }

  /** The first entry that begins there or later, or where the last one ends. */
  #nextEntry(from: number): number {
    for (let at = this.bytes.indexOf(entryBegin, from); at >= 0; at = this.bytes.indexOf(entryBegin, at + 1)) {
      // A string that ends with a bracket looks like an entry that begins, but no node follows what follows it.
      const after = this.bytes.toString('latin1', this.#quoteAfter(at) + 1, this.#quoteAfter(at) + 1 + nodeBeginBytes);
      if (nodeBegins.some((begin) => after.startsWith(begin))) return at;
    }
    return this.#end;
  }

  #pathAt(at: number): string {
    return JSON.parse(this.bytes.toString('utf8', at + 1, this.#quoteAfter(at) + 1)) as string;
  }

  /** Where the string ends with which an entry begins. */
  #quoteAfter(at: number): number {
    let end = this.bytes.indexOf('"', at + entryBegin.length);
    while (isEscaped(this.bytes, end)) end = this.bytes.indexOf('"', end + 1);
    return end;
  }

  #entryAt(at: number, end: number): readonly [string, Node] {
    return JSON.parse(this.bytes.toString('utf8', at, end)) as [string, Node];
  }
}

/** Within a string it would be `[\"`. */
const entryBegin = '["';
const nodeBegins = [',{"digest":"', ',{"kind":"'];
const nodeBeginBytes = 12;
const comma = Buffer.from(',');
const none = encodeTree(new Map());
const headBytes = none.indexOf('[') + 1;
const tailBytes = none.length - headBytes;
const opening = Buffer.from(none.slice(0, headBytes));

function isEscaped(bytes: Buffer, quote: number): boolean {
  let backslashes = 0;
  while (bytes[quote - 1 - backslashes] === 0x5c) backslashes++;
  return backslashes % 2 === 1;
}
