import type { Tree } from '../change-set.ts';
import { isGitName } from './names.ts';

/**
 * Whether following this link would ever leave the tree, link by link as the kernel walks: absolute targets, too many
 * `..`, or another link on the way that leaves. A target that does not exist, and a loop, stay inside. What is git's own is no
 * part of the tree: a link into it would have whoever writes to the link write a hook.
 */
export function linkLeavesTree(link: string, target: string, targetOf: (path: string) => string | undefined): boolean {
  const place = link.split('/').slice(0, -1);
  const pending = target.split('/').reverse();
  if (target.startsWith('/')) return true;
  for (let hops = 0, steps = 0; pending.length > 0; steps++) {
    const name = pending.pop() ?? '';
    if (steps > stepsMax) return true;
    if (name === '' || name === '.') continue;
    if (name === '..') {
      if (place.pop() === undefined) return true;
      continue;
    }
    if (isGitName(name)) return true;
    place.push(name);
    const next = targetOf(place.join('/'));
    if (next === undefined) continue;
    if (next.startsWith('/')) return true;
    if (++hops > hopsMax) return false;
    place.pop();
    pending.push(...next.split('/').reverse());
  }
  return false;
}

export function linkTargetIn(tree: Pick<Tree, 'get'>): (path: string) => string | undefined {
  return (path) => {
    const node = tree.get(path);
    return node?.kind === 'symlink' ? node.target : undefined;
  };
}

/** As many as Linux follows before ELOOP. */
const hopsMax = 40;
const stepsMax = 20_000;
