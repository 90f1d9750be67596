import { open, type FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { messageOf, RunnerError } from '../errors.ts';
import { machineRegistries } from '../registries/machine.ts';
import { publicRegistries, type Registries } from '../registries/registries.ts';
import { checkChain } from './layers/check-chain.ts';
import { effectivePolicy, refuseIncomplete } from './layers/effective.ts';
import { issueLines } from './language/issue-lines.ts';
import { Intent, type IntentInput } from './language/intent.ts';
import { expandSets, withSetsExpanded } from './layers/path-sets.ts';
import type { LoadedPolicy } from './layers/effective-policy.ts';
import type { TaskRequest } from './layers/restriction.ts';
import { parseSourceFile, type SourceFile } from './language/source-file.ts';
import { textBytesMax } from './language/yaml-source.ts';
import { shipped } from '../shipped.ts';

export { classesOf } from './layers/effective.ts';
export type { ContextTerms, EnvironmentSpec, LoadedPolicy, Policy } from './layers/effective-policy.ts';
export { noDriftRules, type EffectiveDrift } from './layers/effective-drift.ts';
export { standardVerify, type EffectiveGate, type EffectiveVerify } from './layers/effective-verify.ts';

/** The names of the shipped policies (`sandbox-policies/`). */
export const shippedPolicies = [
  'default',
  'docs-only',
  'locked-down',
  'org-floor',
  'balanced',
  'ci-ephemeral',
  'bugfix',
  'dependency-update',
  'release',
  'egress',
] as const;

const layersMax = 8;

/** A file, or the name of a shipped policy, for a task. Throws `invalid_policy` or `invalid_request`. */
export async function loadPolicy(pathOrName: string, task: TaskRequest = {}): Promise<LoadedPolicy> {
  const chain = await loadChain(pathOrName);
  return policyFor(chain, task, await compileOptions(chain));
}

export function defaultPolicy(task: TaskRequest = {}): Promise<LoadedPolicy> {
  return loadPolicy('default', task);
}

/** A policy from its text. What it extends has to be given. */
export function parsePolicy(text: string, source: string, task: TaskRequest = {}): LoadedPolicy {
  return policyFor(parseChain([{ text, source }]), task);
}

/** With the registries of this machine, where a rule stands for one. Throws `policy_unenforceable`. */
export async function compileOptions(chain: readonly SourceFile[]): Promise<CompileOptions> {
  const rules = chain.flatMap(({ file }) => Object.values(file.egress?.profiles ?? {}).flat());
  const isAsked = rules.some(({ registry }) => registry !== undefined);
  return { registries: isAsked ? await machineRegistries() : publicRegistries };
}

export interface CompileOptions {
  readonly incomplete?: boolean;
  /** What rules with `registry` stand for; the public ones where it is left out. */
  readonly registries?: Registries;
}

/** The same files for a task. `incomplete`: also what is only there to be extended, to look at it. */
export function policyFor(
  chain: readonly SourceFile[],
  task: TaskRequest,
  { incomplete = false, registries = publicRegistries }: CompileOptions = {},
): LoadedPolicy {
  const whole = { ...task, intent: parseIntent(chain, task.intent), written: task.intent };
  const effective = effectivePolicy(chain, whole, registries);
  if (!incomplete) refuseIncomplete(chain, effective.policy);
  const found = chain.at(-1);
  return { ...effective, source: found?.source ?? '', text: found?.text ?? '', chain, task, registries };
}

function parseIntent(chain: readonly SourceFile[], input: IntentInput | undefined): Intent | undefined {
  if (input === undefined) return undefined;
  const parsed = Intent.safeParse(input, { reportInput: true });
  if (!parsed.success)
    throw new RunnerError(
      'invalid_request',
      issueLines(parsed.error.issues, { placeOf: () => 'the intent' }, Intent).join('\n'),
    );
  return expandSets(parsed.data, chain);
}

/** The same files and registries for another task, such as one of higher risk. */
export function recompile({ chain, registries }: LoadedPolicy, task: TaskRequest): LoadedPolicy {
  return policyFor(chain, task, { registries });
}

/** The file and all that it extends, the widest first; checked, and its own tests passed. */
export async function loadChain(
  pathOrName: string,
  { withoutTests = false, onRead }: LoadChainOptions = {},
): Promise<readonly SourceFile[]> {
  const files = await readUpwards(pathOrName, pathFor(pathOrName, process.cwd()), 1, onRead);
  return checkChain(expandAll(files), { withoutTests });
}

interface LoadChainOptions {
  readonly withoutTests?: boolean;
  /** Each file, as it was read. */
  readonly onRead?: (path: string, text: string) => void;
}

/** One more file below the others, which can only narrow them. */
export function withLayer(chain: readonly SourceFile[], layer: SourceFile): readonly SourceFile[] {
  return checkChain([...chain, withSetsExpanded(layer, chain)]);
}

/** The same from texts that were read before. */
export function parseChain(
  texts: readonly { readonly text: string; readonly source: string }[],
): readonly SourceFile[] {
  const files = texts.map(({ text, source }) => parseSourceFile(text, source));
  const top = files[0];
  if (top?.file.extends !== undefined && files.length === 1)
    throw new RunnerError(
      'invalid_policy',
      `${top.placeOf(['extends'])}: extends: a text alone extends nothing; load the policy by its path`,
    );
  return checkChain(expandAll(files));
}

function expandAll(files: readonly SourceFile[]): readonly SourceFile[] {
  return files.map((file, index) => withSetsExpanded(file, files.slice(0, index)));
}

async function readUpwards(
  source: string,
  path: string,
  depth: number,
  onRead: LoadChainOptions['onRead'],
): Promise<readonly SourceFile[]> {
  const text = await readText(path);
  onRead?.(path, text);
  const file = parseSourceFile(text, source);
  const { extends: above } = file.file;
  if (above === undefined) return [file];
  const refuse = (why: string): never => {
    throw new RunnerError('invalid_policy', `${file.placeOf(['extends'])}: extends: ${why}`);
  };
  if (depth >= layersMax) refuse(`more than ${layersMax} layers; does a file extend itself?`);
  const [name = '', digest] = above.split('@');
  const files = await readUpwards(name, pathFor(name, dirname(path)), depth + 1, onRead);
  const found = files.at(-1)?.digest;
  if (digest !== undefined && digest !== found)
    refuse(`${name} is ${found} now, not ${digest}; look at it, then name that`);
  return [...files, file];
}

function pathFor(pathOrName: string, directory: string): string {
  if (/^[a-z][a-z-]*$/.test(pathOrName)) return shipped(`sandbox-policies/${pathOrName}.yaml`);
  return resolve(directory, pathOrName);
}

/** Of a policy. Throws `invalid_policy`. */
export async function readText(path: string): Promise<string> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'r');
    const buffer = Buffer.alloc(textBytesMax + 1); // one more than is accepted, so that a longer one is seen
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
    return buffer.toString('utf8', 0, bytesRead);
  } catch (cause) {
    const message = `cannot read the policy ${path}: ${messageOf(cause)}; shipped ones are ${shippedPolicies.join(', ')}`;
    throw new RunnerError('invalid_policy', message, { cause });
  } finally {
    await file?.close();
  }
}
