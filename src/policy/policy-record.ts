import { z } from 'zod';
import { messageOf, RunnerError } from '../errors.ts';
import { riskLevels } from './language/fields.ts';
import type { LoadedPolicy } from './layers/effective-policy.ts';
import { parseChain, policyFor } from './policy.ts';
import type { IntentInput } from './language/intent.ts';

/** What a run's directory keeps of its policy: the files as they were given, and the task. */
const PolicyRecord = z.strictObject({
  files: z
    .array(z.strictObject({ source: z.string(), text: z.string() }))
    .min(1)
    .max(8),
  taskClass: z.string().optional(),
  risk: z.enum(riskLevels).optional(),
  intent: z.json().optional(),
});

export function formatPolicyRecord({ chain, task }: LoadedPolicy): string {
  const { taskClass, risk, intent } = task;
  const files = chain.map(({ source, text }) => ({ source, text }));
  return `${JSON.stringify({ files, taskClass, risk, intent }, undefined, 2)}\n`;
}

/** The policy that was recorded, made again from its files. Throws `invalid_policy`. */
export function parsePolicyRecord(text: string, source: string): LoadedPolicy {
  try {
    const { files, taskClass, risk, intent } = PolicyRecord.parse(JSON.parse(text));
    return policyFor(parseChain(files), { taskClass, risk, intent: intent as IntentInput | undefined });
  } catch (cause) {
    if (cause instanceof RunnerError) throw cause;
    throw new RunnerError('invalid_policy', `${source}: is no record of a policy: ${messageOf(cause)}`, { cause });
  }
}
