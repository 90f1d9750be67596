import { z } from 'zod';
import { Credential } from './credential.ts';
import { Drift } from './drift.ts';
import { Dns, Egress, EgressRuleKeys } from './egress.ts';
import { unwrapped } from './issue-lines.ts';
import { Budget, Limits } from './limits.ts';
import { toolNames } from './tools.ts';
import { DiffQuality, Reruns } from './verify.ts';

/** What holds where no layer says anything: the defaults that the schema states, understood as it would understand them. */
export const standardLimits = Limits.required().parse(standardsOf(Limits));
export const standardBudget = Budget.required().parse(standardsOf(Budget));
export const standardTools: readonly string[] = toolNames;
export const standardDns = Dns.required().parse(standardsOf(Dns));
const EgressBounds = Egress.pick({ mode: true, max_connections: true });
export const standardEgress = EgressBounds.required().parse(standardsOf(EgressBounds));
const RuleBounds = EgressRuleKeys.omit({ id: true, host: true, registry: true, query: true, credential: true });
export const standardEgressRule = RuleBounds.required().parse(standardsOf(RuleBounds));
const CredentialBounds = Credential.omit({ source: true, host: true });
export const standardCredential = CredentialBounds.required().parse(standardsOf(CredentialBounds));
export const standardReruns = Reruns.required().parse(standardsOf(Reruns));
const DriftBounds = Drift.omit({ reactions: true });
export const standardDrift = DriftBounds.required().parse(standardsOf(DriftBounds));
export const standardDiffQuality = DiffQuality.required().parse(standardsOf(DiffQuality));

/** As they are written, by key. */
function standardsOf(schema: z.ZodObject): Readonly<Record<string, unknown>> {
  const standards = Object.entries(schema.shape).map(([key, field]) => [key, standardOf(field)] as const);
  return Object.fromEntries(standards.filter(([, standard]) => standard !== undefined));
}

export function standardOf(field: unknown): unknown {
  return field instanceof z.ZodType ? z.globalRegistry.get(field)?.['default'] : undefined;
}

/** Whether `none` may be written: then 0 stands for no limit. */
export function knowsNone(field: unknown): boolean {
  const inner = unwrapped(field);
  return inner instanceof z.ZodUnion && z.safeParse(inner, 'none').success;
}
