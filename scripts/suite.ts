import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { execaSync } from 'execa';
import { temporaryFolder } from './suite/temporary-folder.ts';
import { filesToRepeat, judge, linesOf, Report } from './suite/verdict.ts';

/**
 * Unit and engine tests, and what they come to together with the supervisor's (0: they passed). A file that failed is run once more
 * when nothing else runs on the machine; what passes only then is named in the last lines. Arguments: the exit code of the
 * supervisor's tests, and which files, all of them where none is named.
 */
const [supervisor, ...only] = process.argv.slice(2);
const folder = temporaryFolder();
const projects = ['unit', 'together', 'timed', 'engine'].flatMap((name) => ['--project', name]);

/** Undefined where vitest ended before it could say anything, or with an error that it did not report. */
function vitest(files: readonly string[]): Report | undefined {
  const path = join(folder.path, 'report.json');
  rmSync(path, { force: true });
  const env = { GLOVEBOX_TEST_REPORT: path, TMPDIR: folder.path };
  const { exitCode } = execaSync('npx', ['vitest', 'run', ...projects, ...files], {
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

// Whoever interrupts the tests ends vitest; what is in memory is still to be given back.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined);

try {
  const first = vitest(only) ?? { files: [], errors: ['vitest left no report'] };
  const again = new Map<string, Report | undefined>();
  for (const file of filesToRepeat(first)) {
    console.log(`== ${file} once more, alone`);
    again.set(file, vitest([file]));
  }
  const verdict = judge(first, again);
  const passed = verdict.passed + (supervisor === '0' ? 1 : 0);
  const failed = verdict.failed + (supervisor === '0' ? 0 : 1);
  for (const line of linesOf({ ...verdict, passed, failed })) console.log(line);
  process.exitCode = failed === 0 ? 0 : 1;
} finally {
  folder.remove();
}
