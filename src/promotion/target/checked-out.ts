import type { HeldDirectory } from './held-directory.ts';
import type { Place } from './place.ts';

/** Where a branch is checked out, rebased or bisected: its files would no longer be what it names. */
export async function whereCheckedOut(place: Place, ref: string): Promise<string | undefined> {
  if (!place.bare && (await holds(place.common, ref))) return place.path;
  const worktrees = await place.common.find('worktrees');
  if (worktrees === undefined) return undefined;
  try {
    for (const name of (await worktrees.list()).slice(0, worktreesMax)) {
      const worktree = await worktrees.find(name);
      if (worktree === undefined) continue;
      try {
        if (await holds(worktree, ref)) return await placeOf(worktree);
      } finally {
        await worktree.close();
      }
    }
    return undefined;
  } finally {
    await worktrees.close();
  }
}

const worktreesMax = 10_000;
const bytesMax = 8192;

async function holds(directory: HeldDirectory, ref: string): Promise<boolean> {
  const head = await textIn(directory, 'HEAD');
  if (head === `ref: ${ref}`) return true;
  const short = ref.replace(/^refs\/heads\//, '');
  const start = await textIn(directory, 'BISECT_START');
  if (start === ref || start === short) return true;
  for (const state of ['rebase-merge', 'rebase-apply']) {
    const found = await directory.find(state);
    if (found === undefined) continue;
    try {
      if ((await textIn(found, 'head-name')) === ref) return true;
    } finally {
      await found.close();
    }
  }
  return false;
}

async function placeOf(worktree: HeldDirectory): Promise<string> {
  return (await textIn(worktree, 'gitdir'))?.replace(/\/\.git$/, '') ?? worktree.path;
}

async function textIn(directory: HeldDirectory, name: string): Promise<string | undefined> {
  return (await directory.read(name, bytesMax))?.toString('utf8').trim();
}
