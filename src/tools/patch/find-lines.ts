import { ToolError } from '../tool-result.ts';

/** What had to be overlooked for lines to agree, from nothing to most. */
export type Strategy = 'exact' | 'trailing_space' | 'trimmed' | 'unicode';

const lenient: readonly Strategy[] = ['exact', 'trailing_space', 'trimmed', 'unicode'];

/** How many lines may still be compared: a patch of many hunks and a long file would otherwise hold up everybody. */
export interface SearchBudget {
  left: number;
}

/**
 * Where `wanted` stands in `lines`, at `from` or later, first by exact comparison in the whole range, then by the next
 * more lenient one. `atEnd`: where the file ends first, elsewhere after that.
 */
export function findLines(
  lines: readonly string[],
  wanted: readonly string[],
  from: number,
  search: { readonly atEnd: boolean; readonly budget: SearchBudget },
): { index: number; strategy: Strategy } | undefined {
  const last = lines.length - wanted.length;
  for (const strategy of lenient) {
    const normal = wanted.map((line) => normalise(line, strategy));
    if (search.atEnd && last >= from && agree(lines, normal, last, strategy, search.budget))
      return { index: last, strategy };
    for (let index = from; index <= last; index++) {
      if (agree(lines, normal, index, strategy, search.budget)) return { index, strategy };
    }
  }
  return undefined;
}

/** The exact place nearest to `expected`, not before `from`; of two as near, the earlier. */
export function findNearest(
  lines: readonly string[],
  wanted: readonly string[],
  from: number,
  search: { readonly expected: number; readonly budget: SearchBudget },
): number | undefined {
  const { expected, budget } = search;
  const last = lines.length - wanted.length;
  const span = Math.max(expected - from, last - expected, 0);
  for (let distance = 0; distance <= span; distance++) {
    for (const index of distance === 0 ? [expected] : [expected - distance, expected + distance]) {
      if (index >= from && index <= last && agree(lines, wanted, index, 'exact', budget)) return index;
    }
  }
  return undefined;
}

function agree(
  lines: readonly string[],
  wanted: readonly string[],
  index: number,
  strategy: Strategy,
  budget: SearchBudget,
): boolean {
  for (let n = 0; n < wanted.length; n++) {
    if (--budget.left < 0) throw new ToolError('too_large', 'the patch takes too much searching; apply it in parts');
    const line = lines[index + n];
    if (line === undefined || (line !== wanted[n] && normalise(line, strategy) !== wanted[n])) return false;
  }
  return true;
}

/** `line` has one character per byte. */
function normalise(line: string, strategy: Strategy): string {
  switch (strategy) {
    case 'exact':
      return line;
    case 'trailing_space':
      return line.trimEnd();
    case 'trimmed':
      return line.trim();
    case 'unicode':
      return plainPunctuation(Buffer.from(line, 'latin1').toString('utf8')).trim();
  }
}

/** Dashes, quotes and spaces that models and editors swap for their plain forms. */
function plainPunctuation(text: string): string {
  return text
    .replace(/[\u2010-\u2015\u2212]/g, '-')
    .replace(/[\u2018-\u201B]/g, "'")
    .replace(/[\u201C-\u201F]/g, '"')
    .replace(/[\u00A0\u2002-\u200A\u202F\u205F\u3000]/g, ' ');
}
