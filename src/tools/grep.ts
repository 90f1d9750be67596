import type { GrepCall } from './calls/search-calls.ts';
import { lineMatcher, type LineMatcher } from './line-matcher.ts';
import { NamePattern } from './name-pattern.ts';
import type { ToolContext } from './tool-context.ts';
import type { GrepMatch, ToolData } from './tool-result.ts';
import { Pause, prunedNames, relativeTo, searchMaxMs, treeEntriesMax, shownPath } from './tree.ts';

const fileMaxBytes = 4_194_304;
const allFilesMaxBytes = 268_435_456;
const lineShownMax = 1000;
const binaryHeadBytes = 8192;
const replyMaxBytes = 1_048_576;

/** Finds lines in files: text files only, in the order of their names, everything bounded and what was left out counted. */
export async function grep(context: ToolContext, call: GrepCall): Promise<ToolData> {
  const matcher = lineMatcher(call.pattern, call);
  const pause = new Pause();
  const search = new Search(call, matcher, pause);
  const pattern = call.glob === undefined ? undefined : new NamePattern(call.glob);
  // A root that is not there is the caller's mistake, not an empty answer.
  await context.files.stat(call.path);
  const walk = context.files.walk([call.path], {
    contents: true,
    includeRoot: true,
    prune: call.all ? [] : prunedNames,
    entriesMax: treeEntriesMax,
    fileBytesMax: fileMaxBytes,
    contentBytesMax: allFilesMaxBytes,
  });
  for await (const item of walk) {
    if (item.kind === 'end') search.truncated ||= item.truncated;
    else if (item.kind === 'unreadable') search.unreadable++;
    else if (item.entry.type === 'file') {
      const name = relativeTo(call.path, item.entry.path) || item.entry.path;
      if (pattern === undefined || pattern.matches(name)) await search.file(item.entry, item.content);
      if (search.full) break;
    }
    await pause.maybe();
  }
  return search.data();
}

class Search {
  readonly #call: GrepCall;
  readonly #matcher: LineMatcher;
  readonly #pause: Pause;
  readonly #matches: GrepMatch[] = [];
  readonly #endMs = performance.now() + searchMaxMs;
  #matchCount = 0;
  #searched = 0;
  #matched = 0;
  #binary = 0;
  #large = 0;
  #replyBytes = 0;
  unreadable = 0;
  truncated = false;
  full = false;

  constructor(call: GrepCall, matcher: LineMatcher, pause: Pause) {
    this.#call = call;
    this.#pause = pause;
    this.#matcher = matcher;
  }

  async file(
    entry: { readonly path: string; readonly sizeBytes: number },
    content: Uint8Array | undefined,
  ): Promise<void> {
    if (content === undefined) {
      if (entry.sizeBytes > 0) this.#large++;
      return;
    }
    const bytes = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
    if (bytes.subarray(0, binaryHeadBytes).includes(0)) {
      this.#binary++;
      return;
    }
    this.#searched++;
    const before = this.#matchCount;
    await this.#lines(shownPath(entry.path), bytes);
    if (this.#matchCount > before) this.#matched++;
  }

  stop(): void {
    this.truncated = true;
    this.full = true;
  }

  data(): ToolData {
    return {
      kind: 'matches',
      matches: this.#matches,
      matchCount: this.#matchCount,
      filesSearched: this.#searched,
      filesMatched: this.#matched,
      binarySkipped: this.#binary,
      largeSkipped: this.#large,
      unreadable: this.unreadable,
      truncated: this.truncated,
    };
  }

  /** Offset of the next match, a step at a time, until the time of the whole search is up. */
  async #next(file: Buffer, from: number): Promise<number> {
    for (let start = from; start < file.length;) {
      const end =
        start + this.#matcher.stepBytes >= file.length ? file.length : endOfLine(file, start + this.#matcher.stepBytes);
      const at = this.#matcher.find(file, start, end);
      if (at !== -1) return at;
      start = end;
      await this.#pause.maybe();
      if (performance.now() > this.#endMs) {
        this.stop();
        return -1;
      }
    }
    return -1;
  }

  async #lines(path: string, file: Buffer): Promise<void> {
    const cursor = new LineCursor(file);
    let shownTo = 0; // number of the last line that is in the answer
    for (let at = await this.#next(file, 0); at !== -1; at = await this.#next(file, cursor.end)) {
      if (this.#matchCount === this.#call.maxMatches || this.#replyBytes > replyMaxBytes) {
        this.stop();
        break;
      }
      cursor.moveTo(at);
      const { line, start } = cursor;
      this.#context(path, file, { before: start, line, shownTo });
      this.#matchCount++;
      this.#add({ path, line, text: clip(file.subarray(cursor.start, cursor.end)), match: true });
      shownTo = await this.#after(path, cursor);
      if (cursor.end >= file.length || this.full) break;
    }
  }

  /** Lines before a match, but for those that are already there. */
  #context(path: string, file: Buffer, at: { before: number; line: number; shownTo: number }): void {
    const lines: GrepMatch[] = [];
    let end = at.before;
    for (let line = at.line - 1; line > Math.max(at.shownTo, at.line - 1 - this.#call.context); line--) {
      const start = end < 2 ? 0 : file.lastIndexOf(0x0a, end - 2) + 1;
      lines.push({ path, line, text: clip(file.subarray(start, end)), match: false });
      end = start;
    }
    for (const line of lines.reverse()) this.#add(line);
  }

  /** Lines after a match, up to the next match. Returns the number of the last line shown. */
  async #after(path: string, at: LineCursor): Promise<number> {
    const { file } = at;
    const nextMatch = this.#call.context === 0 ? -1 : await this.#next(file, at.end);
    let { line, end } = at;
    for (let n = 0; n < this.#call.context && end < file.length; n++) {
      const next = endOfLine(file, end);
      if (nextMatch !== -1 && nextMatch < next) break;
      line++;
      this.#add({ path, line, text: clip(file.subarray(end, next)), match: false });
      end = next;
    }
    return line;
  }

  #add(match: GrepMatch): void {
    this.#replyBytes += match.text.length + match.path.length;
    this.#matches.push(match);
  }
}

/** The line around an offset; offsets only grow, so that counting lines stays linear. */
class LineCursor {
  readonly file: Buffer;
  line = 1;
  start = 0;
  end: number;

  constructor(file: Buffer) {
    this.file = file;
    this.end = endOfLine(file, 0);
  }

  moveTo(offset: number): void {
    while (this.end <= offset && this.end < this.file.length) {
      this.start = this.end;
      this.end = endOfLine(this.file, this.start);
      this.line++;
    }
  }
}

/** One past the line feed that ends the line at `from`. */
function endOfLine(file: Buffer, from: number): number {
  const newline = file.indexOf(0x0a, from);
  return newline === -1 ? file.length : newline + 1;
}

function clip(line: Buffer): string {
  const text = line
    .subarray(0, lineShownMax * 4)
    .toString('utf8')
    .replace(/\r?\n$/, '');
  return text.length > lineShownMax ? `${text.slice(0, lineShownMax)}… (${line.length} bytes)` : text;
}
