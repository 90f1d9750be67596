import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Service } from '../service/service.ts';
import type { Admission } from './admission.ts';
import { registerStats } from './stats-metrics.ts';

const callSeconds = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800];
const requestSeconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 5, 30];

/** A way to tell numbers that others keep, when somebody asks. */
export interface Gauged {
  readonly name: string;
  readonly help: string;
  readonly value: () => number | undefined;
}

/** Of a runner. */
interface MadeAhead {
  readonly opensStats: { readonly waiting: number; readonly refused: number };
  readonly poolStats:
    | Readonly<Record<'warm' | 'making' | 'memoryBytes' | 'taken' | 'missed' | 'unfit' | 'expired' | 'failed', number>>
    | undefined;
}

/**
 * What Prometheus reads. Every label is of a bounded set: names of tools and outcomes that code knows, lanes and classes of policies up
 * to a bound, never an id of a run, a key or a call.
 */
export class Metrics {
  readonly #registry = new Registry();
  readonly #calls: Counter<'tool' | 'lane' | 'class' | 'outcome'>;
  readonly #callSeconds: Histogram<'tool'>;
  readonly #runs: Counter<'lane' | 'class' | 'outcome'>;
  readonly #approvals: Counter<'outcome'>;
  readonly #requests: Counter<'route' | 'method' | 'status'>;
  readonly #requestSeconds: Histogram<'route'>;
  readonly #bytes: Counter<'direction'>;
  readonly #engineSeconds: Histogram;

  constructor() {
    const registers = [this.#registry];
    this.#calls = new Counter({
      name: 'glovebox_calls_total',
      help: 'Tool calls that have ended; of commands the kind of their outcome, else done, failed or denied.',
      labelNames: ['tool', 'lane', 'class', 'outcome'],
      registers,
    });
    this.#callSeconds = new Histogram({
      name: 'glovebox_call_duration_seconds',
      help: 'From the request for a tool call to the end of its command.',
      labelNames: ['tool'],
      buckets: callSeconds,
      registers,
    });
    this.#runs = new Counter({
      name: 'glovebox_runs_closed_total',
      help: 'Runs that were closed.',
      labelNames: ['lane', 'class', 'outcome'],
      registers,
    });
    this.#approvals = new Counter({
      name: 'glovebox_approvals_total',
      help: 'Approvals that were decided, or whose time was over.',
      labelNames: ['outcome'],
      registers,
    });
    this.#requests = new Counter({
      name: 'glovebox_http_requests_total',
      help: 'HTTP requests by operation; `none` fits no route.',
      labelNames: ['route', 'method', 'status'],
      registers,
    });
    this.#requestSeconds = new Histogram({
      name: 'glovebox_http_request_duration_seconds',
      help: 'To the first byte of the answer.',
      labelNames: ['route'],
      buckets: requestSeconds,
      registers,
    });
    this.#bytes = new Counter({
      name: 'glovebox_http_bytes_total',
      help: 'Bytes of bodies: in of requests, out of answers that are no streams.',
      labelNames: ['direction'],
      registers,
    });
    this.#engineSeconds = new Histogram({
      name: 'glovebox_engine_ping_seconds',
      help: 'How long the container engine took to answer when its health was asked for.',
      buckets: requestSeconds,
      registers,
    });
  }

  /** Counts what happens in a service, and reads from it what stands. */
  follow(service: Service, admission: Admission): void {
    const [lanes, classes] = [new LabelNames(), new LabelNames()];
    service.events.listen((event, row) => {
      const labels = { lane: lanes.of(row.lane ?? ''), class: classes.of(row.class ?? '') };
      if (event.type === 'call.ended') {
        this.#calls.inc({ tool: event.tool, ...labels, outcome: event.outcome });
        this.#callSeconds.observe({ tool: event.tool }, event.ms / 1000);
      }
      if (event.type === 'run.closed') this.#runs.inc({ ...labels, outcome: event.outcome });
      if (event.type === 'approval.decided') this.#approvals.inc({ outcome: event.approval.state });
    });
    this.gauge({ name: 'glovebox_runs_open', help: 'Runs that are open.', value: () => service.openRuns });
    this.gauge({
      name: 'glovebox_runs_opening',
      help: 'Runs that are being opened.',
      value: () => service.openingRuns,
    });
    this.gauge({
      name: 'glovebox_approvals_pending',
      help: 'Approvals that wait for somebody.',
      value: () => service.desk.pending,
    });
    this.gauge({
      name: 'glovebox_calls_waiting',
      help: 'Calls that wait for the turn of their team.',
      value: () => service.waitingCalls,
    });
    this.gauge({
      name: 'glovebox_data_free_bytes',
      help: 'Free on the disk of the data directory.',
      value: () => service.room.seen?.freeBytes,
    });
    this.gauge({
      name: 'glovebox_data_low',
      help: '1: so little is free that no run is opened.',
      value: () => Number(service.room.isLow),
    });
    this.gauge({ name: 'glovebox_http_streams_open', help: 'Streams and sockets.', value: () => admission.streams });
    this.gauge({ name: 'glovebox_http_requests_open', help: 'Requests under way.', value: () => admission.requests });
    registerStats(this.#registry, () => service.stats.scraped());
    this.gauge({
      name: 'glovebox_process_resident_memory_bytes',
      help: 'Memory of this process.',
      value: () => process.memoryUsage.rss(),
    });
  }

  /** What it makes ahead, and who waits for it. */
  followRunner(runner: MadeAhead): void {
    const pool = (): MadeAhead['poolStats'] => runner.poolStats;
    const gauges: readonly Gauged[] = [
      { name: 'glovebox_opens_waiting', help: 'Opens that wait for a turn.', value: () => runner.opensStats.waiting },
      { name: 'glovebox_pool_warm', help: 'Sandboxes that are ready.', value: () => pool()?.warm },
      { name: 'glovebox_pool_making', help: 'Sandboxes that are being made ahead.', value: () => pool()?.making },
      { name: 'glovebox_pool_memory_bytes', help: 'Limits of those that are ready.', value: () => pool()?.memoryBytes },
    ];
    const counters: readonly Gauged[] = [
      { name: 'glovebox_opens_refused_total', help: 'The line was full.', value: () => runner.opensStats.refused },
      { name: 'glovebox_pool_taken_total', help: 'Opens that found one ready.', value: () => pool()?.taken },
      { name: 'glovebox_pool_missed_total', help: 'Opens that found none.', value: () => pool()?.missed },
      { name: 'glovebox_pool_unfit_total', help: 'Ready, but not as they were made.', value: () => pool()?.unfit },
      { name: 'glovebox_pool_expired_total', help: 'Nobody wanted them.', value: () => pool()?.expired },
      { name: 'glovebox_pool_failed_total', help: 'Could not be made ahead.', value: () => pool()?.failed },
    ];
    for (const gauge of gauges) this.gauge(gauge);
    for (const counter of counters) this.#counter(counter);
  }

  #counter({ name, help, value }: Gauged): void {
    const counter = new Counter({
      name,
      help,
      registers: [],
      collect() {
        this.reset();
        this.inc(value() ?? 0);
      },
    });
    this.#registry.registerMetric(counter);
  }

  gauge({ name, help, value }: Gauged): void {
    const gauge: Gauge = new Gauge({
      name,
      help,
      registers: [],
      collect() {
        const now = value();
        if (now !== undefined) this.set(now);
      },
    });
    this.#registry.registerMetric(gauge);
  }

  request(route: string, method: string, status: number, ms: number): void {
    this.#requests.inc({ route, method, status });
    this.#requestSeconds.observe({ route }, ms / 1000);
  }

  bytes(direction: 'in' | 'out', count: number): void {
    this.#bytes.inc({ direction }, count);
  }

  engineAnswered(ms: number): void {
    this.#engineSeconds.observe(ms / 1000);
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }
}

/** Of lanes, and of classes: each is a row of every metric for as long as the process lives. */
const namesMax = 64;

/** The names that came first; a policy that a client sends along may have any, and another one each time. */
class LabelNames {
  readonly #known = new Set<string>();

  of(name: string): string {
    if (this.#known.size < namesMax) this.#known.add(name);
    return this.#known.has(name) ? name : '(others)';
  }
}
