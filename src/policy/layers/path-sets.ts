import { RunnerError } from '../../errors.ts';
import { suggestion } from '../language/issue-lines.ts';
import type { SourceFile } from '../language/source-file.ts';

type Sets = ReadonlyMap<string, readonly string[]>;

/** Keys whose value is a list of paths, wherever they stand in a policy or an intent. */
const pathKeys: ReadonlySet<string> = new Set([
  'read',
  'write',
  'write_ask',
  'propose_only',
  'scratch',
  'deny',
  'write_path',
  'files',
  'inputs',
]);

/** The file with `$name` replaced by the globs of the set; a set of its own goes before one of a layer above. */
export function withSetsExpanded(source: SourceFile, above: readonly SourceFile[]): SourceFile {
  const sets = setsOf([...above, source]);
  return { ...source, file: expand(source.file, sets, [], source.placeOf) as SourceFile['file'] };
}

/** The same for what a request says, which knows the sets of all files. */
export function expandSets<T>(value: T, chain: readonly SourceFile[]): T {
  return expand(value, setsOf(chain), [], () => 'the intent') as T;
}

function setsOf(chain: readonly SourceFile[]): Sets {
  return new Map(chain.flatMap(({ file }) => Object.entries(file.path_sets ?? {})));
}

function expand(value: unknown, sets: Sets, path: readonly string[], placeOf: SourceFile['placeOf']): unknown {
  if (Array.isArray(value)) {
    const isPaths = pathKeys.has(path.at(-1) ?? '') && value.every((item) => typeof item === 'string');
    if (!isPaths) return value.map((item, index) => expand(item, sets, [...path, `${index}`], placeOf));
    return [...new Set(value.flatMap((item, index) => expandOne(item, sets, [...path, `${index}`], placeOf)))];
  }
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, member]) => [key, expand(member, sets, [...path, key], placeOf)]);
  return Object.fromEntries(entries);
}

function expandOne(
  item: string,
  sets: Sets,
  path: readonly string[],
  placeOf: SourceFile['placeOf'],
): readonly string[] {
  const negated = item.startsWith('!');
  const plain = negated ? item.slice(1) : item;
  if (!plain.startsWith('$')) return [item];
  const refuse = (why: string): never => {
    throw new RunnerError('invalid_policy', `${placeOf(path)}: ${path.join('.')}: ${why}`);
  };
  const globs = sets.get(plain.slice(1));
  if (globs === undefined)
    return refuse(`no path set ${plain}; ${suggestion(plain.slice(1), [...sets.keys()]).replace('keys here', 'sets')}`);
  if (globs.some((glob) => /^!?\$/.test(glob))) return refuse(`the set ${plain} names another set; a set holds globs`);
  if (!negated) return globs;
  if (globs.some((glob) => glob.startsWith('!')))
    return refuse(`the set ${plain} excludes something itself, so it cannot be taken away; write its globs out`);
  return globs.map((glob) => `!${glob}`);
}
