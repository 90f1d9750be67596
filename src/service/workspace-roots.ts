import { realpath } from 'node:fs/promises';
import { isAbsolute, relative } from 'node:path';
import { RunnerError } from '../errors.ts';
import { localKeyId, type Principal } from './principal.ts';

/** Which directories of this machine a request may name: those below the roots; without any, the local owner names all. */
export class WorkspaceRoots {
  readonly #roots: readonly string[];

  constructor(roots: readonly string[]) {
    this.#roots = roots;
  }

  /** The real path. Throws `forbidden`, and for what is outside and what does not exist in the same words. */
  async resolve(principal: Principal, workspace: string | undefined): Promise<string | undefined> {
    if (workspace === undefined) return undefined;
    const isLocal = principal.keyId === localKeyId;
    if (!isLocal && !principal.scopes.has('admin'))
      throw new RunnerError(
        'forbidden',
        'a directory of this machine can be named with the scope admin alone; upload the workspace (POST /v1/workspaces)',
      );
    if (!isAbsolute(workspace) || workspace.includes('\0'))
      throw new RunnerError('invalid_request', 'a workspace is an absolute path on the machine of the service');
    const real = await realpath(workspace).catch(() => undefined);
    if (real !== undefined && (await this.#holds(real, isLocal))) return real;
    const where = this.#roots.length === 0 ? 'no directory may be named here' : 'it is not below one of the roots';
    throw new RunnerError('forbidden', `the workspace cannot be used: it is no directory, or ${where}`);
  }

  async #holds(real: string, isLocal: boolean): Promise<boolean> {
    if (this.#roots.length === 0) return isLocal;
    for (const root of this.#roots) {
      const realRoot = await realpath(root).catch(() => undefined);
      if (realRoot === undefined) continue;
      const inside = relative(realRoot, real);
      if (inside === '' || (!inside.startsWith('..') && !isAbsolute(inside))) return true;
    }
    return false;
  }
}
