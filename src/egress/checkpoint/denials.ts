import { clean } from './clean.ts';
import type { EgressCounted } from './record.ts';

/** One thing that a tool call was refused, for its answer. */
export interface DeniedEgress {
  readonly host: string;
  readonly port: number | null;
  readonly method: string | null;
  /** Without its query. */
  readonly path: string | null;
  readonly rule: string | null;
  readonly reason: string;
  /** What would allow it. */
  readonly hint: string;
  readonly count: number;
  /** False: other calls ran at the time, and it may have been one of theirs. */
  readonly certain: boolean;
}

export interface DeniedThing {
  readonly host: string;
  readonly port?: number | undefined;
  readonly method?: string | undefined;
  readonly path?: string | undefined;
  readonly rule?: string | undefined;
  readonly reason: string;
  readonly hint: string;
}

/** Of one host and rule, so many refusals are written one by one; the rest are counted. */
const inFullPerHost = 32;
/** Of all hosts together. */
const inFullMax = 2048;
const keysMax = 1024;
const callsMax = 4096;
const perCallMax = 20;

/**
 * What was refused: which of it is written in full, how much of it is only counted, and what each call is told. All of it is
 * bounded, because whoever is refused decides how often.
 */
export class Denials {
  readonly #seen = new Map<string, number>();
  readonly #counted = new Map<string, { host: string; reason: string; rule?: string; count: number }>();
  readonly #byCall = new Map<string, Map<string, DeniedEgress>>();
  #inFull = 0;

  /** Whether this one is to be written; otherwise it has been counted. A name, which clients ask for in many ways, once a call. */
  takeFull(thing: DeniedThing, callId: string | undefined): boolean {
    const isName = thing.port === undefined;
    const key = [thing.host, thing.rule ?? '', isName ? (callId ?? 'name') : ''].join('\0');
    const before = this.#seen.get(key) ?? 0;
    if (before < (isName ? 1 : inFullPerHost) && this.#inFull < inFullMax) {
      this.#seen.set(key, before + 1);
      this.#inFull += 1;
      return true;
    }
    this.count(thing);
    return false;
  }

  count({ host, rule, reason }: DeniedThing): void {
    const own = `${host}\0${rule ?? ''}`;
    const full = !this.#counted.has(own) && this.#counted.size >= keysMax;
    const key = full ? '' : own;
    const entry = this.#counted.get(key) ?? {
      host: full ? '*' : clean(host, 255),
      reason: full ? 'of more hosts than are counted one by one' : clean(reason, 500),
      ...(rule === undefined || full ? {} : { rule }),
      count: 0,
    };
    entry.count += 1;
    this.#counted.set(key, entry);
  }

  /** What was counted since the last time, and is not in full anywhere. */
  takeCounted(): readonly EgressCounted[] {
    const counted = [...this.#counted.values()];
    this.#counted.clear();
    return counted;
  }

  /** To be told to these calls; more than one when it is not certain whose it was. */
  note(calls: readonly string[], thing: DeniedThing): void {
    for (const callId of calls) {
      const denials = this.#byCall.get(callId) ?? new Map<string, DeniedEgress>();
      if (!this.#byCall.has(callId) && this.#byCall.size >= callsMax) {
        const [oldest] = this.#byCall.keys();
        if (oldest !== undefined) this.#byCall.delete(oldest);
      }
      this.#byCall.set(callId, denials);
      const denial = denialOf(thing, calls.length === 1);
      const key = JSON.stringify([denial.host, denial.port, denial.method, denial.path, denial.rule, denial.certain]);
      const before = denials.get(key);
      if (before === undefined && denials.size >= perCallMax) continue;
      denials.set(key, { ...denial, count: (before?.count ?? 0) + 1 });
    }
  }

  of(callId: string): readonly DeniedEgress[] {
    return [...(this.#byCall.get(callId)?.values() ?? [])];
  }
}

function denialOf({ host, port, method, path, rule, reason, hint }: DeniedThing, certain: boolean): DeniedEgress {
  return {
    host: clean(host, 255),
    port: port ?? null,
    method: method === undefined ? null : clean(method, 32),
    path: path === undefined ? null : clean(path, 200),
    rule: rule ?? null,
    reason: clean(reason, 500),
    hint: clean(hint, 500),
    count: 1,
    certain,
  };
}
