import type { EgressCounted, EgressDecided, EgressEnded, EgressRecord } from '../egress/record.ts';

const hostsMax = 256;
const linesMax = 100;

/**
 * Writes into a record, and tells whoever builds what was not let through or did not come to anything, each thing once and a
 * bounded number of them.
 */
export class ToldRecord implements EgressRecord {
  readonly #record: EgressRecord;
  readonly #tell: (line: string) => void;
  readonly #open = new Map<number, EgressDecided>();
  readonly #reached = new Set<string>();
  readonly #told = new Set<string>();
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

  async decided(entry: EgressDecided): Promise<void> {
    await this.#record.decided(entry);
    if (entry.decision === 'denied') this.#refuse(entry);
    else if (entry.kind !== 'name') this.#open.set(entry.id, entry);
    if (entry.decision === 'observed')
      this.#say(`let through by mode: observe: ${textOf(entry)}: ${entry.reason ?? 'no rule names it'}`);
  }

  async ended(entry: EgressEnded): Promise<void> {
    await this.#record.ended(entry);
    const decided = this.#open.get(entry.id);
    this.#open.delete(entry.id);
    if (decided === undefined) return;
    if (entry.result === 'denied') this.#refuse({ ...decided, reason: entry.reason });
    else if (entry.result === 'done') this.#reach(decided);
    else this.#say(`${entry.result}: ${textOf(decided)}${entry.reason === undefined ? '' : `: ${entry.reason}`}`);
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
    this.#say(`refused: ${textOf(entry)}: ${entry.reason ?? 'no rule names it'}`);
  }

  #say(line: string): void {
    if (this.#told.has(line) || this.#told.size > linesMax) return;
    this.#told.add(line);
    this.#tell(this.#told.size > linesMax ? 'more of this is in the record only' : line);
  }
}

type Target = Pick<EgressDecided, 'kind' | 'host' | 'port' | 'method' | 'scheme' | 'path'>;

function textOf(target: Target): string {
  if (target.kind === 'name') return `the name ${target.host}`;
  if (target.kind === 'connection') return `a connection to ${placeOf(target)}`;
  return `${target.method ?? ''} ${target.scheme ?? 'http'}://${placeOf(target)}${target.path ?? ''}`;
}

function placeOf({ host, port, scheme }: Pick<Target, 'host' | 'port' | 'scheme'>): string {
  const isUsual = port === undefined || port === (scheme === 'http' ? 80 : 443);
  return isUsual ? host : `${host}:${port}`;
}
