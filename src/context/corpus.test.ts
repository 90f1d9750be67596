import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { beliefs, edits, expectBelief } from '../../test/fixtures/beliefs.ts';
import { randomFrom } from '../../test/fixtures/random.ts';
import { WatchedFiles, type WatchedOptions } from '../../test/fixtures/watched-files.ts';
import { DataDir, type RunDir } from '../data-dir/data-dir.ts';
import { digestOf } from '../digest.ts';
import { attached } from '../journal/story.fixture.ts';
import { blameFile, type BlamedAuthor } from './blame-report.ts';

/** A line that no other line is, and who wrote it: a call, or the base. */
interface Line {
  readonly text: string;
  readonly by: string;
}

let root: string;
let dataDir: DataDir;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'glovebox-corpus-'));
  dataDir = await DataDir.open(root);
});
afterEach(() => rm(root, { recursive: true, force: true }));

/** 200 edits by file verbs and commands, of which is known who wrote what. */
class Script {
  readonly files = new Map<string, readonly Line[]>();
  /** Commands that gave a file another name: where nobody looked in between, what they have moved is theirs. */
  readonly movers = new Map<string, readonly string[]>();
  readonly run: WatchedFiles;
  readonly #random: () => number;
  readonly #pauses: boolean;
  #lines = 0;
  #names = 0;

  constructor(seed: number, pauses: boolean, options: WatchedOptions) {
    this.#random = randomFrom(seed);
    this.#pauses = pauses;
    const base: Record<string, string> = {};
    for (const name of ['a.txt', 'b.txt', 'c.txt']) {
      this.files.set(name, this.#new(12, 'base'));
      base[name] = this.#textOf(name);
    }
    this.run = new WatchedFiles(root, base, options);
  }

  async play(): Promise<RunDir> {
    for (let at = 0; at < edits; at++) {
      const belief = beliefs.findIndex(({ from }) => from === at);
      if (belief >= 0) this.#attach(belief);
      await this.#edit(`call-${at}`);
      if (at % 50 === 49) await this.run.settle();
    }
    await this.run.settle();
    return this.run.leave(dataDir);
  }

  #attach(index: number): void {
    const { model, at, summary } = beliefs[index] ?? beliefs[0];
    const said = { version: index, model, at, summary, digest: digestOf(summary) };
    this.run.story.push(attached(index + 1, said));
  }

  async #edit(by: string): Promise<void> {
    const names = [...this.files.keys()];
    const name = names[Math.floor(this.#random() * names.length)] ?? 'a.txt';
    const kind = this.#random();
    if (kind < 0.08) return this.#rename(name, by);
    if (kind < 0.13 && names.length > 3) return this.#remove(name, by);
    const made = kind < 0.2 ? `new-${this.#names++}.txt` : name;
    const before = this.#textOf(made);
    this.files.set(made, kind < 0.2 ? this.#new(4, by) : this.#changed(this.files.get(name) ?? [], by));
    await this.#write(made, before, by);
  }

  /** Lines come, go, change and change places, one after the other. */
  #changed(lines: readonly Line[], by: string): readonly Line[] {
    const now = [...lines];
    const at = Math.floor(this.#random() * (now.length + 1));
    const kind = this.#random();
    if (kind < 0.4) now.splice(at, 0, ...this.#new(1 + Math.floor(this.#random() * 3), by));
    else if (kind < 0.75) now.splice(at, 2, ...this.#new(2, by));
    else if (kind < 0.9) now.splice(at, 2);
    else if (kind < 0.95) now.push(...this.#new(1, by));
    else for (const [place, line] of now.entries()) now[place] = withReturn(line, by);
    const isSame = now.length === lines.length && now.every(({ text }, place) => text === lines[place]?.text);
    return now.length === 0 || isSame ? [...now, ...this.#new(1, by)] : now;
  }

  #new(count: number, by: string): Line[] {
    return Array.from({ length: count }, () => ({ text: `line ${this.#lines++}`, by }));
  }

  #textOf(name: string): string {
    return (this.files.get(name) ?? []).map(({ text }) => `${text}\n`).join('');
  }

  async #write(name: string, before: string, by: string): Promise<void> {
    const now = this.#textOf(name);
    await this.#writeBy(this.#random(), { name, before, now, by });
    expect(this.run.files.text(name)).toBe(now);
  }

  async #writeBy(
    kind: number,
    { name, before, now, by }: Record<'name' | 'before' | 'now' | 'by', string>,
  ): Promise<void> {
    if (kind < 0.45) return this.#command(by, (hand) => hand.put(name, now));
    if (before !== '' && kind < 0.8) return this.run.tool(by, { tool: 'edit', path: name, old: before, new: now });
    // A patch brings its own line ends into line with those that it finds.
    if (before !== '' && kind < 0.9 && !`${before}${now}`.includes('\r'))
      return this.run.tool(by, { tool: 'apply_patch', patch: wholePatch(name, before, now) });
    return this.run.tool(by, { tool: 'write', path: name, content: { utf8: now } });
  }

  async #rename(name: string, by: string): Promise<void> {
    const to = `moved-${this.#names++}.txt`;
    this.files.set(to, this.files.get(name) ?? []);
    this.files.delete(name);
    const movers = this.movers.get(name) ?? [];
    this.movers.set(to, movers);
    if (this.#random() < 0.5) return this.run.tool(by, { tool: 'move', from: name, to });
    this.movers.set(to, [...movers, by]);
    return this.#command(by, (hand) => hand.move(name, to));
  }

  async #remove(name: string, by: string): Promise<void> {
    this.files.delete(name);
    if (this.#random() < 0.5) return this.run.tool(by, { tool: 'remove', path: name });
    return this.#command(by, (hand) => hand.remove(name));
  }

  async #command(by: string, work: Parameters<WatchedFiles['command']>[1]): Promise<void> {
    await this.run.command(by, work);
    if (this.#pauses || this.#random() < 0.2) await this.run.look();
  }
}

function withReturn(line: Line, by: string): Line {
  return line.text.endsWith('\r') ? line : { text: `${line.text}\r`, by };
}

function wholePatch(name: string, before: string, now: string): string {
  const lines = (sign: string, text: string): string[] =>
    text
      .split('\n')
      .slice(0, -1)
      .map((line) => `${sign}${line}`);
  const [gone, come] = [lines('-', before), lines('+', now)];
  const head = [`--- a/${name}`, `+++ b/${name}`, `@@ -1,${gone.length} +1,${come.length} @@`];
  return `${[...head, ...gone, ...come].join('\n')}\n`;
}

/** Who a report says wrote each line: calls by number, first to last. */
async function toldOf(
  dir: RunDir,
  path: string,
): Promise<readonly { readonly text: string; readonly by: readonly BlamedAuthor[] }[]> {
  const { told, authors } = await blameFile(dataDir, dir, { path });
  if (told.kind === 'whole') throw new Error(`${path}: ${told.why}`);
  return told.spans.flatMap((span) =>
    span.lines.map((text) => ({ text, by: span.authors.flatMap((place) => authors[place] ?? []) })),
  );
}

test.each([1, 2, 13])(
  'each line of 200 edits is blamed on its call, its model and its belief, where there is a pause (%i)',
  async (seed) => {
    const script = new Script(seed, true, {});
    const dir = await script.play();
    let lines = 0;
    for (const [path, expected] of script.files) {
      const told = await toldOf(dir, path);
      expect(
        told.map(({ text, by: [author] }) => ({
          text,
          by: author?.kind === 'call' ? author.call.callId : author?.kind,
        })),
      ).toEqual(expected);
      for (const { by } of told) for (const author of by) if (author.kind === 'call') expectBelief(author.call);
      lines += told.length;
    }
    expect(lines).toBeGreaterThan(30);
  },
);

test.each([
  ['looked at now and then', {}],
  ['not seen from outside', { sight: 'base' }],
  ['too many to be seen', { entriesMax: 4 }],
] as const)('without pauses, %s, who wrote a line is among those who are named', async (_, options) => {
  for (const seed of [4]) {
    const script = new Script(seed, false, options);
    const dir = await script.play();
    for (const [path, expected] of script.files) {
      const told = await toldOf(dir, path);
      expect(told.map(({ text }) => text)).toEqual(expected.map(({ text }) => text));
      for (const [at, { by }] of told.entries()) {
        const writers = [expected[at]?.by ?? '', ...(script.movers.get(path) ?? [])];
        const isNamed = writers.some((writer) => by.some((author) => names(author, writer)));
        expect(isNamed, `${path}:${at + 1} ${JSON.stringify(by)} ${writers.join()}`).toBe(true);
      }
    }
  }
});

function names(author: BlamedAuthor, by: string): boolean {
  const number = (callId: string): number => Number(callId.slice('call-'.length));
  if (author.kind === 'base') return by === 'base';
  if (author.kind === 'call') return author.call.callId === by;
  if (author.kind !== 'between') return false;
  return number(author.from.callId) <= number(by) && number(by) <= number(author.to.callId);
}
