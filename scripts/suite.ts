import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { beside } from './suite/beside.ts';
import { temporaryFolder } from './suite/temporary-folder.ts';
import { filesToRepeat, judge, linesOf, Report } from './suite/verdict.ts';

/**
 * Everything that must hold for a change: types, lint, format and dead code, the supervisor's tests, unit and engine tests, and what
 * they come to (0: all of it holds). What the check finds ends it at once. The supervisor's tests mostly wait: they run beside the
 * check and the first of the others. A file that failed is run once more when nothing else runs on the machine; what passes only
 * then is named in the last lines. Arguments: files, which then are run alone.
 */
const only = process.argv.slice(2);
const folder = temporaryFolder();
/** A file that is run once more meets the same cases: what its seed made fail fails again. */
const seed = process.env['GLOVEBOX_SEED'] ?? String(Math.floor(Math.random() * 2 ** 31));
const projects = ['unit', 'together', 'by-twos', 'timed', 'engine'].flatMap((name) => ['--project', name]);

/** Undefined where vitest ended before it could say anything, or with an error that it did not report. */
async function vitest(files: readonly string[]): Promise<Report | undefined> {
  const path = join(folder.path, 'report.json');
  rmSync(path, { force: true });
  const env = { GLOVEBOX_TEST_REPORT: path, TMPDIR: folder.path, GLOVEBOX_SEED: seed };
  const { exitCode } = await execa('npx', ['vitest', 'run', ...projects, ...files], {
    env,
    stdio: 'inherit',
    reject: false,
  });
  try {
    const report = Report.parse(JSON.parse(readFileSync(path, 'utf8')));
    const explained = report.errors.length > 0 || judge(report, new Map()).failed > 0;
    if (exitCode === 0 || explained) return report;
    return { ...report, errors: [`vitest ended with ${exitCode ?? 'a signal'}, and no test had failed`] };
  } catch (error) {
    console.error('vitest left no report:', error);
    return undefined;
  }
}

/** Gives way to what is held to a time. */
async function checks(): Promise<boolean> {
  console.log('== types, lint, format, dead code');
  const check = ['-n', '5', 'make', '--no-print-directory', 'check'];
  return (await execa('nice', check, { stdio: 'inherit', reject: false })).exitCode === 0;
}

/** Of all that vitest runs, with what failed run once more. */
async function tests(): Promise<{ first: Report; again: ReadonlyMap<string, Report | undefined> }> {
  console.log(`== unit and engine tests, GLOVEBOX_SEED=${seed}`);
  const first = (await vitest(only)) ?? { files: [], errors: ['vitest left no report'] };
  const again = new Map<string, Report | undefined>();
  for (const file of filesToRepeat(first)) {
    console.log(`== ${file} once more, alone`);
    again.set(file, await vitest([file]));
  }
  return { first, again };
}

// Whoever interrupts the tests ends vitest; what is in memory is still to be given back.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined);

const whole = only.length === 0;
const program = ['images/supervisor/test.sh'];
const supervisor = whole ? beside('the supervisor: driver, sanitizers, fuzzer', 'sh', program, folder.path) : undefined;
try {
  if (whole && !(await checks())) {
    for (const line of linesOf({ passed: 0, failed: 1, skipped: 0, onlyAlone: [], notes: [] })) console.log(line);
    process.exitCode = 1;
  } else {
    const shown = supervisor?.shown();
    const { first, again } = await tests();
    const verdict = judge(first, again);
    const held = await shown;
    const passed = verdict.passed + (held === true ? 1 : 0);
    const failed = verdict.failed + (held === false ? 1 : 0);
    for (const line of linesOf({ ...verdict, passed, failed })) console.log(line);
    process.exitCode = failed === 0 ? 0 : 1;
  }
} finally {
  supervisor?.end();
  folder.remove();
}
