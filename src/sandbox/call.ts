import { RunnerError } from '../errors.ts';
import { awakeNow } from '../machine-clock.ts';
import type { ExitRecord, WelcomeCall } from './arrivals.ts';
import { outcomeOf, type OutcomeLimits } from './call-outcome.ts';
import { CallWire, type CallEvents } from './call-wire.ts';
import type { CallTerms } from './exec-spec.ts';
import type { Ledger } from './ledger.ts';
import type { Link } from './link.ts';
import type { Outcome } from './outcome.ts';
import { OutputLog } from './output-log.ts';
import type { CallEnd } from './spec.ts';
import { killCause } from './wire.ts';

/** What a sandbox lends to its calls. */
export interface CallHost {
  readonly ledger: Ledger;
  readonly limits: OutcomeLimits;
  readonly budget: { leftBytes: number };
  /** The call needs nothing of the sandbox any more. */
  forget(call: RunningCall): void;
  /** The supervisor broke its word; nothing it says counts any more. */
  giveUp(reason: RunnerError): void;
}

export interface CallIdentity {
  readonly id: string;
  readonly number: number;
  /** By the clock of the machine (`awakeMs` of a `Moment`), which the next runner has too. */
  readonly startedMs: number;
  readonly terms: CallTerms;
}

/** How long past its own clocks the supervisor may take before it counts as broken. */
const slackMs = 12_000;
const startTimeoutMs = 15_000;

/**
 * One command in a sandbox. The clocks run inside the supervisor, so they hold when nobody listens here; this side only
 * notices when the supervisor breaks its word.
 */
export class RunningCall {
  readonly id: string;
  readonly number: number;
  readonly output: OutputLog;
  /** The process runs, or the call has ended without one. Never rejects. */
  readonly started: Promise<void>;
  /** The command has ended. Never rejects: a lost sandbox is an outcome. */
  readonly ended: Promise<CallEnd>;
  /** No process of the call is left, and its output and end are on disk. Never rejects. */
  readonly gone: Promise<void>;
  readonly #host: CallHost;
  readonly #terms: CallTerms;
  readonly #wire: CallWire;
  readonly #beganMs: number;
  /** No clock is shared with a runner that died, so what the supervisor promised is waited for from here on. */
  readonly #watchedMs = performance.now();
  #pid: number | undefined;
  #running = false;
  /** Until it is known to have arrived. */
  #spec: readonly Buffer[] | undefined;
  #result: CallEnd | undefined;
  #onDisk = false;
  #killing: { graceMs: number; cause: number; byMs: number } | undefined;
  #tellStarted: () => void = () => undefined;
  #tellEnded: (end: CallEnd) => void = () => undefined;
  #tellGone: () => void = () => undefined;

  constructor(host: CallHost, link: Link, identity: CallIdentity, reopen: boolean) {
    this.#host = host;
    this.id = identity.id;
    this.number = identity.number;
    this.#terms = identity.terms;
    this.#beganMs = performance.now() - Math.max(0, awakeNow() - identity.startedMs);
    const began = this.#beganMs;
    const options = {
      directory: host.ledger.directory,
      number: this.number,
      limitBytes: identity.terms.outputMaxBytes,
      budget: host.budget,
      onDurable: (wireBytes: number) => this.#wire.acknowledge(wireBytes),
      onLimit: () => this.#end(0, killCause.outputLimit),
      nowMs: () => Math.round(performance.now() - began),
    };
    this.output = reopen ? OutputLog.reopen(options) : OutputLog.create(options);
    this.#wire = new CallWire(
      link,
      this.number,
      { stdin: this.#terms.stdin !== 'null', aux: this.#terms.aux },
      this.#events,
    );
    this.started = new Promise((resolve) => {
      this.#tellStarted = resolve;
    });
    this.ended = new Promise((resolve) => {
      this.#tellEnded = resolve;
    });
    this.gone = new Promise((resolve) => {
      this.#tellGone = resolve;
    });
  }

  /** Of the process that was started; in the sandbox's numbering. */
  get pid(): number | undefined {
    return this.#pid;
  }

  /** How it ended; `undefined` while it runs. */
  get result(): CallEnd | undefined {
    return this.#result;
  }

  /** It has ended, and its end and output can be found again without it. */
  get onDisk(): boolean {
    return this.#onDisk;
  }

  /** For the sandbox: sends the spec, and input that is given beforehand. */
  async begin(spec: readonly Buffer[], stdin: Uint8Array | undefined): Promise<void> {
    this.#spec = spec;
    await this.#wire.spawn(spec);
    // A command need not read what it is given: that is no failure.
    if (stdin !== undefined) this.#wire.stdin?.write(stdin, true).catch(() => undefined);
  }

  /** For the sandbox, after the stream was lost: everything that arrived is safe, so the rest can be asked for. */
  async settle(): Promise<void> {
    await this.output.flush();
  }

  /** For the sandbox: goes on over a new link. */
  resume(link: Link, entry: WelcomeCall): void {
    this.#wire.resume(link, entry, this.output.wireBytes);
    this.#running = true;
    this.#tellStarted();
    if (this.#killing !== undefined && this.#result === undefined)
      this.#wire.kill(this.#killing.graceMs, this.#killing.cause);
  }

  /** For the sandbox: the supervisor, asked over a new link, has never heard of this call. */
  repeat(link: Link): void {
    if (this.#running || this.#spec === undefined) this.lose('the supervisor does not know it any more');
    else this.#wire.respawn(link, this.#spec).catch(() => undefined);
  }

  /** For the sandbox: nothing more will be heard of this call. */
  lose(reason: string): void {
    this.#finish({ kind: 'sandbox_lost', reason });
    this.#wire.stdin?.close();
    this.#conclude(false);
  }

  /** Input, in order. Resolves when it is on its way: waits while the process does not read. */
  write(bytes: Uint8Array): Promise<void> {
    return this.#input().write(bytes);
  }

  async closeStdin(): Promise<void> {
    const stdin = this.#input();
    if (!stdin.closed) await stdin.write(new Uint8Array(0), true);
  }

  /** To every process of the call, or to the terminal's foreground group. After the end: no effect. */
  signal(signal: number, target: 'tree' | 'foreground' = 'tree'): void {
    if (!Number.isInteger(signal) || signal < 1 || signal > 64)
      throw new RunnerError('invalid_request', `there is no signal ${signal}`);
    this.#wire.signal(signal, target);
  }

  /** Ends the whole tree of the call; `ended` follows with `cancelled`. */
  kill(options: { graceMs?: number } = {}): void {
    this.#end(options.graceMs ?? this.#terms.graceMs, killCause.cancelled);
  }

  resize(columns: number, rows: number): void {
    if (!this.#terms.tty) throw new RunnerError('invalid_request', `call ${this.id} has no terminal`);
    if (![columns, rows].every((size) => Number.isInteger(size) && size > 0 && size < 65_536))
      throw new RunnerError('invalid_request', `a terminal of ${columns} by ${rows} cannot be`);
    this.#wire.resize(columns, rows);
  }

  #input(): NonNullable<CallWire['stdin']> {
    const { stdin } = this.#wire;
    if (stdin === undefined || this.#terms.stdin !== 'open')
      throw new RunnerError(
        'invalid_request',
        `the input of call ${this.id} is not open; start it with stdin "open" or a tty`,
      );
    return stdin;
  }

  /** A second kill may be quicker than the first one, never slower; the first cause counts. */
  #end(graceMs: number, cause: number): void {
    const byMs = performance.now() + graceMs + this.#terms.drainMs + slackMs;
    if (this.#wire.phase === 'ended' || (this.#killing !== undefined && this.#killing.byMs <= byMs)) return;
    this.#killing = { graceMs, cause: this.#killing?.cause ?? cause, byMs };
    this.#wire.kill(graceMs, this.#killing.cause);
  }

  readonly #events: CallEvents = {
    started: (pid) => {
      this.#spec = undefined;
      this.#pid = pid;
      this.#running = true;
      this.#tellStarted();
    },
    output: (stream, bytes) => this.output.append(stream, bytes),
    exited: (exit) => this.#exited(exit),
    ended: () => this.#conclude(true),
    refused: (reason, text) => {
      const message = `the sandbox refused to start it: ${JSON.stringify(text.slice(0, 200))} (reason ${reason})`;
      this.#finish({ kind: 'not_started', reason: 'no_resources', message });
      this.#conclude(false);
    },
    tick: (nowMs) => this.#tick(nowMs),
    disconnected: () => undefined, // The sandbox decides whether this is the end.
  };

  #exited(exit: ExitRecord): void {
    const outcome = outcomeOf(exit, this.#terms, this.#host.limits, this.output.size());
    this.#finish(outcome, exit);
  }

  #finish(outcome: Outcome, exit?: ExitRecord): void {
    if (this.#result !== undefined) return;
    this.#result = {
      outcome,
      wallMs: exit?.wallMs ?? performance.now() - this.#beganMs,
      cpuMs: exit?.cpuMs ?? 0,
      maxRssBytes: exit?.maxRssBytes ?? 0,
      descendantsAlive: exit?.descendants ?? 0,
      killed: exit?.killed ?? 0,
      output: this.output.totals,
    };
    this.#tellStarted();
    this.#tellEnded(this.#result);
  }

  #conclude(release: boolean): void {
    this.#host.forget(this);
    void this.#record(release);
  }

  /** RELEASE comes last: until then the supervisor could still tell everything once more. */
  async #record(release: boolean): Promise<void> {
    try {
      const output = await this.output.finish();
      const end = this.#result;
      if (end !== undefined)
        await this.#host.ledger.append({
          kind: 'done',
          number: this.number,
          end,
          ...(output === undefined ? {} : { output }),
        });
      this.#onDisk = end !== undefined;
    } catch {
      // The host's disk is full: the result in memory is all there is.
    }
    if (release) this.#wire.release();
    this.#tellGone();
  }

  #tick(nowMs: number): void {
    if (this.#result !== undefined) return;
    const { killAfterMs, graceMs, drainMs } = this.#terms;
    if (!this.#running && nowMs > this.#watchedMs + startTimeoutMs)
      this.#host.giveUp(this.#late(`has not started it after ${startTimeoutMs} ms`));
    else if (killAfterMs > 0 && nowMs > this.#watchedMs + killAfterMs + graceMs + drainMs + slackMs)
      this.#host.giveUp(this.#late(`has not ended it after its ${killAfterMs} ms`));
    else if (this.#killing !== undefined && nowMs > this.#killing.byMs)
      this.#host.giveUp(this.#late('has not killed it'));
  }

  #late(what: string): RunnerError {
    return new RunnerError('sandbox_lost', `call ${this.id}: the supervisor ${what}; the sandbox is given up`);
  }
}
