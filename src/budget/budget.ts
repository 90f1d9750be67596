/**
 * What a run may spend. Taken at dispatch, in one synchronous step: of 16 callers at once exactly as many get through
 * as there are calls left. A call that was let in is counted whatever becomes of it.
 */
export class Budget {
  #limits: BudgetLimits;
  readonly #nowMs: () => number;
  readonly #startMs: number;
  readonly #warned = new Set<string>();
  readonly #byTag = new Map<string, number>();
  /** When the calls of the last minute were let in. */
  #lately: number[] = [];
  #calls = 0;
  #running = 0;
  #denied = 0;
  #deniedInARow = 0;
  #approvals = 0;
  #outputBytes = 0;
  #cpuMs = 0;

  /** `nowMs` is a monotonic clock. The wall clock of the run starts now, or `used.elapsedMs` ago. */
  constructor(limits: BudgetLimits, nowMs: () => number = () => performance.now(), used?: Used) {
    this.#limits = limits;
    this.#nowMs = nowMs;
    this.#startMs = nowMs() - (used?.elapsedMs ?? 0);
    if (used === undefined) return;
    this.#calls = used.calls;
    this.#denied = used.denied;
    this.#deniedInARow = used.deniedInARow;
    this.#approvals = used.approvals;
    this.#outputBytes = used.outputBytes;
    this.#cpuMs = used.cpuMs;
    for (const [tag, count] of used.byTag) this.#byTag.set(tag, count);
    if (limits.perMinute > 0) this.#lately = used.callAgesMs.map((ageMs) => nowMs() - ageMs);
    this.#warning(); // the runner before has said it
  }

  /** A call that was let in before and goes on; to be called when it has ended. */
  holdOn(): () => void {
    return this.#hold();
  }

  /** One call, or why not. `terminal`: no later call of this run will get through either. */
  take(tags: readonly string[] = []): Taken | Refused {
    const refused = this.#refusal(tags);
    if (refused !== undefined) return refused;
    this.#calls += 1;
    this.#deniedInARow = 0;
    if (this.#limits.perMinute > 0) this.#lately.push(this.#nowMs());
    for (const tag of tags) this.#byTag.set(tag, this.#usedByTag(tag) + 1);
    const release = this.#hold();
    const warning = this.#warning();
    return { kind: 'taken', number: this.#calls, release, ...(warning === undefined ? {} : { warning }) };
  }

  /** Why no call would be let in now; nothing is counted. */
  check(tags: readonly string[] = []): Refused | undefined {
    return this.#refusal(tags);
  }

  /** More calls than at first, once somebody has approved them. */
  extend(calls: number): void {
    this.#limits = { ...this.#limits, calls: this.#limits.calls + calls };
    this.#warned.delete('calls');
  }

  /** One more approval may be asked for, or why not. */
  takeApproval(): Refused | undefined {
    const { approvals } = this.#limits;
    if (this.#approvals >= approvals) {
      const reason = `all ${approvals} approvals that this run may ask for are asked`;
      return { kind: 'denied', terminal: false, rule: 'budget.max_approval_requests', reason, hint: 'Do without it.' };
    }
    this.#approvals += 1;
    return undefined;
  }

  /** The policy has denied a call. It costs no call, but only so many are borne. */
  countDenied(): void {
    this.#denied += 1;
    this.#deniedInARow += 1;
  }

  countOutput(bytes: number): void {
    this.#outputBytes += bytes;
  }

  countCpu(ms: number): void {
    this.#cpuMs += ms;
  }

  /** The risk has risen: from now on the smaller of both holds. What is used stays used. */
  tighten(limits: BudgetLimits): void {
    const least = (a: number, b: number): number => (a === 0 ? b : b === 0 ? a : Math.min(a, b));
    const now = this.#limits;
    this.#limits = {
      calls: Math.min(now.calls, limits.calls),
      denied: Math.min(now.denied, limits.denied),
      approvals: Math.min(now.approvals, limits.approvals),
      parallel: Math.min(now.parallel, limits.parallel),
      outputBytes: Math.min(now.outputBytes, limits.outputBytes),
      wallClockMs: Math.min(now.wallClockMs, limits.wallClockMs),
      deniedInARow: least(now.deniedInARow, limits.deniedInARow),
      perMinute: least(now.perMinute, limits.perMinute),
      cpuMs: least(now.cpuMs, limits.cpuMs),
      byTag: leastOfEach(now.byTag, limits.byTag),
    };
  }

  /** The part of the calls that is used, 0 to 1. */
  get used(): number {
    return this.#calls / this.#limits.calls;
  }

  /** What is left. Of a limit that there is not, `null`. */
  remaining(): Remaining {
    const { calls, denied, deniedInARow, approvals, parallel, perMinute, outputBytes, wallClockMs, cpuMs, byTag } =
      this.#limits;
    const left = (limit: number, used: number): number => Math.max(0, limit - used);
    const leftOf = (limit: number, used: number): number | null => (limit === 0 ? null : left(limit, used));
    return {
      calls: left(calls, this.#calls),
      byTag: Object.fromEntries(Object.entries(byTag).map(([tag, limit]) => [tag, left(limit, this.#usedByTag(tag))])),
      denied: left(denied, this.#denied),
      deniedInARow: leftOf(deniedInARow, this.#deniedInARow),
      approvals: left(approvals, this.#approvals),
      parallel: left(parallel, this.#running),
      perMinute: leftOf(perMinute, this.#inLastMinute()),
      outputBytes: left(outputBytes, this.#outputBytes),
      wallClockMs: left(wallClockMs, this.#elapsedMs()),
      cpuMs: leftOf(cpuMs, this.#cpuMs),
    };
  }

  #hold(): () => void {
    this.#running += 1;
    let held = true;
    return () => {
      if (held) this.#running -= 1;
      held = false;
    };
  }

  #refusal(tags: readonly string[]): Refused | undefined {
    const { calls, denied, deniedInARow, outputBytes, wallClockMs, cpuMs, parallel, perMinute } = this.#limits;
    if (this.#elapsedMs() >= wallClockMs) {
      return final('limits.wall_clock', `the run's ${seconds(wallClockMs)} are over`);
    }
    if (this.#calls >= calls) return final('budget.max_actions_per_run', `all ${calls} calls of this run are used`);
    if (this.#denied > denied) {
      return final('budget.max_denied_actions', `${this.#denied} calls were denied, and the run bears ${denied}`);
    }
    if (deniedInARow > 0 && this.#deniedInARow > deniedInARow) {
      const reason = `${this.#deniedInARow} calls in a row were denied, and the run bears ${deniedInARow}`;
      return final('budget.max_consecutive_denials', reason);
    }
    if (this.#outputBytes >= outputBytes) {
      return final('limits.output_per_run', `the run has written its ${outputBytes} bytes of output`);
    }
    if (cpuMs > 0 && this.#cpuMs >= cpuMs) {
      return final('budget.cpu_seconds', `the run has used its ${seconds(cpuMs)} of processor time`);
    }
    return this.#refusalOfTag(tags) ?? this.#refusalForNow(parallel, perMinute);
  }

  #refusalOfTag(tags: readonly string[]): Refused | undefined {
    const { byTag } = this.#limits;
    const spent = tags.find((tag) => byTag[tag] !== undefined && this.#usedByTag(tag) >= (byTag[tag] ?? 0));
    if (spent === undefined) return undefined;
    const reason = `all ${byTag[spent]} calls tagged ${spent} are used`;
    const hint = 'Do without it; other calls still get through.';
    return { kind: 'denied', terminal: false, rule: `budget.max_actions_by_tag.${spent}`, reason, hint };
  }

  #refusalForNow(parallel: number, perMinute: number): Refused | undefined {
    if (this.#running >= parallel) {
      const reason = `${this.#running} calls run already, and ${parallel} may at once`;
      const hint = 'Wait until one has ended (exec_poll), or end one (exec_kill), then ask again.';
      return { kind: 'denied', terminal: false, rule: 'budget.max_parallel_actions', reason, hint };
    }
    if (perMinute === 0 || this.#inLastMinute() < perMinute) return undefined;
    const waitMs = minuteMs - (this.#nowMs() - (this.#lately[0] ?? 0));
    const reason = `${perMinute} calls were let in within the last minute`;
    const hint = `Ask again in ${Math.ceil(waitMs / 1000)} s.`;
    return { kind: 'denied', terminal: false, rule: 'budget.max_actions_per_minute', reason, hint };
  }

  /** Said once for each limit, with the first call past four fifths of it. */
  #warning(): string | undefined {
    const { calls, outputBytes, wallClockMs, cpuMs, byTag } = this.#limits;
    const spent = this.#elapsedMs();
    const uses: (readonly [name: string, share: number, text: () => string])[] = [
      ['calls', this.#calls / calls, () => `${this.#calls} of ${calls} calls are used`],
      [
        'output',
        this.#outputBytes / outputBytes,
        () => `${this.#outputBytes} of ${outputBytes} bytes of output are used`,
      ],
      ['time', spent / wallClockMs, () => `${seconds(spent)} of ${seconds(wallClockMs)} are over`],
      [
        'cpu',
        cpuMs === 0 ? 0 : this.#cpuMs / cpuMs,
        () => `${seconds(this.#cpuMs)} of ${seconds(cpuMs)} of processor time are used`,
      ],
      ...Object.entries(byTag).map(([tag, limit]) => {
        const used = this.#usedByTag(tag);
        return [
          `tag ${tag}`,
          limit === 0 ? 0 : used / limit,
          () => `${used} of ${limit} calls tagged ${tag} are used`,
        ] as const;
      }),
    ];
    const news = uses.filter(([name, share]) => share >= warnAt && !this.#warned.has(name));
    for (const [name] of news) this.#warned.add(name);
    return news.length === 0 ? undefined : news.map(([, , text]) => text()).join('; ');
  }

  #usedByTag(tag: string): number {
    return this.#byTag.get(tag) ?? 0;
  }

  #inLastMinute(): number {
    const since = this.#nowMs() - minuteMs;
    this.#lately = this.#lately.filter((at) => at > since);
    return this.#lately.length;
  }

  #elapsedMs(): number {
    return this.#nowMs() - this.#startMs;
  }
}

/** Of those with 0 = none, nothing is counted against. */
export interface BudgetLimits {
  readonly calls: number;
  readonly byTag: Readonly<Record<string, number>>;
  /** How many denials are borne; with one more the run is over. */
  readonly denied: number;
  /** The same in a row; 0 = none. */
  readonly deniedInARow: number;
  /** Approvals that may be asked for. */
  readonly approvals: number;
  readonly parallel: number;
  /** 0 = none. */
  readonly perMinute: number;
  readonly outputBytes: number;
  readonly wallClockMs: number;
  /** 0 = none. */
  readonly cpuMs: number;
}

/** What a run has spent before; of a run that goes on. */
export interface Used {
  readonly calls: number;
  readonly byTag: ReadonlyMap<string, number>;
  readonly denied: number;
  readonly deniedInARow: number;
  readonly approvals: number;
  readonly outputBytes: number;
  readonly cpuMs: number;
  readonly elapsedMs: number;
  /** How long ago the calls of the last minute were let in, oldest first. */
  readonly callAgesMs: readonly number[];
}

export interface Remaining extends Omit<BudgetLimits, 'deniedInARow' | 'perMinute' | 'cpuMs'> {
  readonly deniedInARow: number | null;
  readonly perMinute: number | null;
  readonly cpuMs: number | null;
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
const minuteMs = 60_000;

function leastOfEach(
  a: Readonly<Record<string, number>>,
  b: Readonly<Record<string, number>>,
): Readonly<Record<string, number>> {
  const least = Object.entries(b).map(([tag, limit]) => [tag, Math.min(limit, a[tag] ?? limit)] as const);
  return { ...a, ...Object.fromEntries(least) };
}

function final(rule: string, reason: string): Refused {
  const hint = 'No further call gets through in this run: close it, keep its diff, and open another for the rest.';
  return { kind: 'denied', terminal: true, rule, reason, hint };
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}
