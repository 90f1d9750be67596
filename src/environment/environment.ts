import { canonicalJson, digestOf, digestPattern, type Digest } from '../digest.ts';
import type { Engine } from '../engine/engine.ts';
import { RunnerError } from '../errors.ts';
import { readAccepted, resolveImage } from '../images/accepted.ts';
import type { EnvironmentSpec, Policy } from '../policy/policy.ts';
import type { BlobStore } from '../workspace/blobs.ts';
import { importWorkspace } from '../workspace/base/import.ts';
import { Scope } from '../workspace/scope/scope.ts';
import { selectFiles } from '../workspace/base/select.ts';

/**
 * What an environment is made from, and so what it is called: base image, commands, and the files that setup sees. The
 * same three are the same environment, whoever asks and from whichever directory.
 */
export interface Wanted {
  readonly spec: EnvironmentSpec;
  readonly base: { readonly reference: string; readonly id: Digest };
  readonly files: readonly SetupFile[];
  readonly key: Digest;
  /** Its name on the list of accepted images. */
  readonly name: string;
}

export interface SetupFile {
  readonly path: string;
  readonly mode: number;
  readonly digest: Digest;
}

/** What the policy says of this directory. Contents of the files are in the blob store afterwards. */
export async function findWanted(
  policy: Policy,
  directory: string | undefined,
  { engine, dataDir, blobs }: { engine: Pick<Engine, 'findImage'>; dataDir: string; blobs: BlobStore },
): Promise<Wanted> {
  const spec = policy.environment;
  if (spec === undefined)
    throw new RunnerError('invalid_request', `policy ${policy.name} has no environment; add one, or leave this out`);
  const policyIds = policy.images.filter((name) => digestPattern.test(name));
  const id = (await resolveImage(engine, await readAccepted(dataDir), spec.image, policyIds)) as Digest;
  const files = directory === undefined ? [] : await readFiles(policy, spec, directory, blobs);
  const key = digestOf(canonicalJson({ version: 1, base: id, setup: spec.setup, files }));
  return { spec, base: { reference: spec.image, id }, files, key, name: environmentName(key) };
}

function environmentName(key: Digest): string {
  return `env-${key.slice('sha256:'.length, 'sha256:'.length + 16)}`;
}

export function isEnvironmentName(reference: string): boolean {
  return /^env-[0-9a-f]{16}$/.test(reference);
}

/** What a run may not see, setup does not see either. */
async function readFiles(
  policy: Policy,
  spec: EnvironmentSpec,
  directory: string,
  blobs: BlobStore,
): Promise<readonly SetupFile[]> {
  const scope = Scope.compile({ read: spec.files, write: [], scratch: [], deny: policy.files.deny });
  const imported = importWorkspace(await selectFiles(directory, scope), scope, blobs, {
    limits: { filesMax, bytesMax },
  });
  for await (const item of imported.items) {
    if (item.type !== 'file' || item.content instanceof Uint8Array) continue;
    for await (const _ of item.content ?? []); // read to its end, so that its digest is known
  }
  return [...imported.base().tree].flatMap(([path, node]) =>
    node.kind === 'file' ? [{ path, mode: node.mode, digest: node.digest }] : [],
  );
}

const filesMax = 10_000;
const bytesMax = 256 * 1024 * 1024;
