import type { CallEnd, OutputTotals } from '../sandbox/spec.ts';

/** A command that runs, or has ended; the real `RunningCall` fits. */
export interface StartedCall {
  readonly id: string;
  readonly output: CallOutput;
  /** Never rejects: a lost sandbox is an outcome. */
  readonly ended: Promise<CallEnd>;
  /** Undefined while it runs. */
  readonly result: CallEnd | undefined;
  /** It has ended, and its end and output are on disk: it need not be kept at hand. */
  readonly onDisk: boolean;
  write(bytes: Uint8Array): Promise<void>;
  closeStdin(): Promise<void>;
  signal(signal: number, target?: 'tree' | 'foreground'): void;
  kill(): void;
  resize(columns: number, rows: number): void;
}

/** What a call has printed. `merged` is stdout and stderr in order; offsets are the view's own. */
export interface CallOutput {
  readonly totals: OutputTotals;
  size(view?: OutputView): number;
  read(offset: number, maxBytes: number, view?: OutputView): Promise<{ readonly bytes: Buffer }>;
  /** What was written to fd 3. */
  aux(): Buffer;
}

export type OutputView = 'merged' | 'stdout' | 'stderr';
