import { approvalTimeoutMs } from '../layers/effective.ts';
import type { ApprovalCategory, Policy } from '../layers/effective-policy.ts';

/** How a category is approved; one that no layer describes is as strict as the defaults. */
export function termsOf(policy: Policy, category: string): ApprovalCategory {
  const known = policy.approvals.categories[category];
  return known ?? { effect: 'ask', quorum: 1, timeoutMs: approvalTimeoutMs, remember: 'none', reasonRequired: false };
}
