import { fileURLToPath, pathToFileURL } from 'node:url';
import { posix } from 'node:path';
import { messageOf } from '../../errors.ts';
import { rpcCodes } from '../../stdio/in-flight.ts';
import { RpcError } from './protocol.ts';

const inside = '/workspace';

/**
 * Codex speaks of paths of the machine that it runs on: the workspace's own directory, and what is above it. The first is
 * `/workspace` in the sandbox, the second is not there; any other path is the sandbox's.
 */
export class Paths {
  /** Each spelling of the workspace's directory, absolute. */
  readonly #roots: readonly string[];

  constructor(roots: readonly string[]) {
    this.#roots = roots;
  }

  /** The path in the sandbox. */
  inside(text: string): string {
    const path = pathOf(text);
    const root = this.#roots.find((known) => path === known || path.startsWith(`${known}/`));
    return root === undefined ? path : inside + path.slice(root.length);
  }

  /** A path directly in a directory above the workspace, on the machine of the client: nothing of it is in the sandbox. */
  isAbove(text: string): boolean {
    const path = pathOf(text);
    const directory = posix.dirname(path);
    const below = directory === '/' ? '/' : `${directory}/`;
    return this.#roots.some((root) => root !== path && root.startsWith(below) && !path.startsWith(`${root}/`));
  }

  /** The same place as `asked` spelled it: the client compares what comes back with what it knows. */
  outside(path: string, asked: string): string {
    const spelled = pathOf(asked);
    const root = this.#roots.find((known) => spelled === known || spelled.startsWith(`${known}/`));
    const mine = path === inside || path.startsWith(`${inside}/`);
    return pathToFileURL(root !== undefined && mine ? root + path.slice(inside.length) : path).href;
  }
}

/** An absolute path, given as one or as a `file:` URL. */
function pathOf(text: string): string {
  try {
    const path = posix.normalize(text.startsWith('/') ? text : fileURLToPath(text));
    if (path.includes('\0')) throw new Error('it holds a NUL byte');
    return path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path;
  } catch (error) {
    const shown = JSON.stringify(text.slice(0, 200));
    throw new RpcError(rpcCodes.badParams, `${shown} is no absolute path of this environment: ${messageOf(error)}`);
  }
}
