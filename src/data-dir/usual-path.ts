import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/** The data directory of whoever starts us: `GLOVEBOX_DATA`, else where the XDG base directories say. */
export function usualPath(env: NodeJS.ProcessEnv): string {
  const own = env['GLOVEBOX_DATA'];
  if (own !== undefined && own !== '') return own;
  const shared = env['XDG_DATA_HOME']; // a relative one is to be ignored (XDG base directories)
  if (shared !== undefined && isAbsolute(shared)) return join(shared, 'glovebox');
  return join(env['HOME'] ?? homedir(), '.local', 'share', 'glovebox');
}
