import { printable } from '../journal/printable.ts';
import { levelOf, type ReportedCall, type RunReport, type Violation } from './run-report.ts';

/**
 * JUnit XML, as CI servers read it: a test case for each call, one for the changes, one for the run. A violation is a failure of
 * its case. Text of the sandbox is escaped twice: for readers, then for XML.
 */
export function junitOf(report: RunReport): string {
  const cases = [...report.calls.map(caseOfCall), changesCase(report), ...gateCases(report), runCase(report)];
  const failed = cases.filter(({ violations }) => violations.length > 0).length;
  const counts = `tests="${cases.length}" failures="${failed}" errors="0" skipped="0"`;
  const time = `time="${seconds(report.ms)}"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="glovebox" ${counts} ${time}>`,
    `  <testsuite name=${quoted(`run ${report.run}`)} ${counts} ${time} timestamp=${quoted(report.openedAt)} hostname="glovebox">`,
    '    <properties>',
    `      <property name="policy" value=${quoted(report.policy)}/>`,
    `      <property name="outcome" value=${quoted(report.outcome)}/>`,
    `      <property name="changes" value=${quoted(`${report.changes.length}`)}/>`,
    ...(report.verification === undefined
      ? []
      : [`      <property name="verification" value=${quoted(report.verification.verdict)}/>`]),
    '    </properties>',
    ...cases.flatMap(linesOf),
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

interface Case {
  readonly className: string;
  readonly name: string;
  readonly ms: number;
  readonly violations: readonly Violation[];
}

function caseOfCall({ callId, tool, ms, violations }: ReportedCall): Case {
  return { className: 'calls', name: `${callId} ${tool}`, ms, violations };
}

function changesCase({ violations }: RunReport): Case {
  const ofChanges = violations.filter(({ rule }) => rule.startsWith('change-'));
  return { className: 'run', name: 'changes are in the write scope and complete', ms: 0, violations: ofChanges };
}

/** One for each gate of the verification, where there is one. */
function gateCases({ verification, violations }: RunReport): readonly Case[] {
  return (verification?.gates ?? []).map(({ id }) => {
    const ofGate = violations.filter(({ gate }) => gate === id);
    return { className: 'gates', name: id, ms: 0, violations: ofGate };
  });
}

/** With what no call, no change and no gate stands for. */
function runCase({ violations, calls, ms }: RunReport): Case {
  const told = new Set(calls.flatMap((call) => call.violations));
  const rest = violations.filter(
    (violation) => !told.has(violation) && !violation.rule.startsWith('change-') && violation.gate === undefined,
  );
  return { className: 'run', name: 'run is closed as finished', ms, violations: rest };
}

function linesOf({ className, name, ms, violations }: Case): readonly string[] {
  const open = `    <testcase classname=${quoted(className)} name=${quoted(name)} time="${seconds(ms)}"`;
  if (violations.length === 0) return [`${open}/>`];
  const [first] = violations;
  const text = violations.map((violation) => `${levelOf(violation)} ${violation.rule}: ${violation.message}`);
  // One failure a case is what readers of these files expect.
  return [
    `${open}>`,
    `      <failure type=${quoted(first?.rule ?? '')} message=${quoted(first?.message ?? '')}>${escaped(text.join('\n'))}</failure>`,
    '    </testcase>',
  ];
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(3);
}

function quoted(text: string): string {
  return `"${escaped(text).replaceAll('\n', '&#10;')}"`;
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
};

/** What is left is allowed in XML 1.0: `printable` escapes controls and lone surrogates, here go the last non-characters. */
function escaped(text: string): string {
  return printable(text, { newlines: 'keep' })
    .replaceAll(/[\ufffe\uffff]/g, '\ufffd')
    .replaceAll(/[&<>"']/g, (char) => entities[char] ?? char);
}
