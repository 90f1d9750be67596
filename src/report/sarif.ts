import { encodePath } from '../bytes-path.ts';
import { digestOf } from '../digest.ts';
import { printable } from '../journal/printable.ts';
import { levelOf, violationRules, type RunReport, type Violation, type ViolationRule } from './run-report.ts';

const schema = 'https://json.schemastore.org/sarif-2.1.0.json';
const messageCharsMax = 2_000;

/**
 * A SARIF 2.1.0 log of one run. What concerns a path is located there, relative to the workspace; everything else in the line of
 * the journal that says it. The same violation has the same fingerprint in every run.
 */
export function sarifOf(report: RunReport, version: string): Readonly<Record<string, unknown>> {
  const ids = Object.keys(violationRules) as ViolationRule[];
  const failed = report.violations.some((violation) => levelOf(violation) === 'error');
  return {
    $schema: schema,
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'Glovebox',
            version,
            rules: ids.map((id) => ({
              id,
              shortDescription: { text: violationRules[id].text },
              defaultConfiguration: { level: violationRules[id].level },
            })),
          },
        },
        automationDetails: { id: `glovebox/${report.policy}/${report.run}` },
        invocations: [
          {
            executionSuccessful: report.outcome === 'finished',
            startTimeUtc: report.openedAt,
            endTimeUtc: report.endedAt,
          },
        ],
        originalUriBaseIds: {
          WORKSPACE: { description: { text: 'The workspace of the run.' } },
          RUN: { description: { text: `The directory of run ${report.run}, where its journal is.` } },
        },
        columnKind: 'utf16CodeUnits',
        results: report.violations.map((violation) => resultOf(violation, ids.indexOf(violation.rule))),
        properties: {
          run: report.run,
          policy: printable(report.policy),
          outcome: report.outcome,
          verdict: failed ? 'violated' : 'clean',
          calls: report.calls.length,
          changes: report.changes.length,
          ...(report.verification === undefined ? {} : { verification: report.verification.verdict }),
        },
      },
    ],
  };
}

function resultOf(violation: Violation, ruleIndex: number): Readonly<Record<string, unknown>> {
  const { rule, message, path, seq, callId, gate, failure } = violation;
  const fingerprint = digestOf(JSON.stringify([rule, path ?? null, path === undefined ? message : null]));
  return {
    ruleId: rule,
    ruleIndex,
    level: levelOf(violation),
    message: { text: printable(message).slice(0, messageCharsMax) },
    locations: [{ physicalLocation: path === undefined ? inJournal(seq) : inWorkspace(path) }],
    partialFingerprints: { 'gloveboxViolation/v1': fingerprint },
    ...(callId === undefined && gate === undefined && failure === undefined
      ? {}
      : { properties: { callId, gate, ...failure } }),
  };
}

function inWorkspace(path: string): Readonly<Record<string, unknown>> {
  return { artifactLocation: { uri: uriOf(path), uriBaseId: 'WORKSPACE' } };
}

function inJournal(seq: number | undefined): Readonly<Record<string, unknown>> {
  const region = seq === undefined || seq < 1 ? {} : { region: { startLine: seq } };
  return { artifactLocation: { uri: 'journal.ndjson', uriBaseId: 'RUN' }, ...region };
}

/** A relative reference (RFC 3986), whatever bytes the path holds. */
function uriOf(path: string): string {
  let uri = '';
  for (const byte of encodePath(path.replace(/^\/+/, ''))) {
    const char = String.fromCodePoint(byte);
    uri += /[A-Za-z0-9._~/-]/.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return uri === '' ? '.' : uri;
}
