import type { Duplex } from 'node:stream';
import type { Controlled, RunState } from '../control/controlled.ts';
import { Door } from '../control/door.ts';
import type { Fence } from '../egress/fence.ts';
import type { SealWatch } from '../egress/seal-watch.ts';
import { messageOf, RunnerError } from '../errors.ts';
import type { Journal } from '../journal/writer.ts';
import { EgressRules } from '../policy/decisions/egress-rules.ts';
import type { LoadedPolicy } from '../policy/policy.ts';
import type { Gateway } from '../sandbox/gateway/gateway.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import { SocketError } from '../sandbox/gateway/socket-error.ts';

export interface ControlParts {
  readonly id: string;
  readonly policy: Pick<LoadedPolicy, 'policy'>;
  readonly sandbox: Pick<Sandbox, 'openGateway'>;
  readonly journal: Pick<Journal, 'append'>;
  /** Absent where the policy lets nothing out. */
  readonly fence: Pick<Fence, 'narrow' | 'revoke' | 'connect' | 'credentials' | 'close'> | undefined;
  /** That there is no other way out. */
  readonly seal?: Pick<SealWatch, 'holds' | 'stop'>;
}

/**
 * What can be done to an open run besides calling tools: take away from what it may reach, and reach into it. What takes away
 * does not wait for its record, and holds even where that fails.
 */
export class RunControl implements Controlled {
  readonly id: string;
  readonly #parts: ControlParts;
  readonly #without = new Set<string>();
  #gateway: Promise<Gateway> | undefined;
  #door: Door | undefined;
  #closed = false;

  constructor(parts: ControlParts) {
    this.id = parts.id;
    this.#parts = parts;
  }

  /** With a door in this directory, for the owner's other processes. */
  static async open(directory: string, parts: ControlParts): Promise<RunControl> {
    const control = new RunControl(parts);
    control.#door = await Door.open(directory, control);
    return control;
  }

  /** What was taken away under the runner before; it is on record already. */
  restore({ without, revoked }: { readonly without: readonly string[]; readonly revoked: readonly string[] }): void {
    if (without.length > 0) this.#takeAway(without);
    for (const name of revoked) this.#parts.fence?.revoke(name);
  }

  state(): RunState {
    const { policy, fence } = this.#parts;
    return {
      run: this.id,
      policy: policy.policy.name,
      egress: { rules: this.#left().map(({ id }) => id), without: [...this.#without] },
      credentials: { names: fence?.credentials.names ?? [], revoked: fence?.credentials.revoked ?? [] },
    };
  }

  async narrowEgress(without: readonly string[]): Promise<RunState> {
    this.#refuseClosed();
    const { fence, journal } = this.#parts;
    const known = new Set(this.#all().flatMap(({ id, profile }) => [id, profile]));
    const unknown = without.find((name) => !known.has(name));
    if (fence === undefined || unknown !== undefined)
      throw this.#hasNone('profile, rule or upstream', unknown, [...known]);
    this.#takeAway(without);
    await journal.append({ type: 'egress.narrowed', data: { without: [...without] } });
    return this.state();
  }

  #takeAway(without: readonly string[]): void {
    for (const name of without) this.#without.add(name);
    const left = new Set(this.#left().map(({ id }) => id));
    const { egress } = this.#parts.policy.policy;
    const stays = ({ id }: { readonly id: string }): boolean => left.has(id);
    const rules = egress.rules.filter(stays);
    this.#parts.fence?.narrow(new EgressRules({ ...egress, rules, upstreams: egress.upstreams.filter(stays) }));
  }

  async revokeCredential(name: string): Promise<RunState> {
    this.#refuseClosed();
    const { fence, journal } = this.#parts;
    const names = fence?.credentials.names ?? [];
    if (fence === undefined || !names.includes(name)) throw this.#hasNone('credential', name, names);
    const cut = fence.revoke(name);
    await journal.append({ type: 'credential.revoked', data: { credential: name, cut } });
    return this.state();
  }

  async forward(port: number): Promise<Duplex> {
    this.#refuseClosed();
    if (!Number.isInteger(port) || port < 1 || port > 65_535)
      throw new RunnerError('invalid_request', `a port is a whole number from 1 to 65535, not ${port}`);
    const { fence } = this.#parts;
    try {
      if (fence !== undefined) return await fence.connect(port);
      return await (await this.#ownGateway()).connect('127.0.0.1', port);
    } catch (error) {
      if (!(error instanceof SocketError)) throw error;
      const message = `port ${port} of 127.0.0.1 in run ${this.id}: ${messageOf(error)}; start what listens there first`;
      throw new RunnerError('invalid_request', message, { cause: error });
    }
  }

  /**
   * Nothing can be done to the run any more, and nothing passes. Where nothing runs inside either, it is looked once more for
   * another way out: the sandbox is lost that has one. May be called twice; never rejects.
   */
  async close(inside: 'ended' | 'goes on' = 'ended'): Promise<void> {
    this.#closed = true;
    await Promise.all([this.#door?.close(), this.#parts.fence?.close()]);
    const gateway = await this.#gateway?.catch(() => undefined);
    await gateway?.close();
    await (inside === 'ended' ? this.#parts.seal?.holds() : this.#parts.seal?.stop());
  }

  #refuseClosed(): void {
    if (this.#closed) throw new RunnerError('run_not_open', `run ${this.id} is closed; open another one`);
  }

  /** Where nothing leads out there is no fence that has one. A lost one is opened anew when it is needed. */
  #ownGateway(): Promise<Gateway> {
    this.#gateway ??= this.#parts.sandbox
      .openGateway({
        connection: (inner) => inner.reset(),
        datagram: () => undefined,
        lost: () => (this.#gateway = undefined),
      })
      .catch((error: unknown) => {
        this.#gateway = undefined;
        throw error;
      });
    return this.#gateway;
  }

  /** An upstream is a rule and its own profile. */
  #all(): readonly { readonly id: string; readonly profile: string }[] {
    const { rules, upstreams } = this.#parts.policy.policy.egress;
    return [...rules, ...upstreams.map(({ id }) => ({ id, profile: id }))];
  }

  #left(): readonly { readonly id: string }[] {
    return this.#all().filter(({ id, profile }) => !this.#without.has(id) && !this.#without.has(profile));
  }

  #hasNone(what: string, name: string | undefined, names: readonly string[]): RunnerError {
    const shown = name === undefined ? '' : ` ${JSON.stringify(name.slice(0, 64))}`;
    const known = names.length === 0 ? 'it has none' : `it has ${names.join(', ')}`;
    return new RunnerError('invalid_request', `run ${this.id} has no ${what}${shown}; ${known}`);
  }
}
