import type { EgressCounted, EgressDecided, EgressEnded, EgressRecord } from '../egress/checkpoint/record.ts';

const hostsMax = 256;
const linesMax = 100;
const failuresMax = 20;
/** Of one host and reason, such as an address that no rule names. */
const alikeMax = 3;

/**
 * Writes into a record, and tells whoever builds what was not let through or did not come to anything: each thing once, a few of
 * what is alike, and a bounded number of all.
 */
export class ToldRecord implements EgressRecord {
  readonly #record: EgressRecord;
  readonly #tell: (line: string) => void;
  readonly #open = new Map<number, EgressDecided>();
  readonly #reached = new Set<string>();
  readonly #told = new Set<string>();
  readonly #alike = new Map<string, number>();
  readonly #failures = new Set<string>();
  #refused = 0;

  constructor(record: EgressRecord, tell: (line: string) => void) {
    this.#record = record;
    this.#tell = tell;
  }

  /** `host` or `host:port` of what was connected to, sorted. */
  get reached(): readonly string[] {
    return [...this.#reached].sort();
  }

  /** What the policy did not let through. */
  get refused(): number {
    return this.#refused;
  }

  /** Lines on what was let through and came to nothing: unresolvable, refused by the server, timed out, cut. */
  get failures(): readonly string[] {
    return [...this.#failures];
  }

  async decided(entry: EgressDecided): Promise<void> {
    await this.#record.decided(entry);
    if (entry.decision === 'denied') this.#refuse(entry);
    else if (entry.kind !== 'name') this.#open.set(entry.id, entry);
    if (entry.decision === 'observed') this.#say('let through by mode: observe', entry, entry.reason);
  }

  async ended(entry: EgressEnded): Promise<void> {
    await this.#record.ended(entry);
    const decided = this.#open.get(entry.id);
    this.#open.delete(entry.id);
    if (decided === undefined) return;
    if (entry.result === 'denied') this.#refuse({ ...decided, reason: entry.reason });
    else if (entry.result === 'done') this.#reach(decided);
    else this.#fail(entry.result, decided, entry.reason);
  }

  async counted(entry: EgressCounted): Promise<void> {
    await this.#record.counted(entry);
    this.#refused += entry.count;
  }

  #reach(decided: EgressDecided): void {
    if (this.#reached.size < hostsMax) this.#reached.add(placeOf(decided));
  }

  #refuse(entry: Target & { readonly reason?: string | undefined }): void {
    this.#refused += 1;
    this.#say('refused', entry, entry.reason);
  }

  #fail(what: string, target: Target, reason: string | undefined): void {
    if (this.#failures.size < failuresMax) this.#failures.add(lineOf(what, target, reason));
    this.#say(what, target, reason);
  }

  #say(what: string, target: Target, reason: string | undefined): void {
    const line = lineOf(what, target, reason);
    if (this.#told.has(line) || this.#told.size > linesMax) return;
    this.#told.add(line);
    if (this.#told.size > linesMax) return this.#tell('more of this is in the record only');
    const key = JSON.stringify([what, placeOf(target), reason]);
    const alike = (this.#alike.get(key) ?? 0) + 1;
    this.#alike.set(key, alike);
    if (alike <= alikeMax) this.#tell(alike < alikeMax ? line : `${line} (more like it is in the record)`);
  }
}

type Target = Pick<EgressDecided, 'kind' | 'host' | 'port' | 'method' | 'scheme' | 'path'>;

function lineOf(what: string, target: Target, reason: string | undefined): string {
  return `${what}: ${textOf(target)}${reason === undefined ? '' : `: ${reason}`}`;
}

function textOf(target: Target): string {
  if (target.kind === 'name') return `the name ${target.host}`;
  if (target.kind === 'connection') return `a connection to ${placeOf(target)}`;
  return `${target.method ?? ''} ${target.scheme ?? 'http'}://${placeOf(target)}${target.path ?? ''}`;
}

function placeOf({ host, port, scheme }: Pick<Target, 'host' | 'port' | 'scheme'>): string {
  const isUsual = port === undefined || port === (scheme === 'http' ? 80 : 443);
  return isUsual ? host : `${host}:${port}`;
}
