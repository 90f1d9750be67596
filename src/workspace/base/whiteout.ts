import path from 'node:path';

/**
 * A device that overlays take for "nothing is here" (0/0). Made by a program, because there is no call for it here, and once:
 * the others are more names for it. Undefined where this process may not make one.
 */
export async function makeWhiteout(directory: string, signal: AbortSignal | undefined): Promise<string | undefined> {
  const { execa } = await import('execa');
  const whiteout = path.join(directory, 'whiteout');
  const { failed } = await execa('mknod', ['-m', '0', '--', whiteout, 'c', '0', '0'], {
    env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' },
    extendEnv: false,
    stdio: 'ignore',
    reject: false,
    timeout: makeMs,
    ...(signal === undefined ? {} : { cancelSignal: signal }),
  });
  signal?.throwIfAborted();
  return failed ? undefined : whiteout;
}

const makeMs = 20_000;
