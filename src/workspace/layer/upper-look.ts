import { closeSync, fstatSync, lstatSync, openSync, readdirSync, type BigIntStats } from 'node:fs';
import { setImmediate } from 'node:timers/promises';

import { decodePath, encodePath } from '../../bytes-path.ts';
import { asDirectory, openBelow } from './upper.ts';

/** What stands at a path of an upper directory. */
export interface UpperEntry {
  readonly kind: 'file' | 'directory' | 'link' | 'hidden' | 'other';
  /** Another one when it was written to, or is another one. */
  readonly stamp: string;
  /** When content, name or mode last changed, by this machine's clock; nothing inside can set it. */
  readonly changedMs: number;
}

export interface UpperLook {
  /** Without directories; `hidden` is what is gone of the layer below. */
  readonly entries: ReadonlyMap<string, UpperEntry>;
  /** False: there were more than `entriesMax`, or it took too long; then nothing can be said to be gone. */
  readonly whole: boolean;
}

export interface UpperLookOptions {
  readonly entriesMax: number;
  /** Of one directory itself, as `stat` tells it: a larger one is too much, since its names come all at once. */
  readonly directoryBytesMax: number;
  readonly withinMs: number;
  /** Neither told nor entered. */
  readonly skips: (path: string, kind: UpperEntry['kind']) => boolean;
}

/**
 * All that a run has written so far, as this machine sees it: names, kinds and times. The tree is hostile and changes meanwhile.
 * Nothing in it is opened but directories, each by its name in the one above it, so that no link is followed; others have their
 * turn in between.
 */
export async function lookAtUpper(
  root: string,
  { entriesMax, directoryBytesMax, withinMs, skips }: UpperLookOptions,
): Promise<UpperLook> {
  const entries = new Map<string, UpperEntry>();
  const until = performance.now() + withinMs;
  let seen = 0;
  const look = async (directory: number, place: string, depth: number): Promise<boolean> => {
    if (fstatSync(directory).size > directoryBytesMax) return false;
    for (const name of readdirSync(`/proc/self/fd/${directory}`, 'buffer')) {
      if (++seen > entriesMax || depth > depthMax) return false;
      if (seen % entriesPerTurn === 0) {
        await setImmediate();
        if (performance.now() > until) return false;
      }
      const path = place === '' ? decodePath(name) : `${place}/${decodePath(name)}`;
      const found = entryAt(directory, name);
      if (found === undefined || skips(path, found.kind)) continue;
      if (found.kind !== 'directory') entries.set(path, found);
      else if (!(await below(directory, name, (opened) => look(opened, path, depth + 1)))) return false;
    }
    return true;
  };
  const top = openSync(root, asDirectory);
  try {
    return { whole: await look(top, '', 0), entries };
  } finally {
    closeSync(top);
  }
}

const entriesPerTurn = 256;
const depthMax = 128;

/** Gone meanwhile: nothing is there. */
async function below(directory: number, name: Buffer, work: (opened: number) => Promise<boolean>): Promise<boolean> {
  const opened = openBelow(directory, name);
  if (opened === undefined) return true;
  try {
    return await work(opened);
  } finally {
    closeSync(opened);
  }
}

function entryAt(directory: number, name: Buffer): UpperEntry | undefined {
  const path = Buffer.concat([encodePath(`/proc/self/fd/${directory}/`), name]);
  const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  if (found === undefined) return undefined;
  const stamp = `${found.ino}:${found.ctimeNs}:${found.size}`;
  return { kind: kindOf(found), stamp, changedMs: Number(found.ctimeNs / 1_000_000n) };
}

/** A whiteout is a character device 0:0, which nothing inside can make. */
function kindOf(found: BigIntStats): UpperEntry['kind'] {
  if (found.isFile()) return 'file';
  if (found.isDirectory()) return 'directory';
  if (found.isSymbolicLink()) return 'link';
  return found.isCharacterDevice() && found.rdev === 0n ? 'hidden' : 'other';
}

/** What stands at one path, whatever that says; undefined where nothing does, or what lies above is no directory. */
export function findInUpper(root: string, path: string): UpperEntry | undefined {
  const names = path.split('/').map(encodePath);
  const last = names.pop();
  if (last === undefined || [last, ...names].some(({ length }) => length > nameBytesMax)) return undefined;
  let directory = openSync(root, asDirectory);
  try {
    for (const name of names) {
      const below = openBelow(directory, name);
      if (below === undefined) return undefined;
      closeSync(directory); // a path may have thousands of names
      directory = below;
    }
    return entryAt(directory, last);
  } finally {
    closeSync(directory);
  }
}

/** A longer one can be nobody's: the kernel refuses it with an error of its own. */
const nameBytesMax = 255;
