import { encodePath } from '../../bytes-path.ts';
import type { FileEntry, Files } from '../../sandbox/spec.ts';
import type { Node } from '../change-set.ts';
import { Findings } from './findings.ts';
import type { WorkspaceLimits } from '../limits.ts';
import { isCanonicalPath } from '../manifest.ts';

/** What a sandbox says its workspace holds. Nothing in it is believed: digests are claims, names may be anything. */
export interface Scan {
  readonly entries: ReadonlyMap<string, ScannedEntry>;
  /** These, and what may be below them, were not seen: they count as unchanged. */
  readonly unseen: ReadonlySet<string>;
  /** False when it stopped early: then nothing can be said to be gone. */
  readonly whole: boolean;
}

export interface ScannedEntry {
  readonly node: Node;
  readonly sizeBytes: number;
  /** All permission bits. */
  readonly mode: number;
  readonly nlink: number;
}

/**
 * Looks first and hashes afterwards, and only what could be exported at all: a sparse file of terabytes costs its maker
 * nothing, and would keep a hand hashing for days.
 */
export async function scanWorkspace(files: Files, limits: WorkspaceLimits, findings: Findings): Promise<Scan> {
  const look = new Findings();
  const seen = await walkWorkspace(files, limits, look, false);
  let bytes = 0;
  for (const { node, sizeBytes } of seen.entries.values()) if (node.kind === 'file') bytes += sizeBytes;
  if (seen.whole && bytes <= limits.bytesMax) return walkWorkspace(files, limits, findings, true);
  for (const finding of look.kept) findings.add(finding);
  return seen;
}

async function walkWorkspace(
  files: Files,
  limits: WorkspaceLimits,
  findings: Findings,
  digests: boolean,
): Promise<Scan> {
  const entries = new Map<string, ScannedEntry>();
  const unseen = new Set<string>();
  const stop = (path: string, detail: string): Scan => {
    findings.add({ kind: 'limit_exceeded', path, effect: 'incomplete', detail });
    return { entries, unseen, whole: false };
  };
  const walk = files.walk(['.'], {
    digests,
    prune: ['.git'],
    // One more than allowed, so that too many is seen as too many.
    entriesMax: limits.filesMax + 1,
    depthMax: limits.depthMax + 1,
  });
  let count = 0;
  for await (const item of walk) {
    if (item.kind === 'end') {
      return item.truncated ? stop('', 'the sandbox stopped its listing') : { entries, unseen, whole: true };
    }
    if (++count > limits.filesMax) return stop('', `more than ${limits.filesMax} entries`);
    const path = plainPath(item.kind === 'entry' ? item.entry.path : item.path);
    if (path === '') continue;
    // A directory that cannot be opened is listed first and then told to be unreadable.
    const twice = item.kind === 'entry' && entries.has(path);
    const problem = nameProblem(path, limits) ?? (twice ? 'listed twice' : undefined);
    if (problem !== undefined) {
      findings.add({ kind: 'bad_name', path: path.slice(0, 4096), effect: 'refused', detail: problem });
      if (problem.startsWith('too ')) return stop(path.slice(0, 4096), problem);
    } else if (item.kind === 'unreadable') {
      findings.add({ kind: 'unreadable', path, effect: 'incomplete', detail: item.code });
      unseen.add(path);
    } else {
      const scanned = scannedOf(item.entry);
      if (scanned !== undefined) entries.set(path, scanned);
      else {
        findings.add({ kind: 'special_file', path, effect: 'refused', detail: item.entry.type });
        unseen.add(path);
      }
    }
  }
  return stop('', 'the listing has no end');
}

export function plainPath(path: string): string {
  return path === '.' ? '' : path.startsWith('./') ? path.slice(2) : path;
}

export function nameProblem(path: string, limits: WorkspaceLimits): string | undefined {
  if (encodePath(path).length > limits.pathBytesMax) return `too long: more than ${limits.pathBytesMax} bytes`;
  if (path.split('/').length > limits.depthMax) return `too deep: more than ${limits.depthMax} levels`;
  return isCanonicalPath(path) ? undefined : 'not a relative path';
}

/** Undefined for what is neither file, link nor directory. */
export function scannedOf(entry: FileEntry): ScannedEntry | undefined {
  const node = nodeOf(entry);
  const { sizeBytes, mode, nlink } = entry;
  return node === undefined ? undefined : { node, sizeBytes, mode, nlink };
}

function nodeOf(entry: FileEntry): Node | undefined {
  switch (entry.type) {
    case 'file': {
      const mode = (entry.mode & 0o100) === 0 ? 0o644 : 0o755;
      return { kind: 'file', mode, digest: entry.digest ?? unknownDigest, sizeBytes: entry.sizeBytes };
    }
    case 'symlink':
      return { kind: 'symlink', target: entry.target ?? '' };
    case 'directory':
      return { kind: 'directory' };
    case 'fifo':
    case 'socket':
    case 'device':
      return undefined;
  }
}

/** No content has it: a file whose digest is not told is looked at as changed. */
export const unknownDigest = `sha256:${'0'.repeat(64)}` as const;
