import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { readReport } from './read-report.ts';
import { ReportError } from './test-report.ts';

const read = (text: string): readonly string[] =>
  readReport('junit', Buffer.from(text)).cases.map(({ name, state }) => `${state} ${name}`);

test('cases of every state, in suites in suites', () => {
  const text = `<?xml version="1.0"?>
<testsuites><testsuite name="outer" tests="5" failures="1" errors="1"><testsuite name="inner" failures="1">
  <testcase classname="a" name="one"/>
  <testcase classname="a" name="two"><failure message="no">1 != 2</failure></testcase>
</testsuite>
  <testcase name="three"><error/></testcase>
  <testcase name="four"><skipped/></testcase>
  <testcase name="five"><system-out><![CDATA[<failure/>]]></system-out></testcase>
</testsuite></testsuites>`;
  expect(read(text)).toEqual(['passed a › one', 'failed a › two', 'failed three', 'skipped four', 'passed five']);
});

test('what a suite counts as failed and has no case for has failed; a retry that passed has not passed', () => {
  expect(read('<testsuite name="s" errors="2"><testcase name="a"/></testsuite>')).toEqual([
    'passed a',
    'failed s › 2 failures that have no test case',
  ]);
  expect(read('<testsuite><testcase name="a"><flakyFailure/></testcase></testsuite>')).toEqual(['failed a']);
});

test.each([
  ['nothing', ''],
  ['no case', '<testsuites></testsuites>'],
  ['another document', '<html><testcase name="a"/></html>'],
  ['half of it', '<testsuite><testcase name="a"/>'],
  ['a case in a case', '<testsuite><testcase name="a"><testcase name="b"/></testcase></testsuite>'],
  ['a document type', '<!DOCTYPE a [<!ENTITY b "c">]><testsuite><testcase name="&b;"/></testsuite>'],
  [
    'entities that grow',
    `<!DOCTYPE z [${'abcdefgh'.replaceAll(/./g, '<!ENTITY $& "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">')}]><testsuite><testcase name="&h;"/></testsuite>`,
  ],
  ['a file of the host', '<!DOCTYPE z SYSTEM "file:///etc/passwd"><testsuite><testcase name="a"/></testsuite>'],
  ['an entity that nobody knows', '<testsuite><testcase name="&file;"/></testsuite>'],
  ['depth', '<testsuite>'.repeat(100_000)],
  ['text', 'ok 1\n1..1\n'],
  ['zeros', '\0'.repeat(1000)],
])('%s is no report', (_, text) => {
  expect(() => read(text)).toThrow(ReportError);
});

test('names are short and printable, whatever they were', () => {
  const [shown = ''] = read(`<testsuite><testcase name="&#x9b;2J\u202e${'x'.repeat(100_000)}"/></testsuite>`).slice(0);
  expect(shown).toMatch(/^passed [\x20-\x7e]{1,300}$/);
});

test('more cases than are looked at are no report, and are not waited for', () => {
  expect(() => read(`<testsuite>${'<testcase name="a"/>'.repeat(200_001)}</testsuite>`)).toThrow(/more than 200000/);
});

test('of a report, no change makes anything but a report or a refusal', () => {
  const whole =
    '<testsuites><testsuite name="s" failures="1"><testcase name="a"><failure/></testcase></testsuite></testsuites>';
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.nat(3), fc.string({ maxLength: 5 }), (at, drop, put) => {
      const changed = whole.slice(0, at) + put + whole.slice(at + drop);
      try {
        expect(readReport('junit', Buffer.from(changed)).cases.length).toBeGreaterThan(0);
      } catch (error) {
        expect(error).toBeInstanceOf(ReportError);
      }
    }),
    { numRuns: 300 },
  );
});
