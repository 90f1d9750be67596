import type { Category } from '../../workspace/changes/category.ts';
import { makePatch } from '../../workspace/patch/patch.ts';
import type { Subject } from '../subject.ts';
import { builtin, type Judged } from './gate-result.ts';
import { plural } from '../../plural.ts';

/** Whether somebody can read the diff: how much it is, and how much of it a program has made. */
export async function diffQualityGate({ snapshot, classified, blobs, rules }: Subject): Promise<Judged> {
  const { files, lines, generated, binary } = rules.diff;
  const patch = await makePatch(snapshot.base.tree, snapshot.changeSet, blobs);
  const changed = patch.files.reduce((sum, { added = 0, removed = 0 }) => sum + added + removed, 0);
  const counts = `${plural(patch.files.length, 'file')}, ${plural(changed, 'line')}`;
  const large = [
    ...(patch.files.length > files
      ? [`${plural(patch.files.length, 'file')}; ${files} are what the policy takes for readable`]
      : []),
    ...(changed > lines ? [`${changed} lines; ${lines} are what the policy takes for readable`] : []),
  ];
  const of = (category: Category): readonly string[] =>
    classified
      .filter(({ categories, status }) => categories.includes(category) && status !== 'deleted')
      .map(({ path }) => `${path}: ${category}`);
  const judged = [
    { judged: generated, found: of('generated') },
    { judged: binary, found: of('binary') },
  ].filter(({ found }) => found.length > 0);
  const denied = judged.filter((one) => one.judged === 'deny').flatMap(({ found }) => found);
  const forReview = [...large, ...judged.filter((one) => one.judged === 'review').flatMap(({ found }) => found)];
  const failure = { class: 'constraint_violation', attribution: 'agent' } as const;
  if (denied.length > 0)
    return builtin(
      'diff_quality',
      'failed',
      `${counts}; some of it nobody can read, and the policy denies that`,
      [...denied, ...forReview],
      failure,
    );
  if (forReview.length > 0)
    return builtin(
      'diff_quality',
      'needs_review',
      `${counts}; not all of it can be read like a change`,
      forReview,
      failure,
    );
  return builtin('diff_quality', 'passed', counts);
}
