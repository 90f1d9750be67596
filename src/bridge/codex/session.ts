import { Deadline } from '../../deadline.ts';
import { callIdPattern, newId } from '../../ids.ts';
import type { DelegatedRun } from '../../run/delegated-run.ts';
import { rpcCodes } from '../../stdio/in-flight.ts';
import { FileVerbs } from './file-verbs.ts';
import type { Paths } from './paths.ts';
import { CodexProcess, type Notify } from './process.ts';
import * as protocol from './protocol.ts';

const processesMax = 64;
const idsMax = 100_000;
const shellMs = 5_000;

/**
 * What a client has started in a run. It outlives a connection: who connects again with its id goes on with the same processes.
 * Only one connection is told of what they print.
 */
export class CodexSession {
  readonly id: string;
  readonly #run: () => Promise<DelegatedRun>;
  readonly #paths: Paths;
  readonly #processes = new Map<string, CodexProcess>();
  /** An id is never another process's. */
  readonly #used = new Set<string>();
  #files: FileVerbs | undefined;
  #notify: Notify | undefined;

  constructor(id: string, run: () => Promise<DelegatedRun>, paths: Paths) {
    this.id = id;
    this.#run = run;
    this.#paths = paths;
  }

  /** From now on this connection is told, and no other. */
  attach(notify: Notify): void {
    this.#notify = notify;
  }

  isAttached(notify: Notify): boolean {
    return this.#notify === notify;
  }

  detach(notify: Notify): void {
    if (this.isAttached(notify)) this.#notify = undefined;
  }

  /** What the client asks, by method; undefined: there is no such method. */
  async handle(method: string, params: unknown): Promise<Record<string, unknown> | undefined> {
    const own = Object.hasOwn(this.#methods, method) ? this.#methods[method] : undefined;
    if (own !== undefined) return own(params);
    if (!method.startsWith('fs/')) return undefined;
    this.#files ??= new FileVerbs(await this.#run(), this.#paths);
    return this.#files.find(method)?.(params);
  }

  /** Where the client's commands and files will be. Nothing else is offered: what it does not find it does not ask for. */
  async environment(): Promise<Record<string, unknown>> {
    const bash = await Deadline.run(shellMs, 'looking for a shell', () => this.#hasBash()).catch(() => true);
    return {
      shell: bash ? { name: 'bash', path: '/bin/bash' } : { name: 'sh', path: '/bin/sh' },
      cwd: this.#paths.outside('/workspace', '/workspace'),
      platformOs: 'linux',
      tempDir: 'file:///tmp',
    };
  }

  async #hasBash(): Promise<boolean> {
    const run = await this.#run();
    return (await run.call(newId(), { tool: 'stat', path: '/bin/bash' })).error?.code !== 'not_found';
  }

  readonly #methods: Readonly<Record<string, (params: unknown) => Promise<Record<string, unknown>>>> = {
    'environment/info': () => this.environment(),
    'process/start': async (params) => {
      const { processId } = await this.#start(protocol.StartParams.parse(params));
      return { processId };
    },
    'process/read': async (params) => {
      const parsed = protocol.ReadParams.parse(params);
      return this.#get(parsed.processId).read(parsed);
    },
    'process/write': async (params) => {
      const parsed = protocol.WriteParams.parse(params);
      const process = this.#processes.get(parsed.processId);
      return process === undefined ? { status: 'unknownProcess' } : process.write(parsed);
    },
    'process/signal': async (params) => {
      await this.#get(protocol.SignalParams.parse(params).processId).interrupt();
      return {};
    },
    'process/terminate': async (params) => {
      const process = this.#processes.get(protocol.ProcessParams.parse(params).processId);
      return { running: (await process?.terminate()) ?? false };
    },
  };

  async #start(params: protocol.StartParams): Promise<protocol.StartParams> {
    const { processId } = params;
    if (!callIdPattern.test(processId))
      throw new protocol.RpcError(rpcCodes.badParams, `a process id here matches ${callIdPattern.source}`);
    if (this.#used.has(processId))
      throw new protocol.RpcError(rpcCodes.invalid, `the process ${processId} was started before; take another id`);
    this.#forgetEnded();
    if (this.#processes.size >= processesMax || this.#used.size >= idsMax)
      throw new protocol.RpcError(rpcCodes.invalid, `${processesMax} processes are there; end one, then try again`);
    const cwd = this.#paths.inside(params.cwd);
    this.#used.add(processId);
    const run = await this.#run();
    const notify: Notify = async (method, told) => this.#notify?.(method, told);
    this.#processes.set(processId, await CodexProcess.start(run, params, cwd, notify));
    return params;
  }

  #get(processId: string): CodexProcess {
    const process = this.#processes.get(processId);
    if (process === undefined)
      throw new protocol.RpcError(rpcCodes.invalid, `there is no process ${JSON.stringify(processId)}`);
    return process;
  }

  /** Makes room: those that ended first go first. */
  #forgetEnded(): void {
    for (const [id, process] of this.#processes) {
      if (this.#processes.size < processesMax) return;
      if (process.closed) this.#processes.delete(id);
    }
  }
}
