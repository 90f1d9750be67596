import { z } from 'zod';

/** What one run of vitest has left (`report.ts`). */
export const Report = z.strictObject({
  files: z.array(
    z.strictObject({
      /** Relative to the repository. */
      file: z.string(),
      /** What failed outside of its tests: an import, a hook. */
      error: z.string().optional(),
      tests: z.array(z.strictObject({ name: z.string(), state: z.enum(['passed', 'failed', 'skipped']) })),
    }),
  ),
  /** Errors that belong to no file. */
  errors: z.array(z.string()),
});
export type Report = z.infer<typeof Report>;
type File = Report['files'][number];

export interface Verdict {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** `file > test`, of what failed beside the others and passed alone. */
  readonly onlyAlone: readonly string[];
  /** What else a reader has to know. */
  readonly notes: readonly string[];
}

/** More files than that fail for a reason that is not load. */
const repeatedMax = 3;

/** Which files are to be run once more, alone; none where something is wrong that no file can be asked about. */
export function filesToRepeat({ files, errors }: Report): readonly string[] {
  const failing = files.filter(hasFailed).map(({ file }) => file);
  return errors.length > 0 || failing.length > repeatedMax ? [] : failing;
}

/**
 * What a run and the repeated files come to. Promises: a test counts once, as the file's last run has it; what failed twice, and
 * what passed at first and failed alone, has failed; what passed only alone is named; a file of which not every test was repeated
 * has failed.
 */
export function judge(first: Report, again: ReadonlyMap<string, Report | undefined>): Verdict {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const onlyAlone: string[] = [];
  const notes = first.errors.map((error) => `an error outside of every test: ${error}`);
  counts.failed += first.errors.length;
  for (const before of first.files) {
    const repeated = again.has(before.file);
    const after = repeated ? repetitionOf(before, again.get(before.file)) : before;
    if (typeof after === 'string') notes.push(`${before.file} was run again, and ${after}`);
    const counted = typeof after === 'string' ? before : after;
    for (const { state } of counted.tests) counts[state]++;
    if (hasFailed(counted) && counted.tests.every(({ state }) => state !== 'failed')) counts.failed++; // the file itself
    if (repeated && typeof after !== 'string') onlyAlone.push(...passedNow(before, after));
  }
  return { ...counts, onlyAlone, notes };
}

/** The last lines of `make test`; the very last one counts. */
export function linesOf({ passed, failed, skipped, onlyAlone, notes }: Verdict): readonly string[] {
  const tests = onlyAlone.length === 1 ? '1 test' : `${onlyAlone.length} tests`;
  const alone = onlyAlone.length === 0 ? [] : [`${tests} passed only when run alone: ${onlyAlone.join('; ')}`];
  return [...notes, ...alone, `${passed} passed, ${failed} failed, ${skipped} skipped`];
}

function hasFailed({ error, tests }: File): boolean {
  return error !== undefined || tests.some(({ state }) => state === 'failed');
}

/** In words, what is wrong with it. */
function repetitionOf(before: File, report: Report | undefined): File | string {
  if (report === undefined) return 'left no report';
  if (report.errors.length > 0) return `an error was outside of its tests: ${report.errors.join('; ')}`;
  const after = report.files.find(({ file }) => file === before.file);
  if (after === undefined) return 'was not found';
  const lacking = before.tests.find(({ name, state }) => {
    const found = after.tests.find((test) => test.name === name);
    return found === undefined || (state === 'failed' && found.state === 'skipped');
  });
  return lacking === undefined ? after : `'${lacking.name}' did not run`;
}

/** A file that failed outside of its tests, where each of them may have passed or never begun, is named by itself. */
function passedNow(before: File, after: File): readonly string[] {
  const passed = new Set(after.tests.filter(({ state }) => state === 'passed').map(({ name }) => name));
  const failed = new Set(after.tests.filter(({ state }) => state === 'failed').map(({ name }) => name));
  const whole = before.error !== undefined && !hasFailed(after) ? [before.file] : [];
  const tests = before.tests.filter(({ name, state }) => state === 'failed' && passed.has(name) && !failed.has(name));
  return [...whole, ...tests.map(({ name }) => `${before.file} > ${name}`)];
}
