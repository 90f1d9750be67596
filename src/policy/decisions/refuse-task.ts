import { RunnerError } from '../../errors.ts';
import type { Policy } from '../layers/effective-policy.ts';
import type { Intent } from '../language/intent.ts';

/** What a lane asks of whoever opens a run in it. Throws `invalid_request`. */
export function refuseTask(policy: Policy, intent: Pick<Intent, 'summary' | 'model'> | undefined): void {
  const { lane, requireIntent } = policy;
  if (requireIntent && (intent?.summary ?? '').trim() === '')
    throw new RunnerError('invalid_request', `lane ${lane} asks what a run is for; say so in its intent (--intent)`);
  refuseModel(policy, intent?.model);
}

/** The same of a model alone. */
export function refuseModel({ lane, models }: Pick<Policy, 'lane' | 'models'>, model: string | undefined): void {
  if (models.length === 0 || models.some((pattern) => matches(pattern, model))) return;
  const named = model === undefined ? 'the intent names no model' : `${JSON.stringify(model)} may not`;
  throw new RunnerError('invalid_request', `in lane ${lane} only ${models.join(', ')} may work; ${named}`);
}

function matches(pattern: string, model: string | undefined): boolean {
  if (model === undefined) return false;
  const parts = pattern.split('*').map((part) => part.replaceAll(/[.\\/]/g, String.raw`\$&`));
  return new RegExp(`^${parts.join('.*')}$`).test(model);
}
