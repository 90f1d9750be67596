import { z } from 'zod';
import { unwrapped } from './issue-lines.ts';
import { Budget, Limits } from './limits.ts';
import { toolNames } from './tools.ts';

/** What holds where no layer says anything: the defaults that the schema states, understood as it would understand them. */
export const standardLimits = Limits.required().parse(standardsOf(Limits));
export const standardBudget = Budget.required().parse(standardsOf(Budget));
export const standardTools: readonly string[] = toolNames;

/** As they are written, by key. */
function standardsOf(schema: z.ZodObject): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(schema.shape).map(([key, field]) => [key, standardOf(field)]));
}

export function standardOf(field: unknown): unknown {
  return field instanceof z.ZodType ? z.globalRegistry.get(field)?.['default'] : undefined;
}

/** Whether `none` may be written: then 0 stands for no limit. */
export function knowsNone(field: unknown): boolean {
  const inner = unwrapped(field);
  return inner instanceof z.ZodUnion && z.safeParse(inner, 'none').success;
}
