import type { PathClass } from '../scope/scope.ts';

export type FindingKind =
  | 'special_file'
  | 'link_leaves_tree'
  | 'git_metadata'
  | 'name_collision'
  | 'bad_name'
  | 'no_parent'
  | 'odd_name'
  | 'mode_normalised'
  | 'hard_link'
  | 'base_in_scratch'
  | 'digest_mismatch'
  | 'unreadable'
  | 'limit_exceeded';

/** Something about a path of the workspace that whoever reads the change set has to know. */
export interface Finding {
  readonly kind: FindingKind;
  /** Hostile text: show it through `displayPath`. So is `detail`. */
  readonly path: string;
  /** refused: the change is not exported. noted: to be known, no harm
   * (most often it is exported, made safe). incomplete: what is there could not be seen. */
  readonly effect: 'refused' | 'noted' | 'incomplete';
  readonly detail?: string;
}

/** A change outside the write scope. It is not exported. */
export interface Violation {
  readonly path: string;
  readonly kind: 'added' | 'modified' | 'deleted';
  readonly class: PathClass;
}

/** Lists that a hostile workspace can make long: of each kind the first ones are kept, the rest counted. */
export class Findings {
  readonly #kept: Finding[] = [];
  readonly #byKind = new Map<FindingKind, number>();
  #leftOut = 0;
  #incomplete = false;

  add(finding: Finding): void {
    const before = this.#byKind.get(finding.kind) ?? 0;
    this.#byKind.set(finding.kind, before + 1);
    if (finding.effect === 'incomplete') this.#incomplete = true;
    // By kind, so that a flood of harmless ones cannot push out the one that matters.
    if (before < keptPerKind) this.#kept.push(finding);
    else this.#leftOut++;
  }

  get kept(): readonly Finding[] {
    return this.#kept;
  }

  get leftOut(): number {
    return this.#leftOut;
  }

  get incomplete(): boolean {
    return this.#incomplete;
  }
}

export const keptPerKind = 200;
