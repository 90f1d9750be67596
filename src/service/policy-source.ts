import { readdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, RunnerError } from '../errors.ts';
import { ChainMemory } from '../policy/chain-memory.ts';
import { withRepositoryLayer, type RepositoryPolicy } from '../policy/layers/repository-layer.ts';
import {
  classesOf,
  compileOptions,
  loadChain,
  policyFor,
  shippedPolicies,
  type LoadedPolicy,
} from '../policy/policy.ts';
import type { TaskRequest } from '../policy/layers/restriction.ts';
import { policyNamePattern } from '../contract/run-view.ts';

export interface OfferedPolicy {
  readonly name: string;
  readonly description: string;
  readonly classes: readonly string[];
  readonly shipped: boolean;
}

const filesMax = 1_000;

/** The policies that a service offers by name: those of a directory, else the shipped ones. A file is read when it is used. */
export class PolicySource {
  readonly #directory: string | undefined;
  readonly #memory = new ChainMemory();

  constructor(directory: string | undefined) {
    this.#directory = directory;
  }

  /** Throws `invalid_config` when the directory cannot be read. */
  static async open(directory: string | undefined): Promise<PolicySource> {
    if (directory === undefined) return new PolicySource(undefined);
    try {
      return new PolicySource(await realpath(directory));
    } catch (cause) {
      throw new RunnerError('invalid_config', `policies cannot be read from ${directory}: ${messageOf(cause)}`, {
        cause,
      });
    }
  }

  async names(): Promise<readonly string[]> {
    if (this.#directory === undefined) return shippedPolicies;
    const files = await readdir(this.#directory);
    const names = files.filter((file) => file.endsWith('.yaml')).map((file) => file.slice(0, -'.yaml'.length));
    return names
      .filter((name) => policyNamePattern.test(name))
      .sort()
      .slice(0, filesMax);
  }

  /** Of one that does not load nothing is said but that. */
  async find(name: string): Promise<(OfferedPolicy & { readonly text: string }) | undefined> {
    if (!(await this.names()).includes(name)) return undefined;
    const chain = await loadChain(this.#placeOf(name), { withoutTests: true });
    const file = chain.at(-1);
    return {
      name,
      description: file?.file.description ?? '',
      classes: classesOf(chain),
      shipped: this.#directory === undefined,
      text: file?.text ?? '',
    };
  }

  /** With what the repository of the workspace says, which can only narrow. Throws `not_found`, `invalid_policy`, `invalid_request`. */
  async load(
    wanted: { readonly name: string } | { readonly text: string },
    repository: readonly RepositoryPolicy[],
    task: TaskRequest,
  ): Promise<LoadedPolicy> {
    if ('text' in wanted) {
      const chain = this.#memory.parse(wanted.text, 'the request');
      return policyFor(await withRepositoryLayer(chain, repository), task);
    }
    const names = await this.names();
    if (!names.includes(wanted.name))
      throw new RunnerError('not_found', `there is no policy ${wanted.name} here; there are ${names.join(', ')}`);
    const chain = await this.#memory.load(this.#placeOf(wanted.name));
    return policyFor(await withRepositoryLayer(chain, repository), task, await compileOptions(chain));
  }

  /** A shipped one by its name, else a file. */
  #placeOf(name: string): string {
    return this.#directory === undefined ? name : join(this.#directory, `${name}.yaml`);
  }
}
