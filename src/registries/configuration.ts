import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { messageOf, RunnerError } from '../errors.ts';

/** Where configuration is looked for; other roots are for tests. */
export interface Machine {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  /** Above `etc`. */
  readonly root: string;
  /** The program `node`, beside which npm has a configuration of its own. */
  readonly node: string;
}

const filesBytesMax = 262_144;

/** A configuration file, or the empty text where there is none. */
export async function readConfiguration(path: string): Promise<string> {
  try {
    // A FIFO would be waited for without it.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = await file.stat();
      if (!stats.isFile()) return '';
      if (stats.size > filesBytesMax) throw new Error(`it is longer than ${filesBytesMax} bytes`);
      return await file.readFile('utf8');
    } finally {
      await file.close();
    }
  } catch (cause) {
    if (isAbsent(cause)) return '';
    const message = `${path} was to say which registries this machine uses: ${messageOf(cause)}; mend it, or write the rules out in the policy`;
    throw new RunnerError('policy_unenforceable', message, { cause });
  }
}

/** Not there, or not for us, as for the client itself. */
function isAbsent(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES' || code === 'ENXIO';
}
