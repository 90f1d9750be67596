import { setTimeout as sleep } from 'node:timers/promises';
import type { Credentials } from '../credentials/credentials.ts';
import { RunnerError } from '../errors.ts';
import { EgressRules } from '../policy/decisions/egress-rules.ts';
import type { EffectiveEgress } from '../policy/layers/effective-egress.ts';
import { registryEnvironment } from '../registries/environment.ts';
import type { InnerConnection } from '../sandbox/gateway/gateway.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { Ask } from './checkpoint/ask.ts';
import { Authority } from './http/authority.ts';
import { Checkpoint } from './checkpoint/checkpoint.ts';
import { proxyEnvironment, trustEnvironment, writeTrust } from './client-files.ts';
import type { Conversation } from './conversation.ts';
import type { DeniedEgress } from './checkpoint/denials.ts';
import { Entrance, proxyPort } from './entrance.ts';
import type { HttpDeps } from './http/http-deps.ts';
import { serveProxy } from './http/http-proxy.ts';
import { serveHttp } from './http/http.ts';
import type { Judge } from './checkpoint/judge.ts';
import type { Network } from './outside/network.ts';
import { passThrough } from './raw/pass-through.ts';
import type { EgressRecord } from './checkpoint/record.ts';
import { addressesPerGeneration, type KeptFence, type ResumedFence } from './kept.ts';
import { RunningCalls } from './running-calls.ts';
import { carryUpstream } from './raw/upstream.ts';

export interface FenceParts {
  readonly sandbox: Pick<Sandbox, 'openGateway' | 'state' | 'files'>;
  readonly egress: EffectiveEgress;
  readonly network: Network;
  readonly credentials: Credentials;
  readonly record: EgressRecord;
  /** A budget of names is spent, and the policy says that the run ends then. Told once. */
  readonly onStop: (reason: string) => void;
  /** The sandbox has had a way out before: what programs in it hold and trust stays what it was. */
  readonly resumed?: ResumedFence;
}

/** Decisions on record in a run: what a few installations of many packages need, and a bound on the journal. */
const recordsMax = 50_000;
const endWithinMs = 1_000;

/**
 * The only way out of one sandbox, from opening to close. Promises:
 *  - what is inside has no other way: no interface, no route, no resolver; here nothing passes that the checkpoint has not let
 *    through and put on record;
 *  - once it is closed, or its gateway, stream or runner is gone, no byte passes;
 *  - what it is narrowed to it never outgrows again.
 */
export class Fence {
  readonly credentials: Credentials;
  readonly calls = new RunningCalls();
  /** It looks into TLS, and has written what programs inside are to trust. */
  readonly terminates: boolean;
  readonly #parts: FenceParts;
  readonly #authority: Authority | undefined;
  readonly #checkpoint: Checkpoint;
  readonly #http: HttpDeps;
  readonly #serving = new Set<Promise<void>>();
  #entrance: Entrance | undefined;
  #closing: Promise<void> | undefined;

  private constructor(parts: FenceParts, authority: Authority | undefined) {
    const { egress, network, credentials, record, onStop, resumed } = parts;
    this.#parts = parts;
    this.#authority = authority;
    this.credentials = credentials;
    this.terminates = authority !== undefined;
    this.#checkpoint = new Checkpoint({
      rules: new EgressRules(egress),
      record,
      mode: egress.mode,
      limits: { ...egress.dns, maxRecords: recordsMax },
      runningCalls: () => this.calls.all,
      ...(resumed === undefined ? {} : { before: resumed.before }),
      onStop,
    });
    this.#http = { checkpoint: this.#checkpoint, network, authority: authority ?? noAuthority, credentials };
  }

  /** Before any tool has run, or where one ran before this process did. Rejects with `policy_unenforceable` when the sandbox cannot be given what it needs. */
  static async open(parts: FenceParts): Promise<Fence> {
    const authority = parts.egress.rules.some(({ tls }) => tls === 'terminate') ? await authorityOf(parts) : undefined;
    const fence = new Fence(parts, authority);
    const { sandbox, resumed } = parts;
    const firstAddress = (resumed?.generation ?? 0) * addressesPerGeneration;
    const [entrance] = await Promise.all([
      Entrance.open({ sandbox, checkpoint: fence.#checkpoint, guide: fence.#guide, firstAddress }),
      // What the tools could have written to since is never written again.
      authority === undefined || resumed !== undefined ? undefined : writeTrust(sandbox.files, authority.pem),
    ]);
    fence.#entrance = entrance;
    return fence;
  }

  /** Variables for a call: where packages and the proxy are, what to trust, and what stands for credentials. */
  environment(callId: string): Readonly<Record<string, string>> {
    return {
      ...registryEnvironment(this.#parts.egress.registries),
      ...proxyEnvironment(callId),
      ...(this.terminates ? trustEnvironment() : {}),
      ...this.credentials.environment(),
    };
  }

  /** Secret: for the run's own directory. */
  kept(): KeptFence {
    const authority = this.#authority?.kept();
    return { ...(authority === undefined ? {} : { authority }), placeholders: this.credentials.placeholders };
  }

  /** What was refused while this call ran, and is or may be its. */
  deniedOf(callId: string): readonly DeniedEgress[] {
    return this.#checkpoint.deniedOf(callId);
  }

  /** From here on these rules hold as well; what is under way and no longer fits is cut. There is no way back. */
  narrow(rules: Judge): void {
    this.#checkpoint.narrow(rules);
  }

  /** Nothing is sent with it any more; what carries it is cut. Returns how many requests that were. */
  revoke(credential: string): number {
    const cut = this.credentials.revoke(credential);
    this.#checkpoint.cut((rule) => rule.credential === credential, `the credential ${credential} was revoked`);
    return cut;
  }

  /** To what listens on the loopback inside, for a port forward. Rejects with a `SocketError` when nobody does. */
  async connect(port: number): Promise<InnerConnection> {
    if (this.#entrance === undefined) throw new Error('the fence is not open');
    return this.#entrance.connect(port);
  }

  /** Everything is cut and told, within a second or so. May be called twice; never rejects. */
  close(reason = 'the run is closing'): Promise<void> {
    this.#closing ??= this.#close(reason);
    return this.#closing;
  }

  async #close(reason: string): Promise<void> {
    await Promise.all([this.#checkpoint.close(reason), this.#entrance?.close()]);
    const late = sleep(endWithinMs, undefined, { ref: false });
    await Promise.race([Promise.all(this.#serving), late]);
  }

  readonly #guide = {
    callId: () => this.calls.sole,
    toName: (inner: InnerConnection, { host, port }: { readonly host: string; readonly port: number }) =>
      this.#serve(inner, { host, port, callId: this.calls.sole, via: 'name' }, (ask) => this.#carry({ ...ask, inner })),
    toProxy: (inner: InnerConnection) =>
      this.#serve(inner, { host: 'proxy', port: proxyPort, callId: this.calls.sole, via: 'proxy' }, () =>
        serveProxy(inner, (authorization) => this.calls.presented(authorization), {
          checkpoint: this.#checkpoint,
          carry: (conversation) => this.#carry(conversation),
          http: this.#http,
        }),
      ),
  };

  /** One connection from inside, while there are not too many. */
  async #serve(inner: InnerConnection, ask: Ask, handle: (ask: Ask) => Promise<void>): Promise<void> {
    const { maxConnections } = this.#parts.egress;
    if (this.#closing !== undefined) return inner.reset();
    if (this.#serving.size >= maxConnections) {
      inner.reset();
      const reason = `${maxConnections} connections are open, which is all that a run may have at once`;
      await this.#checkpoint.refuse(ask, { reason, rule: 'egress.max_connections' });
      return;
    }
    const served = handle(ask).catch(() => inner.reset());
    this.#serving.add(served);
    await served;
    this.#serving.delete(served);
  }

  /** Whatever carries it decides again, and records: here is only chosen who that is. */
  async #carry(conversation: Conversation): Promise<void> {
    const checkpoint = this.#checkpoint;
    const { network } = this.#parts;
    switch (checkpoint.route(conversation).kind) {
      case 'pass_through':
        return passThrough(conversation, { checkpoint, network });
      case 'upstream':
        return carryUpstream(conversation, { checkpoint, network });
      case 'terminate':
        return serveHttp(conversation, { tls: true }, this.#http);
      case 'plain':
        return serveHttp(conversation, { tls: false }, this.#http);
      case 'refused':
        // Each refuses in words that its clients read; what is neither is closed.
        if (conversation.port === 80) return serveHttp(conversation, { tls: false }, this.#http);
        if (conversation.port === 443) return passThrough(conversation, { checkpoint, network });
        return carryUpstream(conversation, { checkpoint, network });
    }
  }
}

async function authorityOf({ resumed }: FenceParts): Promise<Authority> {
  if (resumed === undefined) return Authority.create();
  const { authority } = resumed.kept;
  if (authority !== undefined) return Authority.reopen(authority);
  throw new RunnerError('sandbox_lost', 'the authority that programs in the sandbox trust was not kept');
}

const noAuthority: HttpDeps['authority'] = {
  contextOf: (host) => {
    throw new Error(`no rule of this run looks into TLS with ${host}`);
  },
};
