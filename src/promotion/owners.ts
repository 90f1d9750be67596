import { personOf } from './review.ts';

/**
 * CODEOWNERS as GitHub reads it ("About code owners"): the last line that fits a path names its owners, and a line without
 * owners leaves it without. Patterns are those of .gitignore without `!`, `[...]` and `\#`; lines with those are passed over.
 */
export class CodeOwners {
  readonly #rules: readonly OwnerRule[];

  private constructor(rules: readonly OwnerRule[]) {
    this.#rules = rules;
  }

  static parse(text: string): CodeOwners {
    return new CodeOwners(text.split('\n').flatMap(ruleOf));
  }

  /** None where nobody owns it. As they are written: `@user`, `@organisation/team` or an address. */
  ownersOf(path: string): readonly string[] {
    const names = path.split('/');
    return this.#rules.findLast(({ matches }) => matches(names))?.owners ?? [];
  }
}

/** Where it is looked for, in this order; the first that is there counts. */
export const codeOwnersPaths = ['.github/CODEOWNERS', 'CODEOWNERS', 'docs/CODEOWNERS'] as const;
/** GitHub's own bound. */
export const codeOwnersBytesMax = 3 * 1024 * 1024;

/** Changed paths that have owners, of whom none is among the reviewers; `members` says who is in a team. */
export function pathsWithoutOwner(
  owners: CodeOwners,
  paths: readonly string[],
  reviewers: readonly string[],
  members: Readonly<Record<string, readonly string[]>>,
): readonly { readonly path: string; readonly owners: readonly string[] }[] {
  const have = new Set(reviewers.map((name) => personOf(name)));
  const groups = new Map(Object.entries(members).map(([team, names]) => [personOf(team), names.map(personOf)]));
  const satisfied = (owner: string): boolean =>
    have.has(personOf(owner)) || (groups.get(personOf(owner)) ?? []).some((name) => have.has(name));
  return paths
    .map((path) => ({ path, owners: owners.ownersOf(path) }))
    .filter(({ owners: named }) => named.length > 0 && !named.some(satisfied));
}

interface OwnerRule {
  /** Names from the top. */
  readonly matches: (names: readonly string[]) => boolean;
  readonly owners: readonly string[];
}

function ruleOf(line: string): readonly OwnerRule[] {
  const words = line.trim().match(/(?:\\.|[^\s\\])+/g) ?? [];
  const [pattern] = words;
  if (pattern === undefined || pattern.startsWith('#')) return [];
  if (pattern.startsWith('!') || pattern.includes('[') || pattern.startsWith('\\#') || line.length > lineCharsMax)
    return [];
  const comment = words.findIndex((word, index) => index > 0 && word.startsWith('#'));
  const owners = words.slice(1, comment < 0 ? undefined : comment);
  return [{ matches: compile(pattern.replaceAll(/\\(.)/g, '$1')), owners }];
}

const lineCharsMax = 10_000;

/** Names from the top. A pattern with a slash before its end counts from there, another one anywhere. */
function compile(pattern: string): (names: readonly string[]) => boolean {
  const isDirectory = pattern.endsWith('/');
  const parts = pattern.replace(/^\//, '').replace(/\/$/, '').split('/');
  const isAnchored = pattern.replace(/\/$/, '').includes('/');
  const whole = isAnchored ? parts : ['**', ...parts];
  // `docs/*` is what lies in docs, and not what lies deeper.
  const exact = parts.length > 1 && parts.at(-1) === '*';
  return (names) => {
    if (!isDirectory && fitsParts(whole, names)) return true;
    return !exact && names.slice(0, -1).some((_, index) => fitsParts(whole, names.slice(0, index + 1)));
  };
}

/** One row after the other of which part fits up to which name: no pattern takes longer than parts times names. */
function fitsParts(parts: readonly string[], names: readonly string[]): boolean {
  let reached: readonly boolean[] = [true, ...names.map(() => false)];
  for (const part of parts) {
    const next = [part === '**' && reached[0] === true];
    for (const [index, name] of names.entries())
      next.push(
        part === '**'
          ? next[index] === true || reached[index + 1] === true
          : reached[index] === true && fitsName(part, name),
      );
    reached = next;
  }
  return reached.at(-1) === true;
}

/** `*` and `?` within one name; back to the last star only, so that time is bounded. */
function fitsName(pattern: string, name: string): boolean {
  let [at, to, star, from] = [0, 0, -1, 0];
  while (to < name.length) {
    if (at < pattern.length && (pattern[at] === name[to] || pattern[at] === '?') && pattern[at] !== '*') {
      at++;
      to++;
    } else if (pattern[at] === '*') {
      star = at++;
      from = to;
    } else if (star >= 0) {
      at = star + 1;
      to = ++from;
    } else return false;
  }
  while (pattern[at] === '*') at++;
  return at === pattern.length;
}
