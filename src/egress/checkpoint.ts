import { messageOf } from '../errors.ts';
import { clean, recordedPath } from './clean.ts';
import type { Conversation } from './conversation.ts';
import { Denials, type DeniedThing, type EgressDenial } from './denials.ts';
import { EgressFailure } from './failure.ts';
import type { AddressDecision, EffectiveEgressRule, Judge, Refused, Upstream } from './judge.ts';
import { NameBudget, type NameLimits } from './name-budget.ts';
import { IssuedPass, type Pass } from './pass.ts';
import { unboundRule, unlistedRule } from './unlisted-rule.ts';
import type { EgressDecided, EgressEnded, EgressRecord } from './record.ts';

export type { AddressDecision } from './judge.ts';
export type { Pass, PassEnd } from './pass.ts';

/** What is asked for, apart from the connection that asks. */
export type Ask = Pick<Conversation, 'host' | 'port' | 'callId' | 'via'>;

export interface RequestAsk {
  readonly method: string;
  readonly url: URL;
  readonly websocket: boolean;
}

/** How a connection is carried; what is refused here is recorded by `connection`. */
export type Route =
  | { readonly kind: 'pass_through' | 'terminate' | 'plain' | 'refused' }
  | { readonly kind: 'upstream'; readonly upstream: Upstream };

export type NameDecision =
  | { readonly kind: 'listed'; readonly ports: readonly number[] }
  | { readonly kind: 'refused'; readonly reason: string };

export interface CheckpointLimits extends NameLimits {
  /** Decisions on record in a run; after that everything is denied. */
  readonly maxRecords: number;
}

export interface CheckpointParts {
  readonly rules: Judge;
  readonly record: EgressRecord;
  readonly mode: 'enforce' | 'observe';
  readonly limits: CheckpointLimits;
  /** Calls that may be behind something that is attributed to none. */
  readonly runningCalls?: () => readonly string[];
  /** A budget with `stop_run` is spent: told once. */
  readonly onStop?: (reason: string) => void;
}

/** Found to be allowed, not on record yet. */
interface Leave {
  readonly rule: EffectiveEgressRule | undefined;
  readonly upstream: Upstream | undefined;
  /** Why it would have been refused, where that is only observed. */
  readonly observed?: Refused;
}

type Question =
  | { readonly kind: 'connection'; readonly ask: Ask }
  | { readonly kind: 'request'; readonly ask: Ask; readonly request: RequestAsk };

/** Why something is refused, and what would allow it. */
export interface Why {
  readonly reason: string;
  readonly rule?: string;
  readonly hint?: string;
  readonly request?: RequestAsk;
}

/** Where it is only observed that no rule lists a name, these ports are served. */
const observedPorts = [80, 443];

/**
 * Decides, counts and records; nothing passes that has not asked here. Promises:
 *  - a decision is on record before anything happens because of it; no record, no effect;
 *  - doubt denies: rules that throw, a record that fails, a budget that is spent;
 *  - what was let through is cut when its rules are narrowed, its bounds are over, or the run closes.
 */
export class Checkpoint {
  readonly #parts: CheckpointParts;
  readonly #names: NameBudget;
  readonly #denials = new Denials();
  readonly #passes = new Map<IssuedPass, Question>();
  /** Requests and connections that each rule has let through. */
  readonly #taken = new Map<string, number>();
  /** Names that were answered, each of which is on record once. */
  readonly #answered = new Set<string>();
  #rules: Judge;
  #lastId = 0;
  /** Why nothing passes any more. */
  #shut: string | undefined;

  constructor(parts: CheckpointParts) {
    this.#parts = parts;
    this.#rules = parts.rules;
    this.#names = new NameBudget(parts.limits, (reason) => parts.onStop?.(reason));
  }

  /** Pure: says only which handler carries it. */
  route(ask: Pick<Ask, 'host' | 'port'>): Route {
    if (this.#shut !== undefined) return { kind: 'refused' };
    const answer = this.#judge((rules) => rules.connection({ host: ask.host, port: ask.port }));
    if (answer.kind === 'upstream') return answer;
    if (answer.kind === 'unlisted' && this.#observes) return { kind: ask.port === 80 ? 'plain' : 'pass_through' };
    return { kind: answer.kind === 'denied' || answer.kind === 'unlisted' ? 'refused' : answer.kind };
  }

  /** For pass-through and upstreams. Rejects with `EgressFailure('denied')`, which is on record too. */
  connection(ask: Ask): Promise<Pass> {
    return this.#issue({ kind: 'connection', ask });
  }

  /** For each request of a connection that is looked into. Rejects as `connection` does. */
  request(ask: Ask, request: RequestAsk): Promise<Pass> {
    return this.#issue({ kind: 'request', ask, request });
  }

  /** Rejects only when the answer cannot be recorded: then none is given. */
  async name(host: string, callId: string | undefined): Promise<NameDecision> {
    const ask: Ask = { host, port: 0, callId, via: 'name' };
    const answer = this.#judge((rules) => rules.name(host));
    const spent = answer.kind === 'listed' && answer.suffix ? this.#names.takeSuffixed(host) : undefined;
    const refused = spent === undefined ? (answer.kind === 'listed' ? undefined : answer) : spentBudget(spent);
    if (refused !== undefined && !this.#lets(refused)) {
      await this.#refuse('name', ask, { reason: refused.reason, ...ruleOf(refused), ...this.#hint(refused) }, refused);
      return { kind: 'refused', reason: refused.reason };
    }
    const key = `${refused === undefined ? 'l' : 'o'} ${host}`;
    if (!this.#answered.has(key)) {
      if (this.#shut !== undefined) return { kind: 'refused', reason: this.#shut };
      await this.#decided('name', ask, refused === undefined ? { decision: 'allowed' } : observedAs(refused));
      if (this.#answered.size < answeredMax) this.#answered.add(key);
    }
    return { kind: 'listed', ports: answer.kind === 'listed' ? answer.ports : observedPorts };
  }

  /** Records a refusal that a handler found out: another name in SNI or Host, a target that reads two ways. To be thrown. */
  refuse(ask: Ask, why: Why): Promise<EgressFailure> {
    return this.#refuse(why.request === undefined ? 'connection' : 'request', ask, why, undefined);
  }

  /** What these calls are told was refused to them. */
  deniedOf(callId: string): readonly EgressDenial[] {
    return this.#denials.of(callId);
  }

  /** From here on these rules hold. Passes that they answer otherwise are aborted. */
  narrow(rules: Judge): void {
    this.#rules = rules;
    for (const [pass, question] of this.#passes) {
      const answer = this.#answer(question);
      const same = 'leave' in answer && isSame(pass, answer.leave);
      if (!same) pass.cut('the policy of the run was narrowed');
      else pass.recheck();
    }
  }

  /** Aborts what goes under such rules, as when a credential is revoked. */
  cut(which: (rule: EffectiveEgressRule) => boolean, reason: string): void {
    for (const pass of this.#passes.keys()) if (pass.rule !== undefined && which(pass.rule)) pass.cut(reason);
  }

  /** Nothing passes any more; what is under way is cut and told, then what was only counted. May be called twice. */
  async close(reason: string): Promise<void> {
    this.#shut ??= reason;
    await Promise.all(
      [...this.#passes.keys()].map((pass) => {
        pass.cut(reason);
        return pass.end({ kind: 'cut', reason });
      }),
    );
    for (const counted of this.#denials.takeCounted()) await this.#parts.record.counted(counted);
  }

  get #observes(): boolean {
    return this.#parts.mode === 'observe';
  }

  /** What is on a list of denials, or cannot be judged, is refused in every mode. */
  #lets(refused: Refused): boolean {
    return this.#observes && refused.kind === 'unlisted' && this.#shut === undefined;
  }

  async #issue(question: Question): Promise<Pass> {
    const { ask, kind } = question;
    const request = kind === 'request' ? question.request : undefined;
    const more = request === undefined ? {} : { request };
    const answer = this.#shut === undefined ? this.#answer(question) : { refused: closed(this.#shut) };
    const spent = 'leave' in answer ? this.#take(ask, answer.leave) : undefined;
    const found =
      spent === undefined ? answer : this.#lets(spent) ? { leave: observedLeave(spent) } : { refused: spent };
    if ('refused' in found) {
      const { reason } = found.refused;
      throw await this.#refuse(
        kind,
        ask,
        { reason, ...ruleOf(found.refused), ...this.#hint(found.refused), ...more },
        found.refused,
      );
    }
    if (this.#lastId >= this.#parts.limits.maxRecords) {
      this.#shut ??= `the run has made ${this.#parts.limits.maxRecords} decisions, which is all that it may`;
      throw await this.#refuse(kind, ask, { reason: this.#shut, ...more }, closed(this.#shut));
    }
    return this.#pass(question, found.leave);
  }

  async #pass(question: Question, leave: Leave): Promise<Pass> {
    const { ask, kind } = question;
    const request = kind === 'request' ? question.request : undefined;
    const decision = leave.observed === undefined ? ({ decision: 'allowed' } as const) : observedAs(leave.observed);
    const rule = leave.rule?.id ?? leave.upstream?.id;
    const id = await this.#decided(kind, ask, { ...decision, ...(rule === undefined ? {} : { rule }) }, request);
    const bounding = leave.rule ?? (leave.upstream === undefined ? unlistedRule : unboundRule);
    const pass = new IssuedPass({
      id,
      rule: leave.rule,
      upstream: leave.upstream,
      bounds: bounding,
      judgeAddress: (address) => this.#address(bounding, address),
      ended: (ended, entry) => this.#ended(ended, question, entry),
    });
    this.#passes.set(pass, question);
    // While it was being written, the run may have closed or the rules changed.
    const now = this.#shut === undefined ? this.#answer(question) : { refused: closed(this.#shut) };
    if ('leave' in now && isSame(pass, now.leave)) return pass;
    const cut = pass.cut(this.#shut ?? 'the policy of the run was narrowed');
    await pass.end({ kind: 'cut', reason: cut.reason });
    throw cut;
  }

  /** What the rules say, and what is let through where it is only observed. */
  #answer(question: Question): { readonly leave: Leave } | { readonly refused: Refused } {
    const { ask } = question;
    const refusedBy = (refused: Refused) => (this.#lets(refused) ? { leave: observedLeave(refused) } : { refused });
    if (question.kind === 'request') {
      const answer = this.#judge((rules) => rules.decide(question.request));
      return answer.kind === 'allowed' ? { leave: { rule: answer.rule, upstream: undefined } } : refusedBy(answer);
    }
    const answer = this.#judge((rules) => rules.connection({ host: ask.host, port: ask.port }));
    switch (answer.kind) {
      case 'pass_through':
        return { leave: { rule: answer.rule, upstream: undefined } };
      case 'upstream':
        return { leave: { rule: undefined, upstream: answer.upstream } };
      case 'terminate':
      case 'plain':
        return { refused: { kind: 'denied', reason: 'it is judged request by request, not as a connection' } };
      case 'denied':
      case 'unlisted':
        return refusedBy(answer);
    }
  }

  /** Budgets of the rule and of names, taken now. */
  #take({ host }: Ask, { rule, upstream, observed }: Leave): Refused | undefined {
    if (upstream !== undefined || observed !== undefined || rule === undefined) return undefined;
    const named = this.#judge((rules) => rules.name(host));
    const tooMany = named.kind === 'listed' && named.suffix ? this.#names.takeSuffixed(host) : undefined;
    if (tooMany !== undefined) return spentBudget(tooMany);
    const key = `${rule.profile}/${rule.id}`;
    const taken = this.#taken.get(key) ?? 0;
    if (taken >= rule.maxRequests) {
      const reason = `rule ${rule.id} lets ${rule.maxRequests} requests through in a run, and all of them are used`;
      return { kind: 'unlisted', id: rule.id, reason };
    }
    this.#taken.set(key, taken + 1);
    return undefined;
  }

  #address(rule: EffectiveEgressRule, address: string): AddressDecision {
    try {
      return this.#rules.address(rule, address);
    } catch (error) {
      return { kind: 'denied', id: 'gate.egress', reason: `the address cannot be judged: ${messageOf(error)}` };
    }
  }

  #judge<T>(ask: (rules: Judge) => T): T | Refused {
    try {
      return ask(this.#rules);
    } catch (error) {
      return { kind: 'denied', id: 'gate.egress', reason: `the rules cannot be evaluated: ${messageOf(error)}` };
    }
  }

  #hint(refused: Refused): { hint: string } | undefined {
    return refused.hint === undefined ? undefined : { hint: refused.hint };
  }

  async #refuse(
    kind: EgressDecided['kind'],
    ask: Ask,
    { reason, rule, hint = '', request }: Why,
    refused: Refused | undefined,
  ): Promise<EgressFailure> {
    const failure = new EgressFailure('denied', reason, { rule, hint });
    const thing = { ...thingOf(ask, request), rule, reason, hint };
    this.#tell(ask, thing);
    const listed = refused?.kind !== 'unlisted' || this.#names.takeUnlisted(ask.host);
    if (!listed || this.#lastId >= this.#parts.limits.maxRecords) this.#denials.count(thing);
    else if (this.#denials.takeFull(thing)) {
      const told = { decision: 'denied', reason, ...(rule === undefined ? {} : { rule }) } as const;
      await this.#decided(kind, ask, told, request).catch((error: unknown) => {
        if (kind === 'name') throw error;
      });
    }
    return failure;
  }

  #tell({ callId }: Ask, thing: DeniedThing): void {
    this.#denials.note(callId === undefined ? (this.#parts.runningCalls?.() ?? []) : [callId], thing);
  }

  /** Takes the next number and writes; a record that fails shuts everything. */
  async #decided(
    kind: EgressDecided['kind'],
    ask: Ask,
    told: Pick<EgressDecided, 'decision' | 'reason' | 'rule'>,
    request?: RequestAsk,
  ): Promise<number> {
    this.#lastId += 1;
    const id = this.#lastId;
    try {
      await this.#parts.record.decided({
        id,
        kind,
        via: ask.via,
        ...(ask.callId === undefined ? {} : { callId: ask.callId }),
        host: clean(ask.host, 255),
        ...(kind === 'name' ? {} : { port: ask.port }),
        ...(request === undefined ? {} : recorded(request)),
        ...told,
        ...(told.reason === undefined ? {} : { reason: clean(told.reason, 500) }),
      });
      return id;
    } catch (cause) {
      this.#shut ??= `what passes cannot be recorded: ${messageOf(cause)}`;
      throw new EgressFailure('denied', this.#shut, { cause });
    }
  }

  async #ended(pass: IssuedPass, { ask, ...question }: Question, entry: EgressEnded): Promise<void> {
    this.#passes.delete(pass);
    const request = 'request' in question ? question.request : undefined;
    const reason = entry.reason === undefined ? undefined : clean(entry.reason, 500);
    if (entry.result === 'denied' || entry.result === 'cut')
      this.#tell(ask, { ...thingOf(ask, request), rule: pass.rule?.id, reason: reason ?? entry.result, hint: '' });
    try {
      await this.#parts.record.ended({ ...entry, ...(reason === undefined ? {} : { reason }) });
    } catch (cause) {
      this.#shut ??= `what passes cannot be recorded: ${messageOf(cause)}`;
    }
  }
}

/** More names than these are on record each time that they are asked for. */
const answeredMax = 10_000;

function isSame(pass: Pass, leave: Leave): boolean {
  return JSON.stringify([pass.rule, pass.upstream]) === JSON.stringify([leave.rule, leave.upstream]);
}

function observedLeave(observed: Refused): Leave {
  return { rule: undefined, upstream: undefined, observed };
}

function observedAs(refused: Refused): Pick<EgressDecided, 'decision' | 'reason' | 'rule'> {
  return { decision: 'observed', reason: refused.reason, ...ruleOf(refused) };
}

function ruleOf({ id }: Refused): { rule: string } | undefined {
  return id === undefined ? undefined : { rule: id };
}

function spentBudget(reason: string): Refused {
  return { kind: 'unlisted', id: 'egress.dns', reason };
}

function closed(reason: string): Refused {
  return { kind: 'denied', reason };
}

function recorded({ method, url }: RequestAsk): Pick<EgressDecided, 'scheme' | 'method' | 'path'> {
  return { scheme: clean(url.protocol.replace(/:$/, ''), 16), method: clean(method, 32), path: recordedPath(url) };
}

function thingOf({ host, port }: Ask, request: RequestAsk | undefined): Omit<DeniedThing, 'reason' | 'hint'> {
  const about = request === undefined ? {} : { method: request.method, path: request.url.pathname };
  return { host, ...(port === 0 ? {} : { port }), ...about };
}
