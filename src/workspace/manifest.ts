import { z } from 'zod';

import { decodePath, encodePath } from '../bytes-path.ts';
import { canonicalJson, digestOf, digestPattern, type Digest } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import type { Change, ChangeSet, Node, Tree } from './change-set.ts';
import { sortedByBytes } from './diff.ts';

/**
 * Change sets and trees as text: one canonical form for one value, so that its digest names it. Bytes of names that are
 * not UTF-8 are lone surrogates, which JSON writes as escapes: the text is plain UTF-8 and the round trip is exact.
 */
export function encodeChangeSet(changeSet: ChangeSet): string {
  return encode('glovebox.change-set/v1', changeSet.changes);
}

export function encodeTree(tree: Tree): string {
  return encode('glovebox.tree/v1', tree);
}

/** As it stands in the text of its tree. */
export function encodeTreeEntry(path: string, node: Node): string {
  return encodeEntry(path, node);
}

/** Throws `invalid_request` on anything that is not exactly a change set. */
export function parseChangeSet(json: string): ChangeSet {
  return { changes: parse(json, ChangeSetText, 'change set') };
}

export function parseTree(json: string): Tree {
  return parse(json, TreeText, 'tree');
}

export function digestOfChangeSet(changeSet: ChangeSet): Digest {
  return digestOf(encodeChangeSet(changeSet));
}

export function digestOfTree(tree: Tree): Digest {
  return digestOf(encodeTree(tree));
}

const RelativePath = z
  .string()
  .max(8192)
  .refine(isCanonicalPath, 'must be a relative path without empty, `.` or `..` parts');

const FileNode = z.strictObject({
  kind: z.literal('file'),
  mode: z.union([z.literal(0o644), z.literal(0o755)]),
  digest: z.templateLiteral(['sha256:', z.string()]).refine((digest) => digestPattern.test(digest), 'must be a digest'),
  sizeBytes: z.number().int().nonnegative(),
});
const SymlinkNode = z.strictObject({ kind: z.literal('symlink'), target: z.string().min(1).max(8192) });
const DirectoryNode = z.strictObject({ kind: z.literal('directory') });
const DeletedNode = z.strictObject({ kind: z.literal('deleted') });

const TreeText = z.strictObject({
  format: z.literal('glovebox.tree/v1'),
  entries: z.array(z.tuple([RelativePath, z.discriminatedUnion('kind', [FileNode, SymlinkNode, DirectoryNode])])),
});
const ChangeSetText = z.strictObject({
  format: z.literal('glovebox.change-set/v1'),
  entries: z.array(
    z.tuple([RelativePath, z.discriminatedUnion('kind', [FileNode, SymlinkNode, DirectoryNode, DeletedNode])]),
  ),
});

/** `canonicalJson` of format and sorted entries, written out: of 50,000 entries in a fifth of the time. */
function encode(format: string, entries: ReadonlyMap<string, Change>): string {
  const lines: string[] = [];
  for (const [path, change] of sortedByBytes(entries)) lines.push(encodeEntry(path, change));
  return `{"entries":[${lines.join(',')}],"format":${JSON.stringify(format)}}`;
}

function encodeEntry(path: string, change: Change): string {
  return `[${JSON.stringify(path)},${encodeChange(change)}]`;
}

function encodeChange(change: Change): string {
  if (change.kind !== 'file') return canonicalJson(change);
  const { digest, mode, sizeBytes } = change;
  return `{"digest":${JSON.stringify(digest)},"kind":"file","mode":${mode},"sizeBytes":${sizeBytes}}`;
}

function parse<T extends Node | Change>(
  json: string,
  schema: z.ZodType<{ format: string; entries: [string, T][] }>,
  what: string,
): ReadonlyMap<string, T> {
  try {
    const { entries } = schema.parse(JSON.parse(json));
    const map = sortedByBytes(entries);
    if (map.size !== entries.length) throw new Error('a path occurs twice');
    return map;
  } catch (cause) {
    throw new RunnerError('invalid_request', `${what}: the text is not a valid ${what}`, { cause });
  }
}

/** One name has one spelling: escaped bytes that together are UTF-8 would be a second name for the same file. */
export function isCanonicalPath(path: string): boolean {
  if (path.includes('\0') || (!isAscii(path) && decodePath(encodePath(path)) !== path)) return false;
  return path.split('/').every((name) => name !== '' && name !== '.' && name !== '..');
}

function isAscii(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (text.charCodeAt(at) > 0x7f) return false;
  return true;
}
