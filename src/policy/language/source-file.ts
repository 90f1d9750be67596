import { canonicalJson, digestOf, type Digest } from '../../digest.ts';
import { RunnerError } from '../../errors.ts';
import { issueLines } from './issue-lines.ts';
import { PolicyFile } from './schema.ts';
import { readYaml } from './yaml-source.ts';

/** One policy file: what it says, and where it says it. */
export interface SourceFile {
  readonly source: string;
  readonly text: string;
  readonly file: PolicyFile;
  /** Of the canonical JSON of what it says: the same for two files that say the same. */
  readonly digest: Digest;
  /** `source:line:column` of the value, or of its key. */
  readonly placeOf: (path: readonly PropertyKey[], part?: 'value' | 'key') => string;
  /** As it is written. */
  readonly rawOf: (path: readonly PropertyKey[]) => unknown;
}

/** Throws `invalid_policy`: each line of its message names source, line, column, key, and what to write instead. */
export function parseSourceFile(text: string, source: string): SourceFile {
  const document = readYaml(text, source);
  const parsed = PolicyFile.safeParse(document.value, { reportInput: true });
  if (!parsed.success)
    throw new RunnerError('invalid_policy', issueLines(parsed.error.issues, document, PolicyFile).join('\n'));
  return {
    source,
    text,
    file: parsed.data,
    digest: digestOf(canonicalJson(parsed.data)),
    placeOf: (path, part) => document.placeOf(path, part),
    rawOf: (path) => valueAt(document.value, path),
  };
}

/** The value at a path of keys; undefined where there is none. */
export function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (at, key) => (typeof at === 'object' && at !== null ? (at as Record<PropertyKey, unknown>)[key] : undefined),
    value,
  );
}
