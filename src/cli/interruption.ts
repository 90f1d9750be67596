import type { EventEmitter } from 'node:events';
import { constants } from 'node:os';
import { Exit } from './context.ts';
import { say } from './terminal.ts';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** As what an end is told: `SIGPIPE` is that of whoever read our output. */
export type EndSignal = (typeof signals)[number] | 'SIGPIPE';

/**
 * An event of this process, and not the signal: whoever listened to that would take the end of any pipe or connection of ours (a
 * program that reads no more of its input) for the end of our reader, and when nobody listens any more, it kills.
 */
const outputGone = 'glovebox:output-gone';
const events: EventEmitter = process;

/** Calls `listener` whenever this command line is asked to end; returns how to be asked no more. */
export function onEndAsked(listener: (name: EndSignal) => void): () => void {
  const onGone = (): void => listener('SIGPIPE');
  for (const name of signals) process.on(name, listener);
  events.on(outputGone, onGone);
  return () => {
    for (const name of signals) process.off(name, listener);
    events.off(outputGone, onGone);
  };
}

/** Ctrl-C in a terminal may come several times at once: from it, from npx, from a reader that went away. */
const oneGestureMs = 1_000;
const lingerMs = 500;

/**
 * What ends a command line from outside: Ctrl-C, a terminal that closes, a reader of our output that has gone. The first
 * asks: `signal` aborts with the exit code that people expect, and whoever works closes what it has opened. Asked once
 * more by a person, it leaves at once and says who cleans up.
 */
export class Interruption {
  readonly signal: AbortSignal;
  readonly #controller = new AbortController();
  readonly #what: string;
  readonly #ignore: () => void;
  #asked: { readonly name: EndSignal; readonly atMs: number } | undefined;

  /** `what` is closed when it happens, in the words that people are told. */
  constructor(what = 'the run') {
    this.#what = what;
    this.signal = this.#controller.signal;
    this.#ignore = onEndAsked(this.#onSignal);
  }

  /** Why, once it happened. */
  get exit(): Exit | undefined {
    return this.signal.aborted ? (this.signal.reason as Exit) : undefined;
  }

  /** The work's end, or the interruption, whichever comes first. */
  async orElse<T>(work: Promise<T>): Promise<T> {
    let stop: () => void = () => undefined;
    const interrupted = new Promise<never>((_, reject) => {
      stop = () => reject(this.signal.reason as Error);
      this.signal.addEventListener('abort', stop);
      if (this.signal.aborted) stop();
    });
    try {
      return await Promise.race([work, interrupted]);
    } finally {
      this.signal.removeEventListener('abort', stop);
    }
  }

  /**
   * Leaves signals alone again. After an interruption the process must end even where something still reads a FIFO that
   * nobody writes, or waits for a reader that stands still; not even `process.exit` gets past the first.
   */
  end(): void {
    this.#ignore();
    const name = this.#asked?.name;
    if (name !== undefined)
      setTimeout(() => process.kill(process.pid, name === 'SIGPIPE' ? 'SIGTERM' : name), lingerMs).unref();
  }

  readonly #onSignal = (name: EndSignal): void => {
    const code = 128 + constants.signals[name];
    if (this.#asked === undefined) {
      this.#asked = { name, atMs: performance.now() };
      if (name !== 'SIGPIPE') say(`\nglovebox: interrupted, closing ${this.#what}; once more leaves at once`);
      this.#controller.abort(new Exit(code));
    } else if (name !== 'SIGPIPE' && performance.now() - this.#asked.atMs > oneGestureMs) {
      say(`glovebox: left without closing ${this.#what}; glovebox gc removes what is left of it`);
      process.exit(code);
    }
  };
}

/** A reader of our output that has gone is told to the command as the signal it would be; where none minds, we end. */
export function watchOutput(): void {
  const onError = (error: NodeJS.ErrnoException): void => {
    if (error.code !== 'EPIPE' && error.code !== 'EIO') say(`glovebox: our output cannot be written: ${error.message}`);
    if (!events.emit(outputGone)) process.exit(128 + constants.signals.SIGPIPE);
  };
  process.stdout.on('error', onError);
  process.stderr.on('error', onError);
}
