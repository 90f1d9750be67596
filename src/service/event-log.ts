import type { ServiceEvent } from '../contract/event.ts';
import { RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import type { RunRow } from '../store/runs.ts';

/** An event and where it stands: `<epoch>-<number>`. */
export interface Logged {
  readonly id: string;
  readonly event: ServiceEvent;
}

type Listener = (event: ServiceEvent, row: RunRow) => void;

const keptMax = 4096;
const idPattern = /^([0-9a-z]{26})-(\d{1,15})$/;

/**
 * The last events of this process, by number. Whoever reads keeps a number and nothing is kept for it, so a slow reader costs no
 * memory: it is told that there is a gap.
 */
export class EventLog {
  readonly #epoch = newId();
  readonly #kept: ServiceEvent[] = [];
  readonly #listeners: Listener[] = [];
  readonly #waiting = new Set<() => void>();
  #last = 0;

  /** Called with each event as it happens; must not throw. */
  listen(listener: Listener): void {
    this.#listeners.push(listener);
  }

  push(event: ServiceEvent, row: RunRow): void {
    this.#last += 1;
    this.#kept.push(event);
    if (this.#kept.length > keptMax * 2) this.#kept.splice(0, keptMax);
    for (const listener of this.#listeners) listener(event, row);
    for (const wake of this.#waiting) wake();
  }

  /** Where one begins who has seen nothing. */
  get last(): number {
    return this.#last;
  }

  idOf(number: number): string {
    return `${this.#epoch}-${number}`;
  }

  /** Of an id given out before; undefined: by another process, so that there is a gap. Throws `invalid_request`. */
  numberOf(id: string): number | undefined {
    const [, epoch, text = ''] = idPattern.exec(id) ?? [];
    const number = Number(text);
    if (epoch === undefined || (epoch === this.#epoch && number > this.#last))
      throw new RunnerError('invalid_request', 'Last-Event-ID is none that this service has given out; leave it out');
    return epoch === this.#epoch ? number : undefined;
  }

  /** Those after `number`; undefined: some of them are no longer kept. */
  after(number: number): readonly ServiceEvent[] | undefined {
    const first = this.#last - this.#kept.length;
    return number < first ? undefined : this.#kept.slice(number - first);
  }

  /** Resolves once there is one after `number`, or `timeoutMs` have passed. */
  async waitBeyond(number: number, timeoutMs: number): Promise<void> {
    if (this.#last > number) return;
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, timeoutMs);
      this.#waiting.add(wake);
    });
  }
}
