import { renameSync, writeFileSync } from 'node:fs';
import { readdir, readFile, unlink } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

import { newId } from '../../ids.ts';
import { isProcessAlive, thisProcess, type ProcessIdentity } from '../../process-identity.ts';

/** Writes down that this process uses a base for a run. Throws ENOENT when the base is not there. */
export function addHolder(base: string, run: string, self: ProcessIdentity): void {
  const draft = path.join(base, `.holder-${newId()}`);
  writeFileSync(draft, JSON.stringify(self), { mode: 0o600 });
  renameSync(draft, holderOf(base, run));
}

/** May be called twice. */
export async function removeHolder(base: string, run: string): Promise<void> {
  await unlink(holderOf(base, run)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}

/** Runs. Those of an earlier boot have nothing mounted any more. */
export async function holdersIn(base: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const run of await readdir(path.join(base, 'holders')).catch(() => [])) {
    const holder = await readHolder(holderOf(base, run));
    if (holder === undefined || holder.bootId === thisProcess().bootId) found.push(run);
  }
  return found;
}

/** Gives up the holds whose process is dead and whose run needs nothing any more. */
export async function removeDeadHolders(base: string, isNeeded: (run: string) => Promise<boolean>): Promise<void> {
  for (const run of await readdir(path.join(base, 'holders')).catch(() => [])) {
    const holder = await readHolder(holderOf(base, run));
    if (holder !== undefined && isProcessAlive(holder)) continue;
    if (!(await isNeeded(run))) await removeHolder(base, run);
  }
}

const holderOf = (base: string, run: string): string => path.join(base, 'holders', run);

const Holder = z.object({ pid: z.int(), startTicks: z.string(), bootId: z.string(), pidNamespace: z.string() });

async function readHolder(file: string): Promise<ProcessIdentity | undefined> {
  try {
    return Holder.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch {
    return undefined;
  }
}
