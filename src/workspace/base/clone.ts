import { rmdirSync, rmSync, unlinkSync } from 'node:fs';
import { runProgram } from '../../host-program.ts';
import type { Tree } from '../change-set.ts';
import { hostName } from './host-path.ts';

/** A base that is kept while it is copied, and what it holds. */
export interface WholeBase {
  readonly directory: string;
  readonly tree: Tree;
}

/**
 * Begins a base as a copy of another one whose files are more names of the same files: in a process of its own, beside the
 * work of this one. What is no longer wanted must be removed from it. False when it could not be made (a file has as many
 * names as it may have, there is no such `cp`): then nothing is there.
 */
export async function cloneTree(base: WholeBase, into: string, signal: AbortSignal | undefined): Promise<boolean> {
  const { code } = await runProgram('cp', ['-a', '-l', '-T', '--', base.directory, into], {
    env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' },
    timeoutMs: cloneMs,
    outputBytesMax: complaintsBytesMax,
    signal,
  });
  if (code !== 0) rmSync(into, { recursive: true, force: true });
  signal?.throwIfAborted();
  return code === 0;
}

/** Removes from a copy what `stays` does not name, deepest first. */
export function prune(into: string, tree: Tree, stays: (path: string, kind: 'directory' | 'other') => boolean): void {
  for (const [path, { kind }] of [...tree].reverse()) {
    if (stays(path, kind === 'directory' ? kind : 'other')) continue;
    if (kind === 'directory') rmdirSync(hostName(into, path));
    else unlinkSync(hostName(into, path));
  }
}

const cloneMs = 600_000;
const complaintsBytesMax = 1024 * 1024;
