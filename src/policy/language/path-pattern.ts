import { parseGlob, type Glob } from '../../workspace/scope/glob.ts';

/** The path of a URL in a rule, such as `/v1/**`, `/simple/` or `/` alone. */
export interface PathPattern {
  readonly matches: (segments: readonly string[]) => boolean;
}

/** Throws SyntaxError. What ends in a slash matches paths that do. */
export function compilePath(path: string): PathPattern {
  const isDirectory = path.endsWith('/');
  const plain = isDirectory ? path.slice(1, -1) : path.slice(1);
  const globs: readonly Glob[] = plain === '' ? [] : parseGlob(plain);
  const fits = (segments: readonly string[]): boolean => globs.some((glob) => glob.matches(segments));
  if (!isDirectory) return { matches: fits };
  return {
    matches: (segments) =>
      segments.at(-1) === '' && (globs.length === 0 ? segments.length === 1 : fits(segments.slice(0, -1))),
  };
}
