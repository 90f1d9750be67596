import { failpoint } from '../../failpoint.ts';
import { RunnerError } from '../../errors.ts';
import { whereCheckedOut } from './checked-out.ts';
import { install } from './compose.ts';
import type { BorrowedObjects } from './objects.ts';
import type { Place } from './place.ts';
import { swapRef } from './refs.ts';

/** A commit that was composed, and the branch that is to name it. */
export interface Landing {
  /** In full: `refs/heads/x`. */
  readonly ref: string;
  /** What the branch names before; undefined where there is none. */
  readonly from: string | undefined;
  readonly commit: string;
  /** Of the promotion: what it leaves behind is known by it. */
  readonly own: string;
}

/** Objects first, which harm nothing; then the branch at once, or not at all. */
export async function land(place: Place, objects: BorrowedObjects, { ref, from, commit, own }: Landing): Promise<void> {
  await refuseCheckedOut(place, ref);
  await install(objects, place, own);
  await failpoint('promote.installed');
  await swapRef(place, ref, { from, to: commit, own });
  await failpoint('promote.swapped');
}

/** A branch that somebody works on would no longer be what their files are. */
export async function refuseCheckedOut(place: Place, ref: string): Promise<void> {
  const where = await whereCheckedOut(place, ref);
  if (where === undefined) return;
  const branch = ref.replace(/^refs\/heads\//, '');
  throw new RunnerError(
    'conflict',
    `branch ${branch} is checked out in ${where}, whose files would no longer be those of the branch; check out another one there, or promote to another branch (--branch) and merge that`,
  );
}
