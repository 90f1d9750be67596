/**
 * What can be counted in the text of a test, in the languages that most have. A hint for people: a text can say the same
 * otherwise.
 */
export interface Markers {
  /** What switches a test off, or every other one. */
  readonly off: number;
  readonly cases: number;
  readonly assertions: number;
}

export function countMarkers(text: string): Markers {
  return { off: countOf(text, off), cases: countOf(text, cases), assertions: countOf(text, assertions) };
}

// Each is linear: no two parts of one that could match the same text.
const off: readonly RegExp[] = [
  /\b(?:it|test|describe|context|suite|specify|bench|t)\s?\.\s?(?:skip|todo|only|fixme|failing|fails|skipIf|runIf)\b/g,
  /\b(?:xit|xtest|xdescribe|xcontext|xspecify|fit|fdescribe|fcontext)\s?\(/g,
  /\b(?:skip|only|todo)\s?:\s?(?:true|['"`])/g,
  /@pytest\.mark\.(?:skip|skipif|xfail)\b/g,
  /\bpytest\.(?:skip|xfail|importorskip)\s?\(/g,
  /@(?:unittest\.)?(?:skip|skipIf|skipUnless|expectedFailure)\b/g,
  /\bself\.skipTest\s?\(/g,
  /@(?:Disabled\w*|Ignore)\b/g,
  /\b[tb]\.Skip(?:f|Now)?\s?\(/g,
  /#\[(?:ignore|should_panic)/g,
  /\bSkip\s?=\s?"/g,
];

const cases: readonly RegExp[] = [
  /\b(?:it|test|specify)\s?(?:\.\s?(?:each|concurrent|skip|only|todo))?\s?[(`]/g,
  /\bdef\s+test\w*\s?\(/g,
  /@(?:Test|ParameterizedTest|RepeatedTest)\b/g,
  /\bfunc\s+(?:Test|Fuzz)\w*\s?\(/g,
  /#\[(?:\w+::)?test\b/g,
  /^@test\s/gm,
];

const assertions: readonly RegExp[] = [
  /\bexpect\w*\s?[(.]/g,
  /\bassert\w*\b/gi,
  /\.should\b/g,
  /\bt\.(?:Error|Fatal)\w*\(/g,
];

/** None of what matches is kept: a text of nothing else has millions. */
function countOf(text: string, patterns: readonly RegExp[]): number {
  let count = 0;
  for (const pattern of patterns) for (const _ of text.matchAll(pattern)) count++;
  return count;
}
