import type { Digest } from '../digest.ts';
import type { Change, ChangeSet } from '../workspace/change-set.ts';
import { digestOfChangeSet } from '../workspace/manifest.ts';
import { displayPath } from '../workspace/changes/names.ts';
import { difference, type Difference } from './compare.ts';
import { diffLinesMax } from './replay-record.ts';

/** Where two runs left something else behind: exactly, noise or not, since it is what is proposed. Pure. */
export function compareChangeSets(
  then: { readonly changeSet: ChangeSet; readonly digest: Digest },
  now: ChangeSet,
): Difference | undefined {
  const digest = digestOfChangeSet(now);
  if (digest === then.digest) return undefined;
  const [before, after] = [then.changeSet.changes, now.changes];
  const paths = [...new Set([...before.keys(), ...after.keys()])].sort();
  const other = paths.filter((path) => !isSame(before.get(path), after.get(path)));
  const diff = other.flatMap((path) => [
    `-${displayPath(path)}: ${changeText(before.get(path))}`,
    `+${displayPath(path)}: ${changeText(after.get(path))}`,
  ]);
  const [first = ''] = other;
  const more = other.length > 1 ? ` (and ${other.length - 1} more paths)` : '';
  return difference(
    'change_set',
    `${displayPath(first)}: ${changeText(before.get(first))}${more}`,
    `${displayPath(first)}: ${changeText(after.get(first))}`,
    diff.slice(0, diffLinesMax),
  );
}

function isSame(one: Change | undefined, other: Change | undefined): boolean {
  return one === other || changeText(one) === changeText(other);
}

function changeText(change: Change | undefined): string {
  switch (change?.kind) {
    case undefined:
      return 'not changed';
    case 'deleted':
      return 'deleted';
    case 'file':
      return `file ${change.mode.toString(8)}, ${change.sizeBytes} bytes, ${change.digest}`;
    case 'symlink':
      return `link to ${displayPath(change.target)}`;
    case 'directory':
      return 'directory';
  }
}
