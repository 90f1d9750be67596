import { parseGlob, type Glob } from '../../workspace/scope/glob.ts';

/** A glob over the segments of a URL's path. */
export interface PathPattern {
  readonly globs: readonly Glob[];
  /** It ends in a slash, and so has the path. */
  readonly isDirectory: boolean;
}

/** `/` alone has no globs. */
export function compilePath(path: string): PathPattern {
  const isDirectory = path.endsWith('/');
  const plain = isDirectory ? path.slice(1, -1) : path.slice(1);
  return { globs: plain === '' ? [] : parseGlob(plain), isDirectory };
}

export function matchesPath({ globs, isDirectory }: PathPattern, segments: readonly string[]): boolean {
  if (!isDirectory) return globs.some((glob) => glob.matches(segments));
  if (segments.at(-1) !== '') return false;
  return segments.length === 1 ? globs.length === 0 : globs.some((glob) => glob.matches(segments.slice(0, -1)));
}
