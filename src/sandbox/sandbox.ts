import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerStream, Engine, StartedContainer } from '../engine/engine.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { callIdPattern } from '../ids.ts';
import { Slots } from '../slots.ts';
import type { CallState, Welcome } from './arrivals.ts';
import { RunningCall, type CallHost } from './call.ts';
import { containerBody, type SandboxSpec } from './container-body.ts';
import { callTerms, encodeExec } from './exec-spec.ts';
import { HandFiles } from './files.ts';
import type { Gateway, GatewayEvents } from './gateway/gateway.ts';
import { Gateways } from './gateway/gateways.ts';
import type { HandHost } from './hand.ts';
import { endedBytes, Ledger, type LedgerLine } from './ledger.ts';
import { endLeftover } from './leftover.ts';
import { open, resume, type Joined } from './join.ts';
import type { Link } from './link.ts';
import { asLoss, type SandboxLoss } from './loss.ts';
import { CallNumbers } from './call-numbers.ts';
import { probe, type ProbeReport, type ProbeTarget } from './probe.ts';
import type { ExecSpec, Files } from './spec.ts';
import { isSame, refuseRestarted } from './same-container.ts';
import { defaults, linkOptions, type SandboxOptions } from './sandbox-options.ts';
import { ensureSupervisor } from './supervisor-volume.ts';
import { commandsMax } from './wire.ts';

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
  readonly ledger: Ledger;
  readonly link: Link;
  readonly numbers: CallNumbers;
  /** Of calls that have ended. */
  readonly outputBytes?: number;
}

const reattachTimeoutMs = 5_000;
const reattachTries = 3;
const engineRetryMs = 250;

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
  readonly files: Files;
  /** Resolves once, never rejects; after `close` with `run_not_open`. */
  readonly lost: Promise<SandboxLoss>;
  readonly #engine: Engine;
  #options: SandboxOptions;
  readonly #ledger: Ledger;
  readonly #numbers: CallNumbers;
  readonly #calls = new Map<number, RunningCall>();
  readonly #ids = new Set<string>();
  readonly #host: CallHost;
  readonly #hands: HandHost;
  readonly #probes = new Slots(1);
  readonly #gateways: Gateways;
  /** Ended, but the supervisor still has them: they count until they are on disk and released. */
  readonly #settling = new Set<RunningCall>();
  #link: Link;
  #loss: SandboxLoss | undefined;
  #closing = false;
  #joining: Promise<void> | undefined;
  /** What a runner before, or a stream before, has left running. */
  #leftovers: Promise<unknown> = Promise.resolve();
  #destroyed: Promise<void> | undefined;
  #tellLost: (loss: SandboxLoss) => void = () => undefined;

  private constructor(engine: Engine, options: SandboxOptions, parts: SandboxParts) {
    this.#engine = engine;
    this.#options = options;
    this.spec = parts.spec;
    this.containerId = parts.containerId;
    this.startedAt = parts.startedAt;
    this.#ledger = parts.ledger;
    this.#link = parts.link;
    this.#numbers = parts.numbers;
    this.#hands = { link: () => this.#usableLink(), takeNumber: () => this.#takeNumber() };
    this.files = new HandFiles(this.#hands);
    this.#gateways = new Gateways(this.#hands);
    this.lost = new Promise((resolve) => {
      this.#tellLost = resolve;
    });
    this.#host = {
      ledger: this.#ledger,
      limits: this.spec.limits,
      budget: { leftBytes: (options.outputMaxBytes ?? defaults.outputMaxBytes) - (parts.outputBytes ?? 0) },
      forget: (call) => this.#forget(call),
      giveUp: (reason) => this.#giveUp(reason),
    };
    this.#watch(parts.link);
  }

  static async open(engine: Engine, spec: SandboxSpec, options: SandboxOptions): Promise<Sandbox> {
    const volume = await ensureSupervisor(engine, spec, options.supervisor);
    const body = containerBody(spec, volume);
    const ledger = Ledger.create(options.directory);
    let container: StartedContainer | undefined;
    let link: Link | undefined;
    try {
      container = await engine.start(body, options.ready);
      const { id: containerId, startedAt } = container;
      ({ link } = await open(container.stream, linkOptions(options)));
      ledger.note({ kind: 'sandbox', containerId, spec, ...(startedAt === undefined ? {} : { startedAt }) });
      const numbers = CallNumbers.fresh(ledger);
      return new Sandbox(engine, options, { spec, containerId, startedAt, ledger, link, numbers });
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
      return { sandbox, calls: sandbox.#findCalls(lines, link, joined.welcome) };
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
    const link = await this.#usableLink();
    if (!callIdPattern.test(callId))
      throw new RunnerError('invalid_request', `${JSON.stringify(callId)} cannot be a call's id`);
    if (this.#ids.has(callId))
      throw new RunnerError('call_exists', `call ${callId} has been started before; a call runs once`);
    while (this.#settling.size > 0 && this.#calls.size + this.#settling.size >= commandsMax)
      await Promise.race([...this.#settling].map((call) => call.gone));
    if (this.#calls.size >= commandsMax)
      throw new RunnerError(
        'too_many_calls',
        `${commandsMax} commands are running in this sandbox; wait for one to end or kill one`,
      );
    const terms = callTerms(spec, this.#options.outputMaxBytes ?? defaults.outputMaxBytes);
    const pieces = encodeExec(spec, terms);
    const identity = { id: callId, number: this.#takeNumber(), startedMs: Date.now(), terms };
    const call = new RunningCall(this.#host, link, identity, false);
    this.#calls.set(call.number, call);
    this.#ids.add(callId);
    const begun = call.begin(pieces, spec.stdin?.kind === 'bytes' ? spec.stdin.bytes : undefined);
    // While it starts. A runner that dies before this line leaves a call that nobody knows: the next one ends it.
    this.#ledger.note({ kind: 'call', ...identity });
    await begun;
    return call;
  }

  /** Listeners and connections on its loopback, one gateway at a time; after `lost`, another one may be opened. */
  async openGateway(events: GatewayEvents): Promise<Gateway> {
    return await this.#gateways.open(events, () => this.#leftovers);
  }

  /** What of a network the tools can see and reach, in this very moment. */
  async probe(targets: readonly ProbeTarget[]): Promise<ProbeReport> {
    return await probe(this.#hands, this.#probes, targets);
  }

  /** What the supervisor says is there, file verbs included (without an id). */
  async list(): Promise<readonly ListedCall[]> {
    const listed = await (await this.#usableLink()).list();
    return listed.map((entry) => ({
      id: this.#calls.get(entry.call)?.id,
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
    this.#options = { ...this.#options, directory, outputMaxBytes };
    this.#host.budget.leftBytes = outputMaxBytes;
  }

  /** Ends everything inside and removes the container. What was written stays readable. */
  async close(): Promise<void> {
    this.#closing = true;
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
    this.#closing = true;
    this.#loss = { code: 'run_not_open', reason: 'the sandbox was handed over to another runner' };
    this.#destroyed = Promise.resolve();
    const settled = (): Promise<unknown> => Promise.all([...this.#calls.values()].map((call) => call.settle()));
    await settled();
    this.#link.destroy(new RunnerError('run_not_open', this.#loss.reason));
    await settled(); // what came in between
    await this.#ledger.close();
    this.#tellLost(this.#loss);
  }

  /** Waits while the stream is being joined again. */
  async #usableLink(): Promise<Link> {
    if (this.#link.end !== undefined) await this.#link.lost; // Whoever asks at once: joining begins a moment later.
    while (this.#joining !== undefined) await this.#joining;
    if (this.#loss !== undefined)
      throw new RunnerError(this.#loss.code, `sandbox ${this.spec.id} cannot be used: ${this.#loss.reason}`);
    return this.#link;
  }

  #takeNumber(): number {
    return this.#numbers.take([...this.#calls.keys(), this.#gateways.number ?? 0]);
  }

  #watch(link: Link): void {
    void link.lost.then((reason) => {
      if (this.#closing || this.#loss !== undefined || link !== this.#link) return;
      if (reason.code !== 'sandbox_lost' || link.final) return this.#giveUp(reason);
      this.#joining = this.#reattach(reason).finally(() => {
        this.#joining = undefined;
      });
    });
  }

  /** The stream is gone: with PID 1, or only the connection to it? Never rejects. */
  async #reattach(reason: RunnerError): Promise<void> {
    try {
      await Promise.all([...this.#calls.values()].map((call) => call.settle()));
      const endMs = performance.now() + (this.#options.engineAwayMs ?? defaults.engineAwayMs);
      for (let tries = 0; tries < reattachTries && !this.#closing;) {
        const status = await this.#status(endMs);
        if (status === 'unknown') continue;
        if (status !== 'running') break;
        if (await this.#joinAgain()) return;
        tries++;
      }
      this.#giveUp(reason);
    } catch (error) {
      this.#giveUp(new RunnerError('sandbox_lost', `${reason.message}; ${messageOf(error)}`, { cause: error }));
    }
  }

  /** An engine that restarts leaves its containers running: it is given some time to come back. */
  async #status(endMs: number): Promise<'running' | 'gone' | 'unknown'> {
    try {
      const container = await this.#engine.inspect(this.containerId);
      return container?.status === 'running' && isSame(container, this.startedAt) ? 'running' : 'gone';
    } catch (error) {
      if (!(error instanceof RunnerError && error.retryable) || performance.now() > endMs) throw error;
      await sleep(engineRetryMs);
      return 'unknown';
    }
  }

  /** False when it may be tried once more. */
  async #joinAgain(): Promise<boolean> {
    let stream: ContainerStream | undefined;
    try {
      stream = await this.#engine.attach(this.containerId);
    } catch {
      return false;
    }
    const startMs = performance.now();
    let joined: Joined | undefined;
    try {
      const timed = { ...linkOptions(this.#options), timeoutMs: reattachTimeoutMs };
      joined = await resume(stream, timed);
      const { link, welcome } = joined;
      await refuseRestarted(this.#engine, this.containerId, this.startedAt);
      if (this.#closing) {
        link.shutdown();
        link.destroy(new RunnerError('run_not_open', 'the sandbox was closed'));
        return true;
      }
      this.#link = link;
      this.#goOn(link, welcome);
      this.#watch(link);
      return true;
    } catch (error) {
      joined?.link.destroy(asLoss(error));
      stream.duplex.destroy();
      if (performance.now() - startMs > reattachTimeoutMs - 100) throw error;
      return false;
    }
  }

  /** Every call that both sides know goes on; one that never arrived is sent again, one that nobody here knows is ended. */
  #goOn(link: Link, welcome: Welcome): void {
    const known = new Set(this.#calls.keys());
    const leftovers: Promise<void>[] = [];
    for (const entry of welcome.calls) {
      const call = this.#calls.get(entry.call);
      known.delete(entry.call);
      if (call === undefined) leftovers.push(endLeftover(link, entry));
      else call.resume(link, entry);
    }
    this.#leftovers = Promise.all(leftovers);
    for (const number of known) this.#calls.get(number)?.repeat(link);
  }

  #findCalls(lines: readonly LedgerLine[], link: Link, welcome: Welcome): RunningCall[] {
    const done = new Set(lines.filter((line) => line.kind === 'done').map((line) => line.number));
    for (const line of lines) {
      if (line.kind !== 'call') continue;
      this.#ids.add(line.id);
      if (!done.has(line.number)) this.#calls.set(line.number, new RunningCall(this.#host, link, line, true));
    }
    const calls = [...this.#calls.values()];
    this.#goOn(link, welcome);
    return calls;
  }

  #forget(call: RunningCall): void {
    this.#calls.delete(call.number);
    this.#settling.add(call);
    void call.gone.then(() => this.#settling.delete(call));
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
    const calls = [...this.#calls.values()];
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
