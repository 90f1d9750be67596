/** What is wrong with one line of a journal. `docs/journal.md` explains each kind. */
export interface Finding {
  /** From 1. */
  readonly line: number;
  readonly kind: FindingKind;
  readonly message: string;
}

export const findingKinds = [
  'edited',
  'stranger',
  'too_long',
  'forged',
  'dropped',
  'swapped',
  'misplaced',
  'duplicated',
  'wrong_run',
  'torn',
  'empty',
  'other_head',
  'unfinished_call',
  'outcome_without_intent',
  'second_outcome',
  'second_intent',
  'odd_egress',
  'after_close',
  'inconsistent',
] as const;

export type FindingKind = (typeof findingKinds)[number];

export const findingsMax = 50;

export class Findings {
  readonly list: Finding[] = [];

  add(line: number, kind: FindingKind, message: string): void {
    if (this.list.length < findingsMax) this.list.push({ line, kind, message });
  }
}
