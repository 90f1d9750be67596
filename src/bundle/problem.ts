import { printable } from '../journal/printable.ts';

/** What is wrong with a bundle, and where. `member` and `message` may hold hostile text: to be shown escaped. */
export interface Problem {
  /** Name of the file in it; `archive` for what holds them together. */
  readonly member: string;
  /** Which part of it: a key, an index, a field of its header. Empty: all of it. */
  readonly field: string;
  readonly message: string;
}

export const problemsMax = 50;

export function problem(member: string, field: string, message: string): Problem {
  return { member: member.slice(0, 200), field: field.slice(0, 200), message: message.slice(0, 500) };
}

/** One line. */
export function formatProblem({ member, field, message }: Problem): string {
  return printable(`${member}${field === '' ? '' : `: ${field}`}: ${message}`);
}

/** Where two values of JSON part, field by field; the first few. */
export function firstDifferences(member: string, is: unknown, due: unknown, at = ''): readonly Problem[] {
  const problems: Problem[] = [];
  const compare = (one: unknown, other: unknown, field: string): void => {
    if (problems.length >= differencesMax || one === other) return;
    if (typeof one === 'object' && typeof other === 'object' && one !== null && other !== null) {
      const [found, wanted] = [new Map(Object.entries(one)), new Map(Object.entries(other))];
      for (const key of new Set([...found.keys(), ...wanted.keys()]))
        compare(found.get(key), wanted.get(key), field === '' ? key : `${field}.${key}`);
      return;
    }
    problems.push(problem(member, field, `it is ${textOf(one)}, and the other files say ${textOf(other)}`));
  };
  compare(is, due, at);
  return problems;
}

const differencesMax = 5;

function textOf(value: unknown): string {
  return value === undefined ? 'nothing' : (JSON.stringify(value) ?? 'nothing').slice(0, 160);
}
