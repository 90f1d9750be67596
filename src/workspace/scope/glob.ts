/**
 * The pattern language of scopes. Small on purpose, so that what a pattern can match is decidable and matching hostile
 * names takes time proportional to pattern times name:
 *   `**`  any number of whole segments; only as a segment of its own. `src/**` covers `src` too.
 *   `*`   any part of one segment, dot files included     `?`  one character
 *   `[a-z]`, `[!a]`  one character in, or not in, a set    `{a,b}`  either; may hold slashes, may be nested
 *   `\x`  the character x itself                           everything else stands for itself, in this case only
 */
export interface Glob {
  matches(segments: readonly string[]): boolean;
  /** Whether it ends in `**`: then it matches all that is below what it matches. */
  readonly covers: boolean;
  /** What a name directly below this directory must look like for something at or below it to match. */
  openings(directory: readonly string[]): readonly Opening[];
}

/** `name` is undefined when more than one name would do. */
export interface Opening {
  readonly name: string | undefined;
}

/** One pattern with braces is several globs. Throws SyntaxError saying what is wrong with it. */
export function parseGlob(pattern: string): readonly Glob[] {
  if (pattern.length > patternCharsMax) throw new SyntaxError(`is longer than ${patternCharsMax} characters`);
  return expandBraces(pattern).map((plain) => globOf(plain.split('/').map(parseSegment)));
}

/** The segments of each of them, for whoever compares patterns instead of matching paths. */
export function segmentsOfGlob(pattern: string): readonly (readonly Segment[])[] {
  return expandBraces(pattern).map((plain) => plain.split('/').map(parseSegment));
}

const patternCharsMax = 1000;
const alternativesMax = 100;
const segmentsMax = 30;

export type Segment = { readonly kind: 'any' } | { readonly kind: 'name'; readonly tokens: readonly Token[] };

export type Token =
  | { readonly kind: 'star' }
  | { readonly kind: 'one' }
  | { readonly kind: 'char'; readonly char: string }
  | { readonly kind: 'set'; readonly not: boolean; readonly ranges: readonly (readonly [string, string])[] };

function globOf(segments: readonly Segment[]): Glob {
  if (segments.length > segmentsMax) throw new SyntaxError(`has more than ${segmentsMax} segments`);
  const end = 1 << segments.length;
  const tests = segments.map((segment) => (segment.kind === 'any' ? 'any' : testOf(segment.tokens)));
  const [first, second] = tests;
  if (tests.length === 2 && first === 'any' && second !== undefined && second !== 'any') {
    // `**/name` is what most lists are made of: only the last name counts.
    const matches = (path: readonly string[]): boolean => second(path.at(-1) ?? '');
    return { matches, covers: false, openings: () => [{ name: undefined }] };
  }
  return {
    matches: (path) => (reach(tests, path) & end) !== 0,
    covers: segments.at(-1)?.kind === 'any',
    openings: (directory) => {
      const alive = reach(tests, directory);
      const openings: Opening[] = [];
      for (const [at, segment] of segments.entries()) {
        if ((alive & (1 << at)) === 0) continue;
        openings.push({ name: segment.kind === 'any' ? undefined : literal(segment.tokens) });
      }
      return openings;
    },
  };
}

/** Of one segment: whether a name is like it; `any` stands for any number of names. */
type Test = 'any' | ((name: string) => boolean);

/** How many segments of the pattern can have been used up once the whole path has been, as a set of bits. */
function reach(pattern: readonly Test[], path: readonly string[]): number {
  let alive = skipAny(pattern, 1);
  for (const name of path) {
    let next = 0;
    let bit = 1;
    for (const test of pattern) {
      if ((alive & bit) !== 0) {
        if (test === 'any') next |= bit;
        else if (test(name)) next |= bit << 1;
      }
      bit <<= 1;
    }
    if (next === 0) return 0;
    alive = skipAny(pattern, next);
  }
  return alive;
}

function skipAny(pattern: readonly Test[], starts: number): number {
  let alive = starts;
  let bit = 1;
  for (const test of pattern) {
    if (test === 'any' && (alive & bit) !== 0) alive |= bit << 1;
    bit <<= 1;
  }
  return alive;
}

/** Nearly all there are: a name, its beginning or its end, which the language itself compares faster than tokens. */
function testOf(tokens: readonly Token[]): (name: string) => boolean {
  const [whole, begin, end] = [literal(tokens), literal(tokens.slice(0, -1)), literal(tokens.slice(1))];
  if (whole !== undefined) return (name) => name === whole;
  if (begin !== undefined && tokens.at(-1)?.kind === 'star') return (name) => name.startsWith(begin);
  if (end !== undefined && tokens[0]?.kind === 'star') return (name) => name.endsWith(end);
  return (name) => nameMatches(tokens, name);
}

/** Greedy with one way back, to the last star: never worse than tokens times characters. */
function nameMatches(tokens: readonly Token[], name: string): boolean {
  let at = 0;
  let char = 0;
  let starAt = -1;
  let starChar = 0;
  while (char < name.length) {
    const token = tokens[at];
    if (token?.kind === 'star') {
      starAt = at++;
      starChar = char;
    } else if (token !== undefined && charMatches(token, name.charAt(char))) {
      at++;
      char++;
    } else if (starAt >= 0) {
      at = starAt + 1;
      char = ++starChar;
    } else {
      return false;
    }
  }
  while (tokens[at]?.kind === 'star') at++;
  return at === tokens.length;
}

function charMatches(token: Token, char: string): boolean {
  switch (token.kind) {
    case 'star':
      return false;
    case 'one':
      return true;
    case 'char':
      return token.char === char;
    case 'set':
      return token.ranges.some(([low, high]) => low <= char && char <= high) !== token.not;
  }
}

function literal(tokens: readonly Token[]): string | undefined {
  let name = '';
  for (const token of tokens) {
    if (token.kind !== 'char') return undefined;
    name += token.char;
  }
  return name;
}

function parseSegment(text: string, index: number): Segment {
  if (text === '**') return { kind: 'any' };
  if (text === '') throw new SyntaxError(index === 0 ? 'starts with a slash or is empty' : 'has an empty segment');
  if (text === '.' || text === '..') throw new SyntaxError(`has a segment '${text}'`);
  if (text.includes('\0')) throw new SyntaxError('holds a NUL');
  const tokens: Token[] = [];
  for (let at = 0; at < text.length;) {
    const char = text.charAt(at);
    if (char === '*') {
      if (text.charAt(at + 1) === '*') throw new SyntaxError("has '**' inside a segment; it must stand alone");
      tokens.push({ kind: 'star' });
      at += 1;
    } else if (char === '?') {
      tokens.push({ kind: 'one' });
      at += 1;
    } else if (char === '[') {
      const end = setEnd(text, at);
      tokens.push(parseSet(text.slice(at + 1, end)));
      at = end + 1;
    } else if (char === '\\') {
      if (at + 1 === text.length) throw new SyntaxError("ends a segment with '\\'");
      tokens.push({ kind: 'char', char: text.charAt(at + 1) });
      at += 2;
    } else {
      tokens.push({ kind: 'char', char });
      at += 1;
    }
  }
  return { kind: 'name', tokens };
}

function setEnd(text: string, start: number): number {
  const first = '!^'.includes(text.charAt(start + 1)) ? start + 2 : start + 1;
  const end = text.indexOf(']', first + 1);
  if (end < 0) throw new SyntaxError("has '[' without ']'; write '\\[' for the character");
  return end;
}

function parseSet(body: string): Token {
  const not = body.startsWith('!') || body.startsWith('^');
  const text = not ? body.slice(1) : body;
  const ranges: [string, string][] = [];
  for (let at = 0; at < text.length;) {
    const low = text.charAt(at);
    const isRange = text.charAt(at + 1) === '-' && at + 2 < text.length;
    const high = isRange ? text.charAt(at + 2) : low;
    if (high < low) throw new SyntaxError(`has the empty range '${low}-${high}'`);
    ranges.push([low, high]);
    at += isRange ? 3 : 1;
  }
  return { kind: 'set', not, ranges };
}

function expandBraces(pattern: string): readonly string[] {
  const open = findOutsideSets(pattern, 0, '{}');
  if (open < 0) return [pattern];
  if (pattern.charAt(open) === '}') throw new SyntaxError("has '}' without '{'; write '\\}' for the character");
  const parts: string[] = [];
  let depth = 0;
  let from = open + 1;
  let at = open;
  do {
    const char = pattern.charAt(at);
    if (char === '{') depth++;
    if (char === '}') depth--;
    if ((char === ',' && depth === 1) || depth === 0) {
      parts.push(pattern.slice(from, at));
      from = at + 1;
    }
    if (depth > 0) at = findOutsideSets(pattern, at + 1, '{},');
  } while (depth > 0 && at >= 0);
  if (depth > 0) throw new SyntaxError("has '{' without '}'; write '\\{' for the character");
  if (parts.length < 2) throw new SyntaxError("has braces without a comma; write '\\{' for the character");
  const expanded: string[] = [];
  for (const part of parts) {
    expanded.push(...expandBraces(pattern.slice(0, open) + part + pattern.slice(at + 1)));
    if (expanded.length > alternativesMax) throw new SyntaxError(`stands for more than ${alternativesMax} patterns`);
  }
  return expanded;
}

function findOutsideSets(pattern: string, from: number, chars: string): number {
  for (let at = from; at < pattern.length; at++) {
    const char = pattern.charAt(at);
    if (chars.includes(char)) return at;
    if (char === '\\') at++;
    else if (char === '[') at = setEnd(pattern, at);
  }
  return -1;
}
