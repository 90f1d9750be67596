import { harmlessFindings } from '../../failures/run-failures.ts';
import { Findings } from '../../workspace/changes/findings.ts';
import { keepSafeChanges } from '../../workspace/changes/export-check.ts';
import { TreeIndex } from '../../workspace/changes/tree-index.ts';
import { Scope } from '../../workspace/scope/scope.ts';
import type { Subject } from '../subject.ts';
import { builtin, type Judged } from './gate-result.ts';
import { plural } from '../../plural.ts';

/** Whether what is proposed is what the policy lets out; held against it once more, from the change set alone. */
export function scopeGate({ snapshot, findings, outcome }: Subject): Judged {
  const { changeSet, base, policy } = snapshot;
  const scope = Scope.compile(policy.policy.files);
  const outside = [...changeSet.changes].flatMap(([path, change]) => {
    const kind = change.kind === 'deleted' ? base.tree.get(path)?.kind : change.kind;
    return scope.classOf(path, kind === 'directory' ? 'directory' : 'file') === 'write' ? [] : [path];
  });
  const found = new Findings();
  keepSafeChanges(new TreeIndex(base.tree), changeSet.changes, found);
  const unsafe = found.kept.filter(({ effect }) => effect !== 'noted').map(({ path, kind }) => `${path}: ${kind}`);
  const failure = { class: 'constraint_violation', attribution: 'agent' } as const;
  if (outside.length > 0 || unsafe.length > 0)
    return builtin(
      'scope',
      'failed',
      `${plural(outside.length + unsafe.length, 'change is', 'changes are')} not what the policy lets out`,
      [...outside.map((path) => `${path}: outside the write scope`), ...unsafe],
      failure,
    );
  if (outcome !== 'finished')
    return builtin(
      'scope',
      'needs_review',
      `the run was closed as ${outcome}: its changes may be half of what was meant`,
      [],
      {
        class: 'semantic_defect',
        attribution: 'agent',
      },
    );
  const left = Object.entries(findings).filter(([kind]) => !harmlessFindings.has(kind));
  const counted = left.map(([kind, count]) => `${count} × ${kind.replaceAll('_', ' ')}`);
  if (left.length > 0)
    return builtin(
      'scope',
      'needs_review',
      'the workspace held changes that could not leave it; what is proposed may be half of what was meant',
      counted,
      failure,
    );
  return builtin('scope', 'passed', `${plural(changeSet.changes.size, 'change')}, all in the write scope`);
}
