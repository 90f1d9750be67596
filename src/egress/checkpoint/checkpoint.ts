import { messageOf } from '../../errors.ts';
import { isOwnTarget, type Ask, type Question, type RequestAsk } from './ask.ts';
import type { DeniedEgress } from './denials.ts';
import type { EgressFailure } from '../failure.ts';
import {
  narrowedBy,
  type AddressDecision,
  type EffectiveEgressRule,
  type Judge,
  type Refused,
  type Upstream,
} from './judge.ts';
import type { EgressBefore } from '../kept.ts';
import { NameBudget, type NameLimits } from './name-budget.ts';
import { IssuedPass, type Pass } from './pass.ts';
import type { EgressDecided, EgressRecord } from './record.ts';
import { Recorder, type Why } from './recorder.ts';
import { observedBounds, upstreamBounds } from './bounds.ts';

export type { Ask, RequestAsk } from './ask.ts';
export type { Pass, PassEnd } from './pass.ts';

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
  /** `observe`: what no rule lists is recorded as `observed` and let through. */
  readonly mode: 'enforce' | 'observe';
  readonly limits: CheckpointLimits;
  /** Calls that may be behind what is attributed to none. */
  readonly runningCalls?: () => readonly string[];
  /** What another runner has let through before. */
  readonly before?: EgressBefore;
  /** A budget with `stop_run` is spent: told once. */
  readonly onStop?: (reason: string) => void;
}

/** Found to be allowed. */
interface Leave {
  readonly rule?: EffectiveEgressRule;
  readonly upstream?: Upstream;
  /** Why it would have been refused, where that is only observed. */
  readonly observed?: Refused;
}

type Answer = { readonly leave: Leave } | { readonly refused: Refused };

/** Where it is only observed that no rule lists a name, these ports are served. */
const observedPorts = [80, 443];
/** Names beyond these are on record each time that they are asked for. */
const answeredMax = 10_000;

/**
 * Decides, counts and records; nothing passes that has not asked here. Promises:
 *  - a decision is on record before anything happens because of it; no record, no effect;
 *  - doubt denies: rules that throw, a record that fails, a budget that is spent;
 *  - what was let through is cut when its rules are narrowed, its bounds are over, or the run closes.
 */
export class Checkpoint {
  readonly #parts: CheckpointParts;
  readonly #recorder: Recorder;
  readonly #names: NameBudget;
  readonly #passes = new Map<IssuedPass, Question>();
  readonly #deciding = new Set<Promise<Pass>>();
  /** How often each rule has let something through. */
  readonly #taken = new Map<string, number>();
  /** Each on record once, however often and in how many ways it is asked for. */
  readonly #answered = new Map<string, Promise<unknown>>();
  #rules: Judge;

  constructor(parts: CheckpointParts) {
    const { rules, record, mode, limits, before, runningCalls = () => [], onStop = () => undefined } = parts;
    this.#parts = parts;
    this.#rules = rules;
    const onBroken = (reason: string): void => this.#cutAll(reason);
    this.#recorder = new Recorder({
      record,
      recordsMax: limits.maxRecords,
      lastId: before?.lastId ?? 0,
      runningCalls,
      onBroken,
    });
    this.#names = new NameBudget(limits, mode === 'enforce' ? onStop : () => undefined);
    for (const host of before?.hosts ?? []) this.#countName(host);
  }

  /** Pure: says only which handler carries it. */
  route({ host, port }: Pick<Ask, 'host' | 'port'>): Route {
    const answer = this.#judge((rules) => rules.connection({ host, port }));
    if (answer.kind === 'upstream') return answer;
    if (answer.kind === 'unlisted' && this.#lets(answer)) return { kind: port === 80 ? 'plain' : 'pass_through' };
    return { kind: answer.kind === 'denied' || answer.kind === 'unlisted' ? 'refused' : answer.kind };
  }

  /** For pass-through and upstreams. Rejects with `EgressFailure('denied')`, which is on record too. */
  connection(ask: Ask): Promise<Pass> {
    return this.#decide({ kind: 'connection', ask });
  }

  /** For each request of a connection that is looked into. Rejects as `connection` does. */
  request(ask: Ask, request: RequestAsk): Promise<Pass> {
    return this.#decide({ kind: 'request', ask, request });
  }

  /** Rejects only when a name that is listed cannot be recorded: then it is not answered. */
  async name(host: string, callId: string | undefined): Promise<NameDecision> {
    const question = { kind: 'name', ask: { host, port: 0, callId, via: 'name' } } as const;
    const answer = this.#judge((rules) => rules.name(host));
    const refused = answer.kind === 'listed' ? (answer.suffix ? this.#spentNames(host) : undefined) : answer;
    if (refused !== undefined && !this.#lets(refused)) {
      const { reason } = await this.#refuse(question, whyOf(refused));
      return { kind: 'refused', reason };
    }
    const told = toldOf(refused === undefined ? {} : { observed: refused });
    const key = `${told.decision} ${host}`;
    const recorded = this.#answered.get(key) ?? this.#recorder.allowed(question, told);
    if (this.#answered.size < answeredMax) this.#answered.set(key, recorded);
    await recorded;
    return { kind: 'listed', ports: answer.kind === 'listed' ? answer.ports : observedPorts };
  }

  /** Records a refusal that a handler found out: another name in SNI or Host, a target that reads two ways. To be thrown. */
  refuse(ask: Ask, { request, ...why }: Why & { readonly request?: RequestAsk }): Promise<EgressFailure> {
    return this.#refuse({ kind: request === undefined ? 'connection' : 'request', ask, request }, why);
  }

  /** What this call is told was refused to it. */
  deniedOf(callId: string): readonly DeniedEgress[] {
    return this.#recorder.deniedOf(callId);
  }

  /** From here on these rules hold as well. Passes that are answered otherwise now are aborted. */
  narrow(rules: Judge): void {
    this.#rules = narrowedBy(this.#rules, rules);
    for (const [pass, question] of this.#passes) {
      if (this.#stillAllows(pass, question)) pass.recheck();
      else pass.cut('the policy of the run was narrowed');
    }
  }

  /** Aborts what goes under such rules, as when a credential is revoked. */
  cut(which: (rule: EffectiveEgressRule) => boolean, reason: string): void {
    for (const pass of this.#passes.keys()) if (pass.rule !== undefined && which(pass.rule)) pass.cut(reason);
  }

  /** Nothing passes any more; what is under way is cut and told, then what was only counted. May be called twice. */
  async close(reason: string): Promise<void> {
    this.#recorder.shutDown(reason);
    this.#cutAll(reason);
    await Promise.all([...this.#passes.keys()].map((pass) => pass.end({ kind: 'cut' })));
    await Promise.allSettled(this.#deciding);
    await this.#recorder.settle();
  }

  #cutAll(reason: string): void {
    for (const pass of this.#passes.keys()) pass.cut(reason);
  }

  async #decide(question: Question): Promise<Pass> {
    const deciding = this.#issue(question);
    this.#deciding.add(deciding);
    try {
      return await deciding;
    } finally {
      this.#deciding.delete(deciding);
    }
  }

  async #issue(question: Question): Promise<Pass> {
    const answer = this.#answer(question);
    if ('refused' in answer) throw await this.#refuse(question, whyOf(answer.refused));
    // One connection may hold many requests; each of them may cost the runner a socket and buffers.
    if (this.#passes.size + this.#deciding.size >= openMax) throw await this.#refuse(question, tooMany);
    const spent = this.#take(question.ask.host, answer.leave);
    if (spent === undefined) return this.#pass(question, answer.leave);
    if (!this.#lets(spent)) throw await this.#refuse(question, whyOf(spent));
    return this.#pass(question, { ...answer.leave, observed: spent });
  }

  async #pass(question: Question, leave: Leave): Promise<Pass> {
    const rules = this.#rules;
    const id = await this.#recorder.allowed(question, toldOf(leave));
    const bounds = leave.rule ?? (leave.upstream === undefined ? observedBounds : upstreamBounds);
    const pass = new IssuedPass({
      id,
      rule: leave.rule,
      upstream: leave.upstream,
      bounds,
      judgeAddress: (address) => this.#judgeAddress(bounds, address),
      ended: async (entry, refused) => {
        this.#passes.delete(pass);
        if (refused) this.#recorder.tell(question, { reason: entry.reason ?? entry.result, rule: leave.rule?.id });
        await this.#recorder.ended(entry);
      },
    });
    this.#passes.set(pass, question);
    // While that was written the run may have been closed, or its policy narrowed.
    const { shut } = this.#recorder;
    if (shut === undefined && (rules === this.#rules || this.#stillAllows(pass, question))) return pass;
    const cut = pass.cut(shut ?? 'the policy of the run was narrowed');
    await pass.end({ kind: 'cut' });
    throw cut;
  }

  #answer(question: Question): Answer {
    const { shut } = this.#recorder;
    if (shut !== undefined) return { refused: { kind: 'denied', id: 'egress.closed', reason: shut } };
    const { ask, request } = question;
    if (request !== undefined) {
      if (!isOwnTarget(question)) return { refused: otherTarget };
      const { method, url, text = url, read, websocket } = request;
      const asked = { method, url: text, websocket, ...(read === undefined ? {} : { read }) };
      const answer = this.#judge((rules) => rules.decide(asked));
      return answer.kind === 'allowed' ? { leave: { rule: answer.rule } } : this.#orObserved(answer);
    }
    const answer = this.#judge((rules) => rules.connection({ host: ask.host, port: ask.port }));
    switch (answer.kind) {
      case 'pass_through':
        return { leave: { rule: answer.rule } };
      case 'upstream':
        return { leave: { upstream: answer.upstream } };
      case 'terminate':
      case 'plain':
        return { refused: notAsOne };
      case 'denied':
      case 'unlisted':
        return this.#orObserved(answer);
    }
  }

  #orObserved(refused: Refused): Answer {
    return this.#lets(refused) ? { leave: { observed: refused } } : { refused };
  }

  /** What is on a list of denials, is ambiguous or cannot be judged is refused in every mode. */
  #lets({ kind }: Refused): boolean {
    return this.#parts.mode === 'observe' && kind === 'unlisted' && this.#recorder.shut === undefined;
  }

  #stillAllows(pass: Pass, question: Question): boolean {
    const answer = this.#answer(question);
    if (!('leave' in answer)) return false;
    const { rule, upstream } = answer.leave;
    if (pass.rule === rule && pass.upstream === upstream) return true;
    return JSON.stringify([pass.rule, pass.upstream]) === JSON.stringify([rule, upstream]);
  }

  /** Budgets of the rule and of names, taken now. */
  #take(host: string, { rule }: Leave): Refused | undefined {
    if (rule === undefined) return undefined;
    const spent = rule.host.includes(host) ? undefined : this.#spentSuffix(host);
    if (spent !== undefined) return spent;
    const key = `${rule.profile}/${rule.id}`;
    const taken = this.#taken.get(key) ?? this.#parts.before?.taken.get(rule.id) ?? 0;
    if (taken >= rule.maxRequests) {
      const reason = `rule ${rule.id} lets ${rule.maxRequests} requests through in a run, and all of them are used`;
      return { kind: 'unlisted', id: rule.id, reason };
    }
    this.#taken.set(key, taken + 1);
    return undefined;
  }

  /** What no rule names whole: the name itself may carry something out. */
  #spentSuffix(host: string): Refused | undefined {
    const named = this.#judge((rules) => rules.name(host));
    return named.kind === 'listed' && named.suffix ? this.#spentNames(host) : undefined;
  }

  /** A name that is on record already. */
  #countName(host: string): void {
    const named = this.#judge((rules) => rules.name(host));
    if (named.kind !== 'listed') this.#names.takeUnlisted(host);
    else if (named.suffix) this.#names.takeSuffixed(host);
  }

  #spentNames(host: string): Refused | undefined {
    const reason = this.#names.takeSuffixed(host);
    return reason === undefined ? undefined : { kind: 'unlisted', id: 'egress.dns', reason };
  }

  #refuse(question: Question, why: Why): Promise<EgressFailure> {
    const { host, port } = question.ask;
    const isListed = this.#judge((rules) => rules.name(host)).kind !== 'unlisted';
    const hint = why.hint ?? this.#hint(question.kind === 'name' ? { host } : { host, port });
    return this.#recorder.denied(question, { ...why, hint }, isListed || this.#names.takeUnlisted(host));
  }

  /** What would allow it; nothing where that cannot be said. */
  #hint(asked: { readonly host: string; readonly port?: number }): string {
    try {
      return this.#rules.hint(asked);
    } catch {
      return '';
    }
  }

  #judge<T>(ask: (rules: Judge) => T): T | Refused {
    try {
      return ask(this.#rules);
    } catch (error) {
      return { kind: 'denied', id: 'gate.egress', reason: `the rules cannot be evaluated: ${messageOf(error)}` };
    }
  }

  #judgeAddress(rule: Pick<EffectiveEgressRule, 'addresses'>, address: string): AddressDecision {
    try {
      return this.#rules.address(rule, address);
    } catch (error) {
      return { kind: 'denied', id: 'gate.egress', reason: `the address cannot be judged: ${messageOf(error)}` };
    }
  }
}

/** Connections and requests that are under way at once. */
const openMax = 512;
const tooMany: Why = {
  reason: `${openMax} connections and requests are under way, which is all that a run may have at once`,
  rule: 'egress.max_connections',
};

const otherTarget: Refused = {
  kind: 'denied',
  id: 'egress.target',
  reason: 'the request names another host or port than its connection',
};
const notAsOne: Refused = {
  kind: 'denied',
  id: 'egress.target',
  reason: 'it is judged request by request, not as one connection',
};

function toldOf({ rule, upstream, observed }: Leave): Pick<EgressDecided, 'decision' | 'reason' | 'rule'> {
  if (observed !== undefined) return { decision: 'observed', reason: observed.reason, ...ruleOf(observed.id) };
  return { decision: 'allowed', ...ruleOf(rule?.id ?? upstream?.id) };
}

function ruleOf(id: string | undefined): { readonly rule: string } | undefined {
  return id === undefined ? undefined : { rule: id };
}

function whyOf({ reason, id }: Refused): Why {
  return { reason, rule: id };
}
