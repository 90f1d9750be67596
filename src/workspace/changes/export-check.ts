import { RunnerError } from '../../errors.ts';
import type { Change, Node, Tree } from '../change-set.ts';
import { ancestorsOf, parentOf } from '../diff.ts';
import type { FindingKind, Findings } from './findings.ts';
import { foldedName } from './fold.ts';
import { linkLeavesTree, linkTargetIn } from './links.ts';
import { isGitName, odditiesOf } from './names.ts';
import { isHead, type TreeIndex } from './tree-index.ts';

/**
 * Takes out of `candidates` whatever cannot be a safe change to `base`, and says so. What is left promises:
 *  - laid over the base it is a tree: every entry lies in a directory;
 *  - no link of that tree leads out of it, also not through another link;
 *  - nothing in it is git's own, or looks like a repository to git;
 *  - no new name is another spelling of one that is there.
 * What is asked about the base as a whole is asked of its index: the cost is that of the changes.
 */
export function keepSafeChanges(
  index: TreeIndex,
  candidates: ReadonlyMap<string, Change>,
  findings: Findings,
): Map<string, Change> {
  const kept = keepChanges(index, candidates, findings, [
    refuseStrays,
    refuseRepositories,
    refuseCollisions,
    refuseLeavingLinks,
  ]);
  for (const [path, change] of kept) {
    const oddities = change.kind === 'deleted' ? [] : odditiesOf(path);
    if (oddities.length > 0) findings.add({ kind: 'odd_name', path, effect: 'noted', detail: oddities.join(', ') });
  }
  return kept;
}

/**
 * The same for what never leaves a sandbox (a snapshot with its installed dependencies): only that it is a tree, and without
 * git's own. Links may lead where they like: nobody here follows them, and in another sandbox they lead nowhere else.
 */
export function keepRestorableChanges(
  index: TreeIndex,
  candidates: ReadonlyMap<string, Change>,
  findings: Findings,
): Map<string, Change> {
  return keepChanges(index, candidates, findings, [refuseStrays]);
}

function keepChanges(
  index: TreeIndex,
  candidates: ReadonlyMap<string, Change>,
  findings: Findings,
  rules: readonly ((after: After, kept: Changes, refuse: Refuse) => boolean)[],
): Map<string, Change> {
  const kept = new Map(candidates);
  const refuse = (kind: FindingKind, path: string, detail?: string): boolean => {
    if (!kept.delete(path)) return false;
    findings.add({ kind, path, effect: 'refused', ...(detail === undefined ? {} : { detail }) });
    return true;
  };
  refuseGitNames(kept, refuse);
  // Each round takes something away or is the last; what one refusal uncovers, the next round sees.
  for (let again = kept.size > 0, rounds = 0; again; rounds++) {
    if (rounds > roundsMax) {
      throw new RunnerError(
        'export_refused',
        `export: the changes hang together in more than ${roundsMax} ways; discard them`,
      );
    }
    const after = new After(index, new Map(kept));
    again = rules.map((rule) => rule(after, kept, refuse)).includes(true);
  }
  return kept;
}

const roundsMax = 300;

/** The base with the changes laid over it, looked at where they are. */
class After {
  readonly index: TreeIndex;
  readonly base: Tree;
  readonly changes: ReadonlyMap<string, Change>;

  constructor(index: TreeIndex, changes: ReadonlyMap<string, Change>) {
    this.index = index;
    this.base = index.tree;
    this.changes = changes;
  }

  get(path: string): Node | undefined {
    const change = this.changes.get(path);
    if (change === undefined) return this.base.get(path);
    return change.kind === 'deleted' ? undefined : change;
  }

  /** Of these paths of the base and all that have changed, those that are there. */
  *there(ofBase: Iterable<string>): Generator<readonly [string, Node], void, undefined> {
    for (const path of new Set([...ofBase, ...this.changes.keys()])) {
      const node = this.get(path);
      if (node !== undefined) yield [path, node];
    }
  }

  /** Paths of the base whose directory was taken from under them. */
  *orphans(): Generator<string, void, undefined> {
    for (const path of this.changes.keys()) {
      if (this.base.get(path)?.kind === 'directory' && this.get(path)?.kind !== 'directory')
        yield* this.index.childrenOf(path);
    }
  }
}

type Refuse = (kind: FindingKind, path: string, detail?: string) => boolean;
type Changes = ReadonlyMap<string, Change>;

function refuseGitNames(kept: Changes, refuse: Refuse): void {
  for (const [path, change] of kept) {
    const names = path.split('/');
    if (names.some(isGitName)) refuse('git_metadata', path, "git's own directory");
    // git refuses such a link itself: it would read settings through it (CVE-2020-11008 and others).
    const last = foldedName(names.at(-1) ?? '');
    if (change.kind === 'symlink' && /^\.git(?:modules|attributes|ignore)$/.test(last)) {
      refuse('git_metadata', path, 'a link in place of a file that configures git');
    }
  }
}

function refuseStrays(after: After, kept: Changes, refuse: Refuse): boolean {
  let found = false;
  for (const [path] of after.there(after.orphans())) {
    const parent = parentOf(path);
    if (parent === '' || after.get(parent)?.kind === 'directory') continue;
    // Either it came without its directory, or its directory was taken from under it.
    const blamed = kept.has(path) && !after.base.has(path) ? path : kept.has(parent) ? parent : path;
    found =
      refuse('no_parent', blamed, 'the directory it needs is not exported, or still holds what may not change') ||
      found;
  }
  return found;
}

/** A directory that git takes for a bare repository runs what its configuration says, once someone steps into it. */
function refuseRepositories(after: After, kept: Changes, refuse: Refuse): boolean {
  const repositories = new Set<string>();
  for (const [path, node] of after.there(after.index.heads)) {
    if (node.kind === 'directory' || !isHead(path)) continue;
    const prefix = path.slice(0, -'HEAD'.length);
    const isDirectory = (name: string): boolean =>
      ['directory', 'symlink'].includes(after.get(prefix + name)?.kind ?? '');
    if (isDirectory('objects') && isDirectory('refs')) repositories.add(parentOf(path));
  }
  if (repositories.size === 0) return false;
  let found = false;
  for (const [path, change] of kept) {
    if (change.kind === 'deleted') continue;
    const part = [path, ...ancestorsOf(path)].some(
      (at) => repositories.has(parentOf(at)) && repositoryNames.has(at.slice(at.lastIndexOf('/') + 1)),
    );
    if (part) found = refuse('git_metadata', path, 'part of what git takes for a repository') || found;
  }
  return found;
}

const repositoryNames: ReadonlySet<string> = new Set(['HEAD', 'config', 'commondir', 'hooks', 'objects', 'refs']);

function refuseCollisions(after: After, kept: Changes, refuse: Refuse): boolean {
  const moved = new Map<string, number>();
  const count = (path: string, by: 1 | -1): void => {
    const folded = foldedName(path);
    moved.set(folded, (moved.get(folded) ?? 0) + by);
  };
  for (const [path, change] of after.changes) {
    if (change.kind === 'deleted' && after.base.has(path)) count(path, -1);
    if (change.kind !== 'deleted' && !after.base.has(path)) count(path, 1);
  }
  let found = false;
  for (const [path, change] of kept) {
    if (change.kind === 'deleted' || after.base.has(path)) continue;
    const folded = foldedName(path);
    if (after.index.spellingsOf(folded) + (moved.get(folded) ?? 0) < 2) continue;
    found = refuse('name_collision', path, 'differs from another name only in case or spelling') || found;
  }
  return found;
}

function refuseLeavingLinks(after: After, kept: Changes, refuse: Refuse): boolean {
  if (![...kept.values()].some((change) => change.kind === 'symlink' || change.kind === 'deleted')) return false;
  const targetOf = linkTargetIn(after);
  let found = false;
  for (const [path, node] of after.there(after.index.links)) {
    if (node.kind !== 'symlink') continue;
    const passed = [path];
    const leaves = linkLeavesTree(path, node.target, (at) => {
      const target = targetOf(at);
      if (target !== undefined) passed.push(at);
      return target;
    });
    if (!leaves) continue;
    // The link itself, if it is new; else the new link that bends an old one.
    const blamed = kept.has(path) ? [path] : passed.filter((link) => kept.has(link));
    for (const link of blamed) {
      const change = kept.get(link);
      if (change?.kind === 'symlink') found = refuse('link_leaves_tree', link, change.target) || found;
    }
  }
  return found;
}
