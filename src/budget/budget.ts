/**
 * What a run may spend. Taken at dispatch, in one synchronous step: of 16 callers at once exactly as many get through
 * as there are calls left. A call that was let in is counted whatever becomes of it.
 */
export class Budget {
  readonly #limits: BudgetLimits;
  readonly #nowMs: () => number;
  readonly #startMs: number;
  #calls = 0;
  #running = 0;
  #denied = 0;
  #outputBytes = 0;
  readonly #warned = new Set<string>();

  /** `nowMs` is a monotonic clock. The wall clock of the run starts now. */
  constructor(limits: BudgetLimits, nowMs: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#nowMs = nowMs;
    this.#startMs = nowMs();
  }

  /** One call, or why not. `terminal`: no later call of this run will get through either. */
  take(): Taken | Refused {
    const refused = this.#refusal();
    if (refused !== undefined) return refused;
    this.#calls += 1;
    this.#running += 1;
    let held = true;
    const release = (): void => {
      if (held) this.#running -= 1;
      held = false;
    };
    const warning = this.#warning();
    return { kind: 'taken', number: this.#calls, release, ...(warning === undefined ? {} : { warning }) };
  }

  /** The policy has denied a call. It costs no call, but only so many are borne. */
  countDenied(): void {
    this.#denied += 1;
  }

  countOutput(bytes: number): void {
    this.#outputBytes += bytes;
  }

  remaining(): BudgetLimits {
    const left = (limit: number, used: number): number => Math.max(0, limit - used);
    return {
      calls: left(this.#limits.calls, this.#calls),
      denied: left(this.#limits.denied, this.#denied),
      parallel: left(this.#limits.parallel, this.#running),
      outputBytes: left(this.#limits.outputBytes, this.#outputBytes),
      wallClockMs: left(this.#limits.wallClockMs, this.#elapsedMs()),
    };
  }

  #refusal(): Refused | undefined {
    const { calls, denied, parallel, outputBytes, wallClockMs } = this.#limits;
    if (this.#elapsedMs() >= wallClockMs) {
      return final('limits.wall_clock', `the run's ${seconds(wallClockMs)} are over`);
    }
    if (this.#calls >= calls) return final('budget.calls', `all ${calls} calls of this run are used`);
    if (this.#denied > denied) {
      return final('budget.denied', `${this.#denied} calls were denied, and the run bears ${denied}`);
    }
    if (this.#outputBytes >= outputBytes) {
      return final('limits.output_per_run', `the run has written its ${outputBytes} bytes of output`);
    }
    if (this.#running < parallel) return undefined;
    const reason = `${this.#running} calls run already, and ${parallel} may at once`;
    const hint = 'Wait until one has ended (exec_poll), or end one (exec_kill), then ask again.';
    return { kind: 'denied', terminal: false, rule: 'budget.parallel', reason, hint };
  }

  /** Said once for each limit, with the first call past four fifths of it. */
  #warning(): string | undefined {
    const { calls, outputBytes, wallClockMs } = this.#limits;
    const uses = [
      ['calls', this.#calls / calls, `${this.#calls} of ${calls} calls are used`],
      ['output', this.#outputBytes / outputBytes, `${this.#outputBytes} of ${outputBytes} bytes of output are used`],
      ['time', this.#elapsedMs() / wallClockMs, `${seconds(this.#elapsedMs())} of ${seconds(wallClockMs)} are over`],
    ] as const;
    const news = uses.filter(([name, share]) => share >= warnAt && !this.#warned.has(name));
    for (const [name] of news) this.#warned.add(name);
    return news.length === 0 ? undefined : news.map(([, , text]) => text).join('; ');
  }

  #elapsedMs(): number {
    return this.#nowMs() - this.#startMs;
  }
}

export interface BudgetLimits {
  readonly calls: number;
  /** How many denials are borne; with one more the run is over. */
  readonly denied: number;
  readonly parallel: number;
  readonly outputBytes: number;
  readonly wallClockMs: number;
}

export interface Taken {
  readonly kind: 'taken';
  /** 1 for the first call. */
  readonly number: number;
  readonly warning?: string;
  /** The call has ended. Twice is fine. */
  readonly release: () => void;
}

export interface Refused {
  readonly kind: 'denied';
  readonly terminal: boolean;
  readonly rule: string;
  readonly reason: string;
  readonly hint: string;
}

const warnAt = 0.8;

function final(rule: string, reason: string): Refused {
  const hint = 'No further call gets through in this run: close it, keep its diff, and open another for the rest.';
  return { kind: 'denied', terminal: true, rule, reason, hint };
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}
