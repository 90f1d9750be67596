import type { DataDir, RunDir } from '../data-dir/data-dir.ts';
import { RunnerError } from '../errors.ts';
import { printable } from '../journal/printable.ts';
import { blame, type BlamedLine } from './blame.ts';
import { KeptContents } from './kept-contents.ts';
import { workspacePath } from './recorded-files.ts';
import { readRunHistory, type ApprovalFacts, type CallFacts, type RunHistory } from './run-history.ts';
import type { Author } from './versions.ts';

/** What the agent believed when it made a call. */
export interface BlamedBelief {
  /** 1, 2, 3 ... of the run. */
  readonly number: number;
  readonly version: number;
  readonly digest: string;
  /** RFC 3339. */
  readonly time: string;
  /** As the journal has it: shortened. */
  readonly summary: string;
}

/** Everything in it is what agents and harnesses say. */
export interface BlamedCall {
  readonly run: string;
  readonly callId: string;
  readonly time: string;
  readonly tool: string;
  /** Its arguments, shortened, on one line. */
  readonly what: string;
  readonly by?: string;
  readonly claims?: string;
  readonly model?: string;
  readonly lane?: string;
  readonly belief?: BlamedBelief;
  /** That it rode on. */
  readonly approvals: readonly Omit<ApprovalFacts, 'verdict'>[];
}

export type BlamedAuthor =
  | { readonly kind: 'base'; readonly commit?: string }
  /** `late`: a process that it left did. */
  | { readonly kind: 'call'; readonly call: BlamedCall; readonly late: boolean }
  /** One or some of so many. */
  | { readonly kind: 'between'; readonly calls: number; readonly from: BlamedCall; readonly to: BlamedCall }
  /** No call ran. */
  | { readonly kind: 'nobody'; readonly run: string }
  /** It came from that run, of which there are no records any more. */
  | { readonly kind: 'run'; readonly run: string };

export interface BlameReport {
  readonly run: string;
  /** In the workspace. */
  readonly path: string;
  readonly told:
    /** In order, without gaps. */
    | { readonly kind: 'lines'; readonly spans: readonly BlamedSpan[] }
    /** Lines are not told apart; who wrote it last. */
    | { readonly kind: 'whole'; readonly why: 'binary' | 'too_large' | 'not_kept'; readonly author: number };
  readonly authors: readonly BlamedAuthor[];
}

/** Lines that were written by the same. */
export interface BlamedSpan {
  /** From 1. */
  readonly first: number;
  readonly last: number;
  /** Places in `authors`: one, or those of whom it was one. */
  readonly authors: readonly number[];
  /** Each shortened to 2,000 characters. */
  readonly lines: readonly string[];
}

/**
 * Who wrote the lines of a file of a run, open or closed, as its journal and those of the runs it was forked from tell. Of an open one
 * as it was last looked at. Throws `invalid_path`, and `not_found` for a file that there is not, and for a run of which too little is kept.
 */
export async function blameFile(
  dataDir: DataDir,
  dir: RunDir,
  { path, line }: { readonly path: string; readonly line?: number | undefined },
): Promise<BlameReport> {
  const place = workspacePath(path);
  if (place === undefined || path.includes('\0') || path.length > 4096)
    throw new RunnerError(
      'invalid_path',
      `${JSON.stringify(path.slice(0, 200))} is no path of a file in the workspace`,
    );
  const contents = await KeptContents.open(dataDir);
  const history = await readRunHistory(dataDir, dir, contents);
  const last = history.files.at(place);
  if (last === undefined) throw noSuchFile(history, place);
  const found = await blame(last, (digest) => contents.get(digest));
  const authors = new Authors(history);
  const about = { run: dir.id, path: place };
  if (found.kind === 'whole') {
    const told = { kind: 'whole', why: found.why, author: authors.place(found.author) } as const;
    return { ...about, told, authors: authors.list };
  }
  const lines = [...found.lines.entries()].filter(([at]) => line === undefined || at + 1 === line);
  const told = { kind: 'lines', spans: [...spansOf(lines, authors)] } as const;
  if (line !== undefined && told.spans.length === 0)
    throw new RunnerError(
      'not_found',
      `${place} of run ${dir.id} has ${found.lines.length} lines, and no line ${line}`,
    );
  return { ...about, told, authors: authors.list };
}

function noSuchFile({ run, files }: RunHistory, path: string): RunnerError {
  const isDirectory = [...files.paths()].some((known) => known.startsWith(`${path}/`));
  const why = isDirectory ? 'is a directory; name a file in it' : 'is not there, as far as anybody has looked';
  return new RunnerError('not_found', `${path} of run ${run} ${why}`);
}

const lineMax = 2_000;
const whatMax = 200;

function* spansOf(lines: Iterable<[number, BlamedLine]>, authors: Authors): Generator<BlamedSpan> {
  let span: { first: number; last: number; authors: readonly number[]; lines: string[] } | undefined;
  for (const [at, { bytes, authors: by }] of lines) {
    const places = by.map((author) => authors.place(author));
    const text = Buffer.from(bytes, 'latin1').toString('utf8').slice(0, lineMax);
    if (span !== undefined && span.authors.join() === places.join()) {
      span.last = at + 1;
      span.lines.push(text);
      continue;
    }
    if (span !== undefined) yield span;
    span = { first: at + 1, last: at + 1, authors: places, lines: [text] };
  }
  if (span !== undefined) yield span;
}

/** Each once, with what is known of its calls. */
class Authors {
  readonly list: BlamedAuthor[] = [];
  readonly #history: RunHistory;
  readonly #places = new Map<string, number>();

  constructor(history: RunHistory) {
    this.#history = history;
  }

  place(author: Author): number {
    const key = JSON.stringify(author);
    const place = this.#places.get(key) ?? this.list.push(this.#shown(author)) - 1;
    this.#places.set(key, place);
    return place;
  }

  #shown(author: Author): BlamedAuthor {
    switch (author.kind) {
      case 'base': {
        const { commit } = this.#history.base ?? {};
        return { kind: 'base', ...(commit === undefined ? {} : { commit }) };
      }
      case 'call':
        return { kind: 'call', call: this.#call(author.run, author.callId), late: author.late };
      case 'between': {
        const [from, to] = [this.#call(author.run, author.from), this.#call(author.run, author.to)];
        return { kind: 'between', calls: author.calls, from, to };
      }
      case 'nobody':
      case 'run':
        return author;
    }
  }

  #call(run: string, callId: string): BlamedCall {
    const facts = this.#history.all.get(run)?.calls.get(callId);
    return facts === undefined ? { run, callId, time: '', tool: '', what: '', approvals: [] } : callOf(run, facts);
  }
}

function callOf(run: string, { intended, time, worker, belief, approvals }: CallFacts): BlamedCall {
  const { callId, tool, by, claims } = intended;
  const { tool: _, ...shown } = intended.arguments;
  return {
    run,
    callId,
    time,
    tool,
    what: printable(JSON.stringify(shown)).slice(0, whatMax),
    ...(by === undefined ? {} : { by }),
    ...(claims === undefined ? {} : { claims }),
    ...(worker.model === undefined ? {} : { model: worker.model }),
    ...(worker.lane === undefined ? {} : { lane: worker.lane }),
    ...(belief === undefined ? {} : { belief: beliefOf(belief) }),
    approvals: approvals.flatMap(({ verdict, ...approval }) => (verdict === 'approved' ? [approval] : [])),
  };
}

function beliefOf({ time, said }: NonNullable<CallFacts['belief']>): BlamedBelief {
  const { number, version, digest, summary } = said;
  return { number, version, digest, time, summary };
}
