import type { Journal } from '../journal/writer.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import type { RunDrift } from './drift.ts';

/** Once it is lost. Of one that was closed there is nothing to say. */
export async function recordLoss(
  sandbox: Pick<Sandbox, 'lost' | 'spec'>,
  journal: Pick<Journal, 'append'>,
  drift: Pick<RunDrift, 'lost'>,
): Promise<void> {
  const loss = await sandbox.lost;
  if (loss.code === 'run_not_open') return;
  await drift.lost(loss);
  const data = { sandbox: sandbox.spec.id, reason: loss.reason, container: 'unknown' as const };
  await journal.append({ type: 'sandbox.lost', data }).catch(() => undefined);
}
