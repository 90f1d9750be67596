import type { ServiceEvent } from '../contract/event.ts';
import { RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import type { RunRow } from '../store/runs.ts';
import { TeamLog } from './team-log.ts';

type Listener = (event: ServiceEvent, row: RunRow) => void;

const keptMax = 8192;
const idPattern = /^([0-9a-z]{26})-(\d{1,15})$/;

/**
 * The last events of this process, of each team by numbers of its own: what others do is not to be counted. Whoever reads keeps a
 * number and nothing is kept for it, so a slow reader costs no memory: it is told that there is a gap.
 */
export class EventLog {
  readonly #epoch = newId();
  readonly #kept = new TeamLog<ServiceEvent>(keptMax);
  readonly #listeners: Listener[] = [];
  readonly #waiting = new Map<string, Set<() => void>>();

  /** Called with each event as it happens; must not throw. */
  listen(listener: Listener): void {
    this.#listeners.push(listener);
  }

  push(event: ServiceEvent, row: RunRow): void {
    this.#kept.push(row.team, event);
    for (const listener of this.#listeners) listener(event, row);
    for (const wake of this.#waiting.get(row.team) ?? []) wake();
  }

  /** Where one begins who has seen nothing. */
  last(team: string): number {
    return this.#kept.last(team);
  }

  idOf(number: number): string {
    return `${this.#epoch}-${number}`;
  }

  /** Of an id given out before; undefined: by another process, so that there is a gap. Throws `invalid_request`. */
  numberOf(team: string, id: string): number | undefined {
    const [, epoch, text = ''] = idPattern.exec(id) ?? [];
    const number = Number(text);
    if (epoch === undefined || (epoch === this.#epoch && number > this.last(team)))
      throw new RunnerError('invalid_request', 'Last-Event-ID is none that this service has given out; leave it out');
    return epoch === this.#epoch ? number : undefined;
  }

  /** At most `max` of those after `number`; undefined: some of them are no longer kept. */
  after(team: string, number: number, max: number): readonly ServiceEvent[] | undefined {
    return this.#kept.after(team, number, max);
  }

  /** Resolves once there is one after `number`, or `timeoutMs` have passed. */
  async waitBeyond(team: string, number: number, timeoutMs: number): Promise<void> {
    if (this.last(team) > number) return;
    const waiting = this.#waiting.get(team) ?? new Set();
    this.#waiting.set(team, waiting);
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, timeoutMs);
      waiting.add(wake);
    });
    if (waiting.size === 0 && this.#waiting.get(team) === waiting) this.#waiting.delete(team);
  }
}
