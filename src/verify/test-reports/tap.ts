import { caseName, casesMax, ReportError, type TestCase, type TestReport } from './test-report.ts';

const depthMax = 32;
const lineCharsMax = 4096;

/**
 * TAP, versions 12 to 14, as a sandbox printed it. Lines that are none of it are passed over, as TAP has it. Promises:
 *  - without a plan, or with another count than the plan's, at any level, it is no report: a test that never ended is not
 *    passed over;
 *  - of tests with subtests the subtests are counted, and the test itself where it fails and none of them does;
 *  - a `not ok` that is marked as known to fail is skipped; after `Bail out!` there is no report.
 */
export function readTap(text: string): TestReport {
  const reader = new Reader();
  for (const raw of linesOf(text)) reader.line(raw.slice(0, lineCharsMax));
  return reader.end();
}

interface Level {
  plan: number | undefined;
  seen: number;
  /** Cases below the next test of this level, and whether one of them failed. */
  below: { cases: number; failed: boolean };
}

const test = /^(not )?ok\b(?: +(\d+))?(?: +- +| +-$| +|$)(.*)$/;
const plan = /^1\.\.(\d{1,9})(?:\s|$)/;

class Reader {
  readonly #cases: TestCase[] = [];
  /** From the outermost to where the reader stands. */
  readonly #levels: Level[] = [newLevel()];
  /** Indentation of the YAML block that is being passed over. */
  #yaml: number | undefined;

  line(raw: string): void {
    const text = raw.trimStart();
    const indent = raw.length - text.length;
    if (this.#yaml !== undefined) {
      if (text.trimEnd() === '...' && indent === this.#yaml) this.#yaml = undefined;
      return;
    }
    if (text.startsWith('Bail out!')) throw new ReportError('the tests bailed out');
    if (indent % 4 === 2 && text.trimEnd() === '---') this.#yaml = indent;
    const depth = indent / 4;
    if (!Number.isInteger(depth)) return;
    const planned = plan.exec(text);
    const found = test.exec(text);
    if (planned === null && found === null) return;
    if (depth > depthMax) throw new ReportError(`its subtests lie more than ${depthMax} deep`);
    this.#closeBelow(depth);
    while (this.#levels.length <= depth) this.#levels.push(newLevel()); // subtests come before the test that has them
    const level = this.#levels[depth] ?? newLevel();
    if (planned !== null) setPlan(level, Number(planned[1]));
    if (found !== null) this.#test(depth, level, { ok: found[1] === undefined, rest: found[3] ?? '' });
  }

  end(): TestReport {
    if (this.#yaml !== undefined) throw new ReportError('it ends in the middle of a block of YAML');
    this.#closeBelow(0);
    const [top = newLevel()] = this.#levels;
    if (top.plan === undefined) throw new ReportError('it has no plan, so nobody knows whether it is whole');
    checkPlan(top);
    return { cases: this.#cases };
  }

  #test(depth: number, level: Level, { ok, rest }: { readonly ok: boolean; readonly rest: string }): void {
    level.seen++;
    const { below } = level;
    level.below = { cases: 0, failed: false };
    const directive = /(?:^|\s)#\s*(skip|todo)\b/i.exec(rest);
    const kind = directive?.[1]?.toLowerCase();
    const state = kind === 'skip' || (kind === 'todo' && !ok) ? 'skipped' : ok ? 'passed' : 'failed';
    const description = rest.slice(0, directive?.index ?? rest.length).trim();
    // What has subtests is what they come to, unless it fails by itself.
    const above = this.#levels[depth - 1];
    if (above !== undefined)
      above.below = { cases: above.below.cases + 1, failed: above.below.failed || state === 'failed' };
    if (below.cases > 0 && (state !== 'failed' || below.failed)) return;
    if (this.#cases.length >= casesMax) throw new ReportError(`it has more than ${casesMax} tests`);
    this.#cases.push({ name: caseName([description === '' ? `test ${level.seen}` : description]), state });
  }

  /** What lay deeper is over. */
  #closeBelow(depth: number): void {
    for (const level of this.#levels.splice(depth + 1)) checkPlan(level);
  }
}

function newLevel(): Level {
  return { plan: undefined, seen: 0, below: { cases: 0, failed: false } };
}

function setPlan(level: Level, count: number): void {
  if (level.plan !== undefined) throw new ReportError('it has two plans');
  level.plan = count;
}

function checkPlan({ plan: planned, seen }: Level): void {
  if (planned !== undefined && planned !== seen)
    throw new ReportError(`${planned} tests were planned, and ${seen} are told`);
}

function* linesOf(text: string): Generator<string, void, undefined> {
  for (let from = 0; from < text.length;) {
    const end = text.indexOf('\n', from);
    const to = end < 0 ? text.length : end;
    yield text.slice(from, text[to - 1] === '\r' ? to - 1 : to);
    from = to + 1;
  }
}
