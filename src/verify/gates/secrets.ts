import { secretsIn } from '../../workspace/changes/secrets.ts';
import type { Subject } from '../subject.ts';
import { isTooLong, textOf } from './contents.ts';
import { builtin, type Judged } from './gate-result.ts';

/** Whether a change brings in what looks like a secret. What the base holds already is no news. */
export async function secretsGate({ snapshot, classified, blobs }: Subject): Promise<Judged> {
  const { base, changeSet } = snapshot;
  const certain: string[] = [];
  const likely: string[] = [];
  for (const { path, categories, kind } of classified) {
    const change = changeSet.changes.get(path);
    if (kind === 'directory' || change === undefined || change.kind === 'deleted') continue;
    if (isTooLong(change)) likely.push(`${path}: too long to be looked through`);
    const text = await textOf(blobs, change);
    const before = base.tree.get(path);
    const found = text === undefined ? [] : secretsIn(text);
    const known = new Set(
      found.length === 0 ? [] : secretsIn((await textOf(blobs, before)) ?? '').map((one) => one.text),
    );
    const kinds = [...new Set(found.filter((secret) => !known.has(secret.text)).map((secret) => secret.kind))];
    for (const secret of kinds) (categories.includes('test') ? likely : certain).push(`${path}: ${secret}`);
    if (kinds.length === 0 && before === undefined && categories.includes('secret_looking'))
      likely.push(`${path}: its name is one that secrets have`);
  }
  const failure = { class: 'constraint_violation', attribution: 'agent' } as const;
  if (certain.length > 0)
    return builtin(
      'secrets',
      'failed',
      'what looks like a secret would be put into the repository',
      [...certain, ...likely],
      failure,
    );
  if (likely.length > 0)
    return builtin('secrets', 'needs_review', 'what may be a secret is in the changes', likely, failure);
  return builtin('secrets', 'passed', 'nothing in the changes looks like a secret');
}
