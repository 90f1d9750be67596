import { printable } from '../../journal/printable.ts';

/** What a program says of the tests that it ran. It is a claim: whoever writes tests writes what is in it. */
export interface TestReport {
  readonly cases: readonly TestCase[];
}

export interface TestCase {
  /** Printable; of two of one name both are there. */
  readonly name: string;
  readonly state: 'passed' | 'failed' | 'skipped';
}

/** Of a whole report: longer ones are not read. */
export const reportBytesMax = 32 * 1024 * 1024;
export const casesMax = 200_000;
const nameCharsMax = 300;

/** Why a report is none. Its message is for people, and printable. */
export class ReportError extends Error {
  override readonly name = 'ReportError';
}

export function caseName(parts: readonly string[]): string {
  const whole = parts.filter((part) => part !== '').join(' › ');
  return printable(whole.slice(0, nameCharsMax * 2)).slice(0, nameCharsMax);
}

export function namesOf({ cases }: TestReport, state: TestCase['state']): readonly string[] {
  return cases.filter((one) => one.state === state).map(({ name }) => name);
}
