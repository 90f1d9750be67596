import { chmodSync, mkdirSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { execaSync } from 'execa';

/** What the tests may fill of the memory, and what has to be free for that. */
const bytesMax = 4 * 1024 ** 3;
const freeMin = 2 * bytesMax;

/**
 * Where the tests make their files: in memory where this process may mount it and there is enough, since most of what they wait for
 * is a disk; else where temporary files are made on this machine. The name is short: sockets lie in it. `remove` at the end.
 */
export function temporaryFolder(): { readonly path: string; readonly inMemory: boolean; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'gb-'));
  const path = join(folder, 't');
  mkdirSync(path);
  chmodSync(folder, 0o755); // programs of other users, such as a database, make files of their own there
  chmodSync(path, 0o1777);
  const inMemory = freemem() >= freeMin && mounted(path);
  const remove = (): void => {
    if (inMemory) execaSync('umount', ['--lazy', path], { reject: false });
    rmSync(folder, { recursive: true, force: true });
  };
  return { path, inMemory, remove };
}

function mounted(path: string): boolean {
  const options = `size=${bytesMax},mode=1777`;
  const { exitCode } = execaSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path], { reject: false });
  return exitCode === 0 && statfsSync(path).type === tmpfsMagic;
}

const tmpfsMagic = 0x01021994;
