import { segmentsOfGlob, type Segment, type Token } from '../../workspace/scope/glob.ts';

/**
 * Questions about patterns instead of paths. Promises:
 *  - `covers` says yes only if every path that `inner` matches is matched by `outer`; in doubt it says no;
 *  - `mayOverlap` says no only if no path matches both; in doubt it says yes.
 */
export function covers(outer: string, inner: string): boolean {
  if (outer === inner) return true;
  const wide = segmentsOfGlob(outer);
  return segmentsOfGlob(inner).every((narrow) => wide.some((segments) => coversSegments(segments, narrow)));
}

export function mayOverlap(a: string, b: string): boolean {
  const others = segmentsOfGlob(b);
  return segmentsOfGlob(a).some((one) => others.some((other) => overlapSegments(one, other)));
}

function coversSegments(outer: readonly Segment[], inner: readonly Segment[]): boolean {
  return table(outer.length, inner.length, (o, i, at) => {
    const wide = outer[o];
    const narrow = inner[i];
    if (wide === undefined) return narrow === undefined;
    if (wide.kind === 'any') return at(o + 1, i) || (narrow !== undefined && at(o, i + 1));
    if (narrow === undefined || narrow.kind === 'any') return false;
    return coversTokens(wide.tokens, narrow.tokens) && at(o + 1, i + 1);
  });
}

function overlapSegments(a: readonly Segment[], b: readonly Segment[]): boolean {
  return table(a.length, b.length, (i, j, at) => {
    const one = a[i];
    const other = b[j];
    if (one === undefined && other === undefined) return true;
    if (one?.kind === 'any') return at(i + 1, j) || (other !== undefined && at(i, j + 1));
    if (other?.kind === 'any') return at(i, j + 1) || (one !== undefined && at(i + 1, j));
    if (one === undefined || other === undefined) return false;
    return overlapTokens(one.tokens, other.tokens) && at(i + 1, j + 1);
  });
}

function coversTokens(outer: readonly Token[], inner: readonly Token[]): boolean {
  return table(outer.length, inner.length, (o, i, at) => {
    const wide = outer[o];
    const narrow = inner[i];
    if (wide === undefined) return narrow === undefined;
    if (wide.kind === 'star') return at(o + 1, i) || (narrow !== undefined && at(o, i + 1));
    if (narrow === undefined || narrow.kind === 'star') return false;
    return coversToken(wide, narrow) && at(o + 1, i + 1);
  });
}

function overlapTokens(a: readonly Token[], b: readonly Token[]): boolean {
  return table(a.length, b.length, (i, j, at) => {
    const one = a[i];
    const other = b[j];
    if (one === undefined && other === undefined) return true;
    if (one?.kind === 'star') return at(i + 1, j) || (other !== undefined && at(i, j + 1));
    if (other?.kind === 'star') return at(i, j + 1) || (one !== undefined && at(i + 1, j));
    if (one === undefined || other === undefined) return false;
    return overlapToken(one, other) && at(i + 1, j + 1);
  });
}

function coversToken(outer: Token, inner: Token): boolean {
  if (outer.kind === 'one') return true;
  if (inner.kind === 'char') return hasChar(outer, inner.char);
  return JSON.stringify(outer) === JSON.stringify(inner);
}

function overlapToken(a: Token, b: Token): boolean {
  if (a.kind === 'char') return hasChar(b, a.char);
  return b.kind === 'char' ? hasChar(a, b.char) : true;
}

function hasChar(token: Token, char: string): boolean {
  switch (token.kind) {
    case 'star':
    case 'one':
      return true;
    case 'char':
      return token.char === char;
    case 'set':
      return token.ranges.some(([low, high]) => low <= char && char <= high) !== token.not;
  }
}

/** Every pair of positions is answered once: the product of both lengths, however many stars there are. */
function table(
  rows: number,
  columns: number,
  answer: (row: number, column: number, at: (row: number, column: number) => boolean) => boolean,
): boolean {
  const known = new Map<number, boolean>();
  const at = (row: number, column: number): boolean => {
    const key = row * (columns + 1) + column;
    const answered = known.get(key);
    if (answered !== undefined) return answered;
    const value = row > rows || column > columns ? false : answer(row, column, at);
    known.set(key, value);
    return value;
  };
  return at(0, 0);
}
