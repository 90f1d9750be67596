import type { OutputLog, OutputView } from '../sandbox/output-log.ts';

export interface OutputPiece {
  readonly bytes: Buffer;
  readonly nextOffset: number;
  /** Nothing comes after `nextOffset`. */
  readonly ended: boolean;
}

/** The output of one command, for reading along. */
export class CallOutput {
  readonly #log: Pick<OutputLog, 'read' | 'size' | 'finished' | 'waitBeyond'>;
  readonly #exitCode: () => number | null;

  constructor(log: Pick<OutputLog, 'read' | 'size' | 'finished' | 'waitBeyond'>, exitCode: () => number | null) {
    this.#log = log;
    this.#exitCode = exitCode;
  }

  /** As a shell would say it; null while it runs, and when nobody saw it end. */
  get exitCode(): number | null {
    return this.#exitCode();
  }

  get ended(): boolean {
    return this.#log.finished;
  }

  size(view: OutputView): number {
    return this.#log.size(view);
  }

  /** What there is, else what comes within `waitMs`. */
  async read(offset: number, maxBytes: number, view: OutputView, waitMs: number): Promise<OutputPiece> {
    const byMs = performance.now() + waitMs;
    for (;;) {
      const seen = this.#log.size('merged'); // before reading: what comes meanwhile is not waited for
      const { bytes, done } = await this.#log.read(offset, maxBytes, view);
      const leftMs = byMs - performance.now();
      if (bytes.length > 0 || done || leftMs <= 0) return { bytes, nextOffset: offset + bytes.length, ended: done };
      await this.#log.waitBeyond(seen, leftMs);
    }
  }
}
