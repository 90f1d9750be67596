import path from 'node:path';

import { runProgram } from '../../host-program.ts';

/**
 * A device that overlays take for "nothing is here" (0/0). Made by a program, because there is no call for it here, and once:
 * the others are more names for it. Undefined where this process may not make one.
 */
export async function makeWhiteout(directory: string, signal: AbortSignal | undefined): Promise<string | undefined> {
  const whiteout = path.join(directory, 'whiteout');
  const { code } = await runProgram('mknod', ['-m', '0', '--', whiteout, 'c', '0', '0'], {
    env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' },
    timeoutMs: makeMs,
    outputBytesMax: 64 * 1024,
    signal,
  });
  signal?.throwIfAborted();
  return code === 0 ? whiteout : undefined;
}

const makeMs = 20_000;
