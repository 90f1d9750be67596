import { SaxesParser, type SaxesTagPlain } from 'saxes';
import { messageOf } from '../../errors.ts';
import { printable } from '../../journal/printable.ts';
import { caseName, casesMax, ReportError, type TestCase, type TestReport } from './test-report.ts';

const depthMax = 64;
const attributeCharsMax = 4096;

/**
 * JUnit XML, as a sandbox left it. Promises:
 *  - only well-formed XML is read, without a document type: no entity but the five of XML is known, and nothing is fetched;
 *  - what a suite counts as failed and shows no case for is a failed case too; one that passed when it was tried again has
 *    failed;
 *  - depth, cases and names are bounded.
 */
export function readJunit(text: string): TestReport {
  const reader = new Reader();
  const parser = new SaxesParser();
  parser.on('error', (error) => {
    throw new ReportError(`it is no well-formed XML: ${printable(error.message).slice(0, 200)}`);
  });
  parser.on('doctype', () => {
    throw new ReportError('it has a document type, which reports have no use for');
  });
  parser.on('opentag', (tag) => reader.open(tag));
  parser.on('closetag', ({ name }) => reader.close(name));
  try {
    parser.write(text.startsWith('\ufeff') ? text.slice(1) : text).close();
  } catch (error) {
    if (error instanceof ReportError) throw error;
    throw new ReportError(`it cannot be read as XML: ${printable(messageOf(error)).slice(0, 200)}`);
  }
  return { cases: reader.cases };
}

interface Suite {
  readonly name: string;
  /** As its attributes count them. */
  readonly claimed: number;
  failed: number;
}

class Reader {
  readonly cases: TestCase[] = [];
  readonly #suites: Suite[] = [];
  #case: { readonly name: string; state: TestCase['state'] } | undefined;
  #depth = 0;

  open({ name, attributes }: SaxesTagPlain): void {
    this.#depth++;
    if (this.#depth > depthMax) throw new ReportError(`its elements lie more than ${depthMax} deep`);
    if (this.#depth === 1 && name !== 'testsuites' && name !== 'testsuite')
      throw new ReportError(`its outermost element is ${printable(name).slice(0, 60)}, not testsuites`);
    if (name === 'testsuite') this.#suites.push(suiteOf(attributes));
    if (name === 'testcase') {
      if (this.#case !== undefined) throw new ReportError('a test case lies in another one');
      const { classname = '', name: own = '' } = attributes;
      this.#case = {
        name: caseName([classname, own].map((part) => part.slice(0, attributeCharsMax))),
        state: 'passed',
      };
    }
    if (this.#case !== undefined && failing.has(name)) this.#case.state = 'failed';
    if (this.#case?.state === 'passed' && name === 'skipped') this.#case.state = 'skipped';
  }

  close(name: string): void {
    this.#depth--;
    if (name === 'testcase' && this.#case !== undefined) {
      this.#add(this.#case);
      const suite = this.#suites.at(-1);
      if (suite !== undefined && this.#case.state === 'failed') suite.failed++;
      this.#case = undefined;
    }
    if (name !== 'testsuite') return;
    const suite = this.#suites.pop();
    if (suite === undefined) return;
    const missing = suite.claimed - suite.failed;
    if (missing > 0)
      this.#add({ name: caseName([suite.name, `${missing} failures that have no test case`]), state: 'failed' });
    const above = this.#suites.at(-1);
    if (above !== undefined) above.failed += Math.max(suite.failed, suite.claimed);
  }

  #add(one: TestCase): void {
    if (this.cases.length >= casesMax) throw new ReportError(`it has more than ${casesMax} test cases`);
    this.cases.push(one);
  }
}

const failing: ReadonlySet<string> = new Set([
  'failure',
  'error',
  'rerunFailure',
  'rerunError',
  'flakyFailure',
  'flakyError',
]);

function suiteOf({ name = '', failures, errors }: Readonly<Record<string, string>>): Suite {
  return { name: name.slice(0, attributeCharsMax), claimed: countOf(failures) + countOf(errors), failed: 0 };
}

function countOf(text: string | undefined): number {
  return text !== undefined && /^\d{1,7}$/.test(text) ? Number(text) : 0;
}
