import { posix } from 'node:path';
import type { Change, ChangeSet } from '../workspace/change-set.ts';
import type { Category } from '../workspace/changes/category.ts';
import type { ClassifiedChange } from '../workspace/changes/classify.ts';
import { ancestorsOf, parentOf } from '../workspace/diff.ts';
import { digestOfChangeSet } from '../workspace/manifest.ts';
import { Scope } from '../workspace/scope/scope.ts';
import type { Snapshot } from '../workspace/snapshot.ts';
import type { Place } from './verification.ts';

/** Whoever changes these says what is checked, or how. */
const deciding: readonly Category[] = ['test', 'execution_bearing', 'dependency', 'configuration'];

/**
 * Which changes of a candidate are checks: tests, their configuration, and what its policy names as inputs of gates. Promises:
 *  - `base_checks` is the candidate with every check as the base has it, and with none that the base has not: whatever a
 *    candidate says about checks has no say there;
 *  - `base_with_new_checks` is the base with the tests of the candidate, and nothing else of it.
 */
export class Checks {
  /** Changed, removed or replaced ones of the base, and inputs and reports of gates, new ones too. Sorted as the change set is. */
  readonly touched: readonly string[];
  /** Files of tests that the candidate adds or changes. */
  readonly tests: readonly string[];
  readonly #snapshot: Snapshot;
  readonly #all: ReadonlySet<string>;

  private constructor(snapshot: Snapshot, found: Pick<Checks, 'touched' | 'tests'> & { all: ReadonlySet<string> }) {
    this.#snapshot = snapshot;
    this.touched = found.touched;
    this.tests = found.tests;
    this.#all = found.all;
  }

  /** `inputs` are globs; `reports` are where gates write theirs: one that a candidate brings along is no report of a gate. */
  static of(
    snapshot: Snapshot,
    classified: readonly ClassifiedChange[],
    inputs: readonly string[],
    reports: readonly string[] = [],
  ): Checks {
    const scope = Scope.compile({ read: inputs, write: [], scratch: [], deny: [] });
    const written = reports.map(inWorkspace);
    const isReport = (path: string): boolean => written.some((one) => one === path || one.startsWith(`${path}/`));
    const isInput = (path: string): boolean => scope.classOf(path) === 'read' || isReport(path);
    // A directory is none, unless it stands where a check stood.
    const files = classified.filter(({ kind, status }) => kind !== 'directory' || status === 'type_changed');
    const checks = files.filter(
      ({ path, categories }) => isInput(path) || categories.some((category) => deciding.includes(category)),
    );
    const isTest = ({ categories }: ClassifiedChange): boolean => categories.includes('test');
    return new Checks(snapshot, {
      all: new Set(checks.map(({ path }) => path)),
      // What is new is not there for the checks of the base: it cannot say anything about those.
      touched: checks.filter(({ path, status }) => status !== 'added' || isInput(path)).map(({ path }) => path),
      tests: checks.filter((change) => isTest(change) && change.status !== 'deleted').map(({ path }) => path),
    });
  }

  /** Whether the candidate says anything about checks: then it is judged with those of the base too. */
  get any(): boolean {
    return this.#all.size > 0;
  }

  at(place: Place): Snapshot {
    const { changeSet } = this.#snapshot;
    switch (place) {
      case 'candidate':
        return this.#snapshot;
      case 'base':
        return this.#with(new Map());
      case 'base_checks':
        return this.#with(this.#withoutChecks(changeSet));
      case 'base_with_new_checks':
        return this.#with(this.#onlyTests(changeSet));
    }
  }

  #with(changes: ReadonlyMap<string, Change>): Snapshot {
    const changeSet = { changes };
    return { ...this.#snapshot, changeSet, digest: digestOfChangeSet(changeSet) };
  }

  /** Nothing stands where a check of the base is to be: neither a file in place of its directory nor anything below it. */
  #withoutChecks({ changes }: ChangeSet): ReadonlyMap<string, Change> {
    const { tree } = this.#snapshot.base;
    const back = [...this.#all].filter((path) => tree.has(path));
    const above = new Set(back.flatMap((path) => ancestorsOf(path)));
    const isBack = new Set(back);
    const kept = new Map<string, Change>();
    for (const [path, change] of changes) {
      if (this.#all.has(path) || ancestorsOf(path).some((at) => isBack.has(at))) continue;
      if (above.has(path) && change.kind !== 'directory') continue;
      kept.set(path, change);
    }
    return withDirectories(kept, changes, tree);
  }

  #onlyTests({ changes }: ChangeSet): ReadonlyMap<string, Change> {
    const { tree } = this.#snapshot.base;
    const wanted = new Set(this.tests);
    const kept = new Map([...changes].filter(([path]) => wanted.has(path) && tree.get(path)?.kind !== 'directory'));
    return withDirectories(kept, changes, tree);
  }
}

/** As paths of the workspace are written; what lies elsewhere is nowhere in it. */
function inWorkspace(path: string): string {
  return posix.relative('/workspace', posix.resolve('/workspace', path));
}

/** With the new directories that they lie in; what would lie in something else stays away. */
function withDirectories(
  kept: ReadonlyMap<string, Change>,
  changes: ReadonlyMap<string, Change>,
  tree: Snapshot['base']['tree'],
): ReadonlyMap<string, Change> {
  const result = new Map<string, Change>();
  const isThere = (path: string): boolean => {
    if (path === '') return true;
    const found = result.get(path) ?? tree.get(path);
    if (found?.kind === 'directory') return true;
    if (found !== undefined && found.kind !== 'deleted') return false;
    if (changes.get(path)?.kind !== 'directory' || !isThere(parentOf(path))) return false;
    result.set(path, { kind: 'directory' });
    return true;
  };
  for (const [path, change] of kept) if (change.kind === 'deleted' || isThere(parentOf(path))) result.set(path, change);
  return result;
}
