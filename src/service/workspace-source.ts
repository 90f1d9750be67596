import { RunnerError } from '../errors.ts';
import type { RepositoryPolicy } from '../policy/layers/repository-layer.ts';
import { BaseStore } from '../workspace/base/bases.ts';
import { localKeyId, type Principal } from './principal.ts';
import type { Uploads } from './uploads.ts';
import type { WorkspaceRoots } from './workspace-roots.ts';

/** As a request to open a run names it; one of them, or an empty workspace. */
export interface AskedWorkspace {
  readonly workspace?: string | undefined;
  readonly base?: string | undefined;
  readonly uploaded?: string | undefined;
}

/** What the runner is given, and where its repository says what runs on it may do. */
export interface FoundWorkspace {
  readonly given: { readonly workspace?: string; readonly base?: string };
  readonly repository: readonly RepositoryPolicy[];
}

const repositoryPolicyPath = '.glovebox/policy.yaml';

/** What runs start from: a directory of this machine, what a client has sent, or what was imported before. Each comes with what its repository says. */
export class WorkspaceSource {
  readonly #roots: WorkspaceRoots;
  readonly #uploads: Uploads;
  readonly #basesDir: string;

  constructor(roots: WorkspaceRoots, uploads: Uploads, basesDir: string) {
    this.#roots = roots;
    this.#uploads = uploads;
    this.#basesDir = basesDir;
  }

  /** Throws `forbidden`, `invalid_request`, `import_refused`, `not_found`. */
  async find(principal: Principal, { workspace, base, uploaded }: AskedWorkspace): Promise<FoundWorkspace> {
    if (uploaded !== undefined) {
      const { tree } = await this.#uploads.use(principal, uploaded);
      return { given: { workspace: tree }, repository: [{ fileIn: tree }] };
    }
    if (base !== undefined) return this.#base(principal, base);
    const directory = await this.#roots.resolve(principal, workspace);
    if (directory === undefined) return { given: {}, repository: [] };
    return { given: { workspace: directory }, repository: [{ committedIn: directory }] };
  }

  /** Whose files they were nobody knows by its key, so only the owner of the machine names one. */
  async #base({ keyId }: Principal, key: string): Promise<FoundWorkspace> {
    if (keyId !== localKeyId)
      throw new RunnerError('forbidden', 'a base is named by the owner of the machine alone; name a workspace');
    const base = await (await BaseStore.open(this.#basesDir)).find(key);
    if (base === undefined)
      throw new RunnerError('import_refused', `there is no base ${key.slice(0, 80)}; glovebox base ls`);
    const fileIn = base.files.directoryOf(repositoryPolicyPath);
    return { given: { base: key }, repository: [{ committedIn: base.meta.source }, { fileIn }] };
  }
}
