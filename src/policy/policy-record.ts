import { z } from 'zod';
import { messageOf, RunnerError } from '../errors.ts';
import { publicRegistries, Registry } from '../registries/registries.ts';
import { riskLevels } from './language/fields.ts';
import type { LoadedPolicy } from './layers/effective-policy.ts';
import { parseChain, policyFor } from './policy.ts';
import type { IntentInput } from './language/intent.ts';

const registries = z.array(Registry).max(64).readonly();

/** What a run's directory keeps of its policy: the files as they were given, and the task. */
const PolicyRecord = z.strictObject({
  files: z
    .array(z.strictObject({ source: z.string(), text: z.string() }))
    .min(1)
    .max(8),
  taskClass: z.string().optional(),
  risk: z.enum(riskLevels).optional(),
  intent: z.json().optional(),
  /** What rules with `registry` stood for. */
  registries: z.strictObject({ npm: registries, pypi: registries, debian: registries }).optional(),
});

export function formatPolicyRecord({ chain, task, registries: all }: LoadedPolicy): string {
  const { taskClass, risk, intent } = task;
  const files = chain.map(({ source, text }) => ({ source, text }));
  const registries = all === publicRegistries ? undefined : all;
  return `${JSON.stringify({ files, taskClass, risk, intent, registries }, undefined, 2)}\n`;
}

/** The policy that was recorded, made again from its files. Throws `invalid_policy`. */
export function parsePolicyRecord(text: string, source: string): LoadedPolicy {
  try {
    const { files, taskClass, risk, intent, registries: all = publicRegistries } = PolicyRecord.parse(JSON.parse(text));
    const task = { taskClass, risk, intent: intent as IntentInput | undefined };
    return policyFor(parseChain(files), task, { registries: all });
  } catch (cause) {
    if (cause instanceof RunnerError) throw cause;
    throw new RunnerError('invalid_policy', `${source}: is no record of a policy: ${messageOf(cause)}`, { cause });
  }
}
