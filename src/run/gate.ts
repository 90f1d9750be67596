import { bindingOf, type ApprovalRequest } from '../approvals/approval.ts';
import type { Approvals } from '../approvals/approvals.ts';
import type { Budget, BudgetLimits, Refused, Taken } from '../budget/budget.ts';
import type { ContextStory } from '../context/context-story.ts';
import type { Fence } from '../egress/fence.ts';
import { messageOf } from '../errors.ts';
import { outlineBytes } from '../journal/bound-arguments.ts';
import type { Journal } from '../journal/writer.ts';
import { compileRules, decide, type Decision, type Needed, type Rules } from '../policy/decisions/decide.ts';
import { EgressRules } from '../policy/decisions/egress-rules.ts';
import { termsOf } from '../policy/decisions/approval-terms.ts';
import { recompile, type LoadedPolicy, type Policy } from '../policy/policy.ts';
import { pathsOf } from '../tools/paths.ts';
import type { ToolCall } from '../tools/tool-call.ts';
import { Freshness } from './freshness.ts';

/** Why a call does not run. */
export interface Refusal {
  readonly kind: 'refused';
  readonly rule: string;
  readonly reason: string;
  readonly hint: string;
}

export interface Admitted {
  readonly kind: 'admitted';
  readonly number: number;
  readonly warning?: string;
  readonly release: () => void;
  /** Those that it is counted by. */
  readonly tags: readonly string[];
  /** Variables that command rules give to it. */
  readonly setEnv: Readonly<Record<string, string>>;
}

export interface GateParts {
  readonly run: string;
  readonly policy: LoadedPolicy;
  readonly budget: Budget;
  readonly approvals: Approvals;
  /** Digest of what the workspace started from. */
  readonly base: string;
  /** Why nothing is let in any more, whatever is asked. */
  readonly halted?: () => Promise<Refusal | undefined>;
  /** Called, and awaited, before anything happens at the higher risk, with the policy that holds there. */
  readonly onRisk: (from: string, to: string, by: string, raised: Policy) => Promise<unknown>;
}

/** `asked`: more calls were asked for, and not granted. */
export type GateChange =
  | { readonly kind: 'raised'; readonly to: Decision['risk'] }
  | { readonly kind: 'extended' | 'asked' };

type OnAsked = (request: ApprovalRequest) => void;

/** What is shown and bound. */
interface Asked {
  readonly subject: unknown;
  readonly text: string;
  readonly rule: string;
  readonly reach: string;
  readonly callId?: string;
  readonly onAsked?: OnAsked | undefined;
}

/**
 * What stands between a call and the sandbox: the policy, then people where the policy asks for them, then the budget.
 * Promises:
 *  - what is not admitted has no effect and is counted;
 *  - a gate that breaks refuses, and says that the gate is broken, which is another thing than a rule that denies;
 *  - the risk never falls, and what a higher risk takes away is gone before the call that raised it is let in.
 */
export class RunGate {
  readonly #parts: GateParts;
  readonly #freshness = new Freshness();
  #policy: LoadedPolicy;
  #rules: Rules;
  #extended = false;
  #handOverTold = false;
  #raising: Promise<unknown> = Promise.resolve();

  constructor(parts: GateParts) {
    this.#parts = parts;
    this.#policy = parts.policy;
    this.#rules = compileRules(parts.policy.policy);
  }

  /** What changed what the run may do, under the runner before, in that order. It is on record already. */
  restore(changes: readonly GateChange[]): void {
    for (const change of changes) {
      if (change.kind === 'raised') this.#rise(recompile(this.#policy, { ...this.#policy.task, risk: change.to }));
      else this.#extended = true;
      if (change.kind === 'extended') this.#parts.budget.extend(this.#policy.policy.budget.maxActionsPerRun);
    }
    this.#handOver();
  }

  /** What was said of the agent's beliefs under the runner before. */
  goOn({ inForce, callsSince }: Pick<ContextStory, 'inForce' | 'callsSince'>): void {
    if (inForce !== undefined) this.#freshness.attached(callsSince);
  }

  /** From here on a snapshot of the agent's beliefs is in force that is as fresh as can be. */
  contextAttached(): void {
    this.#freshness.attached();
  }

  /** As it holds at the present risk. */
  get policy(): Policy {
    return this.#policy.policy;
  }

  /** The rules at the present risk. */
  get rules(): Rules {
    return this.#rules;
  }

  /** `onAsked` is told when the call has to wait for somebody. */
  async admit(callId: string, call: ToolCall, onAsked?: OnAsked): Promise<Admitted | Refusal> {
    const judged = (await this.#parts.halted?.()) ?? this.#judge(call);
    if (judged.kind === 'refused') return judged;
    const { decision } = judged;
    const stale = this.#stale(decision);
    if (stale !== undefined) return stale;
    try {
      const tooHigh = await this.raise(decision.risk, decision.rule);
      if (tooHigh !== undefined) return tooHigh;
      const due = decision.approvals.filter(({ at }) => at === 'call');
      if (due.length > 0) {
        const spent = this.#parts.budget.check(decision.tags);
        if (spent !== undefined) return refusalOf(spent);
        const denied = await this.#approveCall({ callId, call, onAsked }, due, decision);
        if (denied !== undefined) return denied;
      }
    } catch (error) {
      return brokenGate('approvals', error);
    }
    const slot = await this.#take(callId, decision.tags);
    if (slot.kind === 'denied') return refusalOf(slot);
    const { number, release } = slot;
    this.#freshness.called();
    const warning = [slot.warning, this.#handOver()].filter((text) => text !== undefined).join('; ');
    return {
      kind: 'admitted',
      number,
      release,
      tags: decision.tags,
      setEnv: decision.setEnv,
      ...(warning === '' ? {} : { warning }),
    };
  }

  /** Of what costs nothing and is not recorded when it is allowed. */
  refuses(call: ToolCall): Refusal | undefined {
    const judged = this.#judge(call);
    return judged.kind === 'refused' ? judged : undefined;
  }

  /** From here on the run has at least this risk. A refusal: its sandbox cannot be what that risk asks for. */
  async raise(risk: Decision['risk'], by: string): Promise<Refusal | undefined> {
    const turn = this.#raising.then(() => this.#raise(risk, by));
    this.#raising = turn.catch(() => undefined);
    return turn;
  }

  async #raise(risk: Decision['risk'], by: string): Promise<Refusal | undefined> {
    const now = this.#policy.policy;
    if (risk === now.risk || order.indexOf(risk) < order.indexOf(now.risk)) return undefined;
    const raised = recompile(this.#policy, { ...this.#policy.task, risk });
    if (raised.policy.runtime !== now.runtime)
      return {
        kind: 'refused',
        rule: `risk.levels.${risk}`,
        reason: `it would raise the risk of the run from ${now.risk} to ${risk}, which is to run under ${raised.policy.runtime}`,
        hint: `Open another run with that risk; this one runs under ${now.runtime}.`,
      };
    await this.#parts.onRisk(now.risk, risk, by, raised.policy);
    this.#rise(raised);
    return undefined;
  }

  #rise(raised: LoadedPolicy): void {
    this.#policy = raised;
    this.#rules = compileRules(raised.policy);
    this.#parts.budget.tighten(budgetLimits(raised.policy));
  }

  #judge(call: ToolCall): { readonly kind: 'decided'; readonly decision: Decision } | Refusal {
    try {
      const decision = decide(this.#rules, { kind: 'call', tool: call.tool, ...pathsOf(call), ...commandOf(call) });
      if (decision.effect !== 'deny') return { kind: 'decided', decision };
      this.#parts.budget.countDenied();
      const { rule, reason, hint } = decision;
      return { kind: 'refused', rule, reason, hint };
    } catch (error) {
      return brokenGate('policy', error);
    }
  }

  #stale(decision: Decision): Refusal | undefined {
    try {
      const stale = this.#freshness.findStale(this.policy.context, decision);
      if (stale === undefined) return undefined;
      this.#parts.budget.countDenied();
      return { kind: 'refused', ...stale };
    } catch (error) {
      return brokenGate('context', error);
    }
  }

  async #approveCall(
    { callId, call, onAsked }: { callId: string; call: ToolCall; onAsked: OnAsked | undefined },
    due: readonly Needed[],
    decision: Decision,
  ): Promise<Refusal | undefined> {
    const subject = await outlineBytes(call);
    for (const { category } of due) {
      const { rule, reason: reach } = decision;
      const asked = { subject, text: JSON.stringify(subject), rule, reach, callId, onAsked };
      const refused = await this.#ask(category, asked, 'call');
      if (refused === undefined) continue;
      this.#parts.budget.countDenied();
      return refused;
    }
    return undefined;
  }

  async #ask(category: string, what: Asked, at: 'call' | 'budget'): Promise<Refusal | undefined> {
    const { budget, approvals, run, base } = this.#parts;
    const spent = budget.takeApproval();
    if (spent !== undefined) return refusalOf(spent);
    const { subject, text, rule, reach, callId, onAsked } = what;
    const digest = bindingOf(subject, { policy: this.#policy.digest, base, run });
    const terms = termsOf(this.#policy.policy, category);
    const outcome = await approvals.ask({
      category,
      at,
      subject: text,
      rule,
      reach,
      digest,
      terms,
      ...(callId === undefined ? {} : { callId }),
      ...(onAsked === undefined ? {} : { onAsked }),
    });
    if (outcome.kind === 'approved') return undefined;
    if (outcome.kind === 'broken') return brokenGate('approvals', outcome.reason);
    const who = outcome.by.length === 0 ? '' : ` by ${outcome.by.join(', ')}`;
    return {
      kind: 'refused',
      rule: `approvals.${category}`,
      reason: `the approval (${category}) was ${outcome.kind}${who}: ${outcome.reason}`,
      hint: 'Do without it, or ask for something smaller.',
    };
  }

  /** All calls are used: once, more may be asked for. */
  async #take(callId: string, tags: readonly string[]): Promise<Taken | Refused> {
    const { budget } = this.#parts;
    const { policy } = this.#policy;
    const slot = budget.take(tags);
    if (slot.kind === 'taken' || slot.rule !== 'budget.max_actions_per_run' || this.#extended) return slot;
    if (policy.approvals.categories[extension] === undefined) return slot;
    this.#extended = true;
    const more = policy.budget.maxActionsPerRun;
    try {
      const text = `${more} more calls; the next would be ${callId}`;
      const refused = await this.#ask(
        extension,
        { subject: { more }, text, rule: slot.rule, reach: slot.reason },
        'budget',
      );
      if (refused !== undefined) return slot;
      budget.extend(more);
      return budget.take(tags);
    } catch (error) {
      return { ...slot, ...brokenGate('approvals', error), kind: 'denied' };
    }
  }

  /** Said once. */
  #handOver(): string | undefined {
    const { handOver } = this.#policy.policy;
    if (handOver === undefined || this.#handOverTold || this.#parts.budget.used < handOver.actionsUsed)
      return undefined;
    this.#handOverTold = true;
    return `the work is due to be handed over to lane ${handOver.to}`;
  }
}

/** A higher risk is on record before anything happens at it, and takes what it takes away from the network too. */
export function onRiskOf(
  journal: Pick<Journal, 'append'>,
  fence: Pick<Fence, 'narrow'> | undefined,
): GateParts['onRisk'] {
  return async (from, to, by, { egress }) => {
    await journal.append({ type: 'risk.raised', data: { from, to, by } });
    fence?.narrow(new EgressRules(egress));
  };
}

const order = ['low', 'medium', 'high', 'critical'] as const;
const extension = 'budget_extension';

function refusalOf({ rule, reason, hint }: Refused): Refusal {
  return { kind: 'refused', rule, reason, hint };
}

/** Nothing is known of the call but that it could not be judged. */
function brokenGate(gate: string, error: unknown): Refusal {
  return {
    kind: 'refused',
    rule: `gate.${gate}`,
    reason: `the gate "${gate}" is broken, so nothing passes it: ${messageOf(error)}`,
    hint: 'No rule denies this; whoever runs Glovebox has to mend it.',
  };
}

function commandOf(call: ToolCall): { command?: { argv: readonly string[] } | { script: string } } {
  if (call.tool !== 'exec') return {};
  if (call.argv !== undefined) return { command: { argv: call.argv } };
  return call.script === undefined ? {} : { command: { script: call.script } };
}

/** What of a policy is counted. */
export function budgetLimits({ budget, limits }: Policy): BudgetLimits {
  return {
    calls: budget.maxActionsPerRun,
    byTag: budget.maxActionsByTag,
    denied: budget.maxDeniedActions,
    deniedInARow: budget.maxConsecutiveDenials,
    approvals: budget.maxApprovalRequests,
    parallel: budget.maxParallelActions,
    perMinute: budget.maxActionsPerMinute,
    outputBytes: limits.outputPerRunBytes,
    wallClockMs: limits.wallClockMs,
    cpuMs: budget.cpuSeconds * 1000,
  };
}
