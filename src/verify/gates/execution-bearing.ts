import type { Subject } from '../subject.ts';
import { builtin, type Judged } from './gate-result.ts';
import { plural } from '../../plural.ts';

/** Whether something in the changes runs later on somebody's machine without being asked for by name. */
export function executionBearingGate({ classified }: Subject): Judged {
  const found = classified.filter(({ categories }) => categories.includes('execution_bearing'));
  if (found.length === 0) return builtin('execution_bearing', 'passed', 'nothing in the changes runs by itself');
  return builtin(
    'execution_bearing',
    'needs_review',
    `${plural(found.length, 'change runs', 'changes run')} on other machines without being asked for`,
    found.map(({ path, status }) => `${path}: ${status}`),
    { class: 'constraint_violation', attribution: 'agent' },
  );
}
