import { PassThrough } from 'node:stream';
import type { CodexEnvironment } from './serve.ts';

export interface Told {
  readonly id?: string | number;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly code: number; readonly message: string };
}

/** One connection to an environment, as Codex makes it or as somebody who writes whatever they like. */
export class CodexClient {
  readonly input = new PassThrough();
  readonly output = new PassThrough();
  readonly told: Told[] = [];
  readonly #ended: Promise<void>;
  readonly #waiting = new Map<string | number, (told: Told) => void>();
  #rest = '';
  #lastId = 0;

  constructor(environment: CodexEnvironment) {
    this.#ended = environment.serve(this.input, this.output);
    this.output.on('data', (chunk: Buffer) => {
      const lines = (this.#rest + chunk.toString('utf8')).split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) this.#take(JSON.parse(line) as Told);
    });
  }

  #take(told: Told): void {
    this.told.push(told);
    if (told.id !== undefined) this.#waiting.get(told.id)?.(told);
  }

  send(value: unknown): void {
    this.input.write(`${typeof value === 'string' ? value : JSON.stringify(value)}\n`);
  }

  async ask(method: string, params: unknown, id: string | number = (this.#lastId += 1)): Promise<Told> {
    const answer = new Promise<Told>((resolve) => this.#waiting.set(id, resolve));
    this.send({ id, method, params });
    return answer;
  }

  /** The result of what must succeed. */
  async request(method: string, params: unknown): Promise<Record<string, unknown>> {
    const { result, error } = await this.ask(method, params);
    if (result === undefined) throw new Error(`${method}: ${error?.code} ${error?.message}`);
    return result;
  }

  /** Resolves with the id of the session. */
  async initialize(resumeSessionId: string | null = null): Promise<string> {
    const { sessionId } = await this.request('initialize', { clientName: 'test', resumeSessionId });
    this.send({ method: 'initialized', params: {} });
    return String(sessionId);
  }

  /** What was told of a process, the text of its output, and its exit code once it is closed. */
  of(processId: string): { seqs: number[]; text: string; exitCode: unknown; closed: boolean } {
    const mine = this.told.filter(({ params }) => params?.['processId'] === processId);
    const chunks = mine.flatMap(({ params }) => (typeof params?.['chunk'] === 'string' ? [params['chunk']] : []));
    const text = chunks.map((chunk) => Buffer.from(chunk, 'base64').toString()).join('');
    const exitCode = mine.find(({ method }) => method === 'process/exited')?.params?.['exitCode'];
    const closed = mine.some(({ method }) => method === 'process/closed');
    return { seqs: mine.map(({ params }) => Number(params?.['seq'])), text, exitCode, closed };
  }

  async close(): Promise<void> {
    this.input.end();
    await this.#ended;
  }
}
