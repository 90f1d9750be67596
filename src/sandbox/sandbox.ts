import type { ContainerStream, Engine, StartedContainer } from '../engine/engine.ts';
import { RunnerError } from '../errors.ts';
import { Slots } from '../slots.ts';
import type { CallState } from './arrivals.ts';
import type { RunningCall } from './call.ts';
import { containerBody, type SandboxSpec } from './container-body.ts';
import { HandFiles } from './files.ts';
import type { Gateway, GatewayEvents } from './gateway/gateway.ts';
import { Gateways } from './gateway/gateways.ts';
import type { HandHost } from './hand.ts';
import { endedBytes, Ledger } from './ledger.ts';
import { open, resume } from './join.ts';
import { LastingLink } from './lasting-link.ts';
import type { Link } from './link.ts';
import { asLoss, type SandboxLoss } from './loss.ts';
import { CallNumbers } from './call-numbers.ts';
import { probe, type ProbeReport, type ProbeTarget } from './probe.ts';
import type { ExecSpec, Files } from './spec.ts';
import { refuseRestarted } from './same-container.ts';
import { SandboxCalls } from './sandbox-calls.ts';
import { defaults, linkOptions, type SandboxOptions } from './sandbox-options.ts';
import { ensureSupervisor } from './supervisor-volume.ts';

export type { SandboxSpec } from './container-body.ts';
export type { SandboxLoss } from './loss.ts';

export interface ListedCall {
  readonly id: string | undefined;
  readonly number: number;
  readonly state: CallState;
  readonly pid: number | undefined;
  readonly processes: number;
  readonly outputBytes: number;
}

interface SandboxParts {
  readonly spec: SandboxSpec;
  readonly containerId: string;
  readonly startedAt: string | undefined;
  readonly reading?: StartedContainer['reading'];
  readonly ledger: Ledger;
  readonly link: Link;
  readonly numbers: CallNumbers;
  /** Of calls that have ended. */
  readonly outputBytes?: number;
}

/**
 * One container with its stream. Promises:
 *  - whatever fails in `open` leaves nothing behind; a lost sandbox is destroyed by itself; `close` may be called twice;
 *  - every call that was started ends, at the latest with `sandbox_lost`;
 *  - a stream that breaks while PID 1 lives is joined again, and no byte of output is lost or doubled.
 */
export class Sandbox {
  readonly spec: SandboxSpec;
  readonly containerId: string;
  /** Of its PID 1, in the engine's words. */
  readonly startedAt: string | undefined;
  /** As it was read back just after its start; not known of one that was adopted. */
  readonly reading: StartedContainer['reading'] | undefined;
  readonly files: Files;
  /** Resolves once, never rejects; after `close` with `run_not_open`. */
  readonly lost: Promise<SandboxLoss>;
  readonly #engine: Engine;
  readonly #ledger: Ledger;
  readonly #numbers: CallNumbers;
  readonly #link: LastingLink;
  readonly #calls: SandboxCalls;
  readonly #hands: HandHost;
  readonly #probes = new Slots(1);
  readonly #gateways: Gateways;
  #loss: SandboxLoss | undefined;
  #destroyed: Promise<void> | undefined;
  #tellLost: (loss: SandboxLoss) => void = () => undefined;

  private constructor(engine: Engine, options: SandboxOptions, parts: SandboxParts) {
    this.#engine = engine;
    this.spec = parts.spec;
    this.containerId = parts.containerId;
    this.startedAt = parts.startedAt;
    this.reading = parts.reading;
    this.#ledger = parts.ledger;
    this.#numbers = parts.numbers;
    this.#hands = { link: () => this.#usableLink(), takeNumber: () => this.#takeNumber() };
    this.files = new HandFiles(this.#hands);
    this.#gateways = new Gateways(this.#hands);
    this.lost = new Promise((resolve) => {
      this.#tellLost = resolve;
    });
    this.#calls = new SandboxCalls({
      ledger: this.#ledger,
      limits: this.spec.limits,
      outputMaxBytes: options.outputMaxBytes ?? defaults.outputMaxBytes,
      outputBytes: parts.outputBytes ?? 0,
      takeNumber: () => this.#takeNumber(),
      giveUp: (reason) => this.#giveUp(reason),
    });
    this.#link = new LastingLink(parts.link, {
      engine,
      containerId: this.containerId,
      startedAt: this.startedAt,
      options,
      settle: () => this.#calls.settle(),
      goOn: (link, welcome) => this.#calls.goOn(link, welcome),
      giveUp: (reason) => this.#giveUp(reason),
    });
  }

  static async open(engine: Engine, spec: SandboxSpec, options: SandboxOptions): Promise<Sandbox> {
    const volume = await ensureSupervisor(engine, spec, options.supervisor);
    const body = containerBody(spec, volume);
    const ledger = Ledger.create(options.directory);
    let container: StartedContainer | undefined;
    let link: Link | undefined;
    try {
      container = await engine.start(body, options.ready);
      const { id: containerId, startedAt, reading } = container;
      ({ link } = await open(container.stream, linkOptions(options)));
      ledger.note({ kind: 'sandbox', containerId, spec, ...(startedAt === undefined ? {} : { startedAt }) });
      const numbers = CallNumbers.fresh(ledger);
      return new Sandbox(engine, options, { spec, containerId, startedAt, reading, ledger, link, numbers });
    } catch (error) {
      link?.destroy(asLoss(error));
      container?.stream.duplex.destroy();
      // What cannot be removed now is found by its labels; why it was to be removed says more.
      if (container !== undefined) await engine.destroy(container.id).catch(() => undefined);
      await ledger.close().catch(() => undefined);
      throw error;
    }
  }

  /** Joins a sandbox whose runner died. `calls`: those whose end is not on this host's disk yet. */
  static async adopt(
    engine: Engine,
    containerId: string,
    options: SandboxOptions,
  ): Promise<{ sandbox: Sandbox; calls: readonly RunningCall[] }> {
    const { ledger, lines } = Ledger.reopen(options.directory);
    const first = lines.find((line) => line.kind === 'sandbox');
    let stream: ContainerStream | undefined;
    let link: Link | undefined;
    try {
      if (first === undefined || first.containerId !== containerId)
        throw new RunnerError('sandbox_lost', `${options.directory} is not the ledger of container ${containerId}`);
      const { spec, startedAt } = first;
      stream = await engine.attach(containerId);
      const joined = await resume(stream, linkOptions(options));
      link = joined.link;
      await refuseRestarted(engine, containerId, startedAt);
      const numbers = CallNumbers.after(ledger, lines, joined.welcome);
      const outputBytes = endedBytes(lines);
      const parts = { spec, containerId, startedAt, ledger, link, numbers, outputBytes };
      const sandbox = new Sandbox(engine, options, parts);
      return { sandbox, calls: sandbox.#calls.takeUp(lines, link, joined.welcome) };
    } catch (error) {
      link?.destroy(asLoss(error));
      stream?.duplex.destroy();
      await ledger.close();
      throw error;
    }
  }

  get state(): 'running' | 'lost' | 'closed' {
    if (this.#loss === undefined) return 'running';
    return this.#loss.code === 'run_not_open' ? 'closed' : 'lost';
  }

  /** Sends the command off; `RunningCall` tells the rest. */
  async start(callId: string, spec: ExecSpec): Promise<RunningCall> {
    return this.#calls.start(await this.#usableLink(), callId, spec);
  }

  /** Listeners and connections on its loopback, one gateway at a time; after `lost`, another one may be opened. */
  async openGateway(events: GatewayEvents): Promise<Gateway> {
    return await this.#gateways.open(events, () => this.#calls.leftovers);
  }

  /** What of a network the tools can see and reach, in this very moment. */
  async probe(targets: readonly ProbeTarget[]): Promise<ProbeReport> {
    return await probe(this.#hands, this.#probes, targets);
  }

  /** What the supervisor says is there, file verbs included (without an id). */
  async list(): Promise<readonly ListedCall[]> {
    const listed = await (await this.#usableLink()).list();
    return listed.map((entry) => ({
      id: this.#calls.find(entry.call)?.id,
      number: entry.call,
      state: entry.state,
      pid: entry.pid === 0 ? undefined : entry.pid,
      processes: entry.processes,
      outputBytes: entry.outputBytes,
    }));
  }

  /** Its ledger and outputs are kept there from here on, and calls may write so much. For one that nobody has used yet. */
  moveTo(directory: string, outputMaxBytes: number): void {
    this.#ledger.moveTo(directory);
    this.#calls.allow(outputMaxBytes);
  }

  /** Ends everything inside and removes the container. What was written stays readable. */
  async close(): Promise<void> {
    this.#link.shutdown();
    this.#lose({ code: 'run_not_open', reason: 'the sandbox was closed' });
    await this.#destroyed;
  }

  /** It is not what it was proven to be: whatever runs in it ends now. */
  condemn(reason: string): void {
    this.#lose({ code: 'isolation_unproven', reason });
  }

  /** Lets go of it: everything inside runs on, for whoever adopts it next. Nothing more is heard of its calls here. */
  async handOver(): Promise<void> {
    if (this.#loss !== undefined) return;
    this.#loss = { code: 'run_not_open', reason: 'the sandbox was handed over to another runner' };
    this.#destroyed = Promise.resolve();
    this.#link.leave();
    await this.#calls.settle();
    this.#link.destroy(new RunnerError('run_not_open', this.#loss.reason));
    await this.#calls.settle(); // what came in between
    await this.#ledger.close();
    this.#tellLost(this.#loss);
  }

  /** Waits while the stream is being joined again. */
  async #usableLink(): Promise<Link> {
    const link = await this.#link.current();
    if (this.#loss !== undefined)
      throw new RunnerError(this.#loss.code, `sandbox ${this.spec.id} cannot be used: ${this.#loss.reason}`);
    return link;
  }

  #takeNumber(): number {
    return this.#numbers.take([...this.#calls.all.map(({ number }) => number), this.#gateways.number ?? 0]);
  }

  #giveUp(reason: RunnerError): void {
    this.#lose({ code: reason.code === 'protocol_error' ? 'protocol_error' : 'sandbox_lost', reason: reason.message });
  }

  #lose(loss: SandboxLoss): void {
    if (this.#loss !== undefined) return;
    this.#loss = loss;
    this.#destroyed = this.#destroy(loss);
    this.#destroyed.catch(() => undefined);
    this.#tellLost(loss);
  }

  async #destroy(loss: SandboxLoss): Promise<void> {
    const calls = this.#calls.all;
    for (const call of calls) call.lose(loss.reason);
    this.#link.destroy(new RunnerError(loss.code, loss.reason));
    try {
      await this.#engine.destroy(this.containerId);
    } finally {
      await Promise.all(calls.map((call) => call.gone));
      await this.#ledger.close();
    }
  }
}
