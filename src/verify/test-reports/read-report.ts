import { readJunit } from './junit.ts';
import { readTap } from './tap.ts';
import { ReportError, type TestReport } from './test-report.ts';

/** Throws `ReportError` for whatever is not wholly a report with at least one case in it. */
export function readReport(kind: 'junit' | 'tap', bytes: Uint8Array): TestReport {
  const text = new TextDecoder('utf-8').decode(bytes);
  const report = kind === 'junit' ? readJunit(text) : readTap(text);
  if (report.cases.length === 0) throw new ReportError('there is no test in it');
  return report;
}
