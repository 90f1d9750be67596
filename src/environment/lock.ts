import { access, mkdir, readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { digestPattern, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { writeWhole } from '../images/lock.ts';

const digest = z.custom<Digest>((value) => typeof value === 'string' && digestPattern.test(value), 'expected sha256:…');

/** What an environment was made from and what is in it: `environments/<name>.json` in the data directory. */
export const EnvironmentLock = z.strictObject({
  version: z.literal(1),
  name: z.string(),
  key: digest,
  base: z.strictObject({ reference: z.string(), id: digest }),
  setup: z.array(z.array(z.string())),
  files: z.array(z.strictObject({ path: z.string(), mode: z.number(), digest })),
  /** Whether an operator gave setup a network. With that or `egress`, two builds may differ. */
  network: z.boolean(),
  /** What setup was let to by the policy: the id of the record of it, hosts that answered, and how much was refused. */
  egress: z
    .strictObject({
      record: z.string(),
      profiles: z.array(z.string()),
      reached: z.array(z.string()),
      refused: z.number(),
    })
    .optional(),
  /** What the operator gave setup on top: names of variables, never their values, and the digest of certificates. */
  access: z.strictObject({ variables: z.array(z.string()), ca: digest.optional() }).optional(),
  id: digest,
  /** sha256 of the root file system's tar. */
  content: digest,
  bytes: z.number(),
  packages: z.strictObject({ debian: z.array(z.string()), npm: z.array(z.string()), python: z.array(z.string()) }),
  builtAt: z.iso.datetime(),
});
export type EnvironmentLock = z.infer<typeof EnvironmentLock>;

export async function writeEnvironmentLock(dataDir: string, lock: EnvironmentLock): Promise<void> {
  await mkdir(folderOf(dataDir), { recursive: true, mode: 0o700 });
  await writeWhole(fileOf(dataDir, lock.name), `${JSON.stringify(lock, undefined, 2)}\n`);
}

export async function findEnvironmentLock(dataDir: string, name: string): Promise<EnvironmentLock | undefined> {
  const path = fileOf(dataDir, name);
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  try {
    return EnvironmentLock.parse(JSON.parse(text));
  } catch (cause) {
    const message = `${path} cannot be read: ${messageOf(cause)}; remove it and build the environment again`;
    throw new RunnerError('image_not_allowed', message, { cause });
  }
}

/** Whether there is one, readable or not. */
export async function isBuilt(dataDir: string, name: string): Promise<boolean> {
  return access(fileOf(dataDir, name)).then(
    () => true,
    () => false,
  );
}

/** Newest first. */
export async function listEnvironmentLocks(dataDir: string): Promise<readonly EnvironmentLock[]> {
  const names = await readdir(folderOf(dataDir)).catch(() => []);
  const locks: EnvironmentLock[] = [];
  for (const file of names) {
    const lock = file.endsWith('.json') ? await findEnvironmentLock(dataDir, file.slice(0, -5)) : undefined;
    if (lock !== undefined) locks.push(lock);
  }
  return locks.sort((a, b) => (a.builtAt < b.builtAt ? 1 : -1));
}

export async function removeEnvironmentLock(dataDir: string, name: string): Promise<void> {
  await rm(fileOf(dataDir, name), { force: true });
}

function folderOf(dataDir: string): string {
  return join(dataDir, 'environments');
}

function fileOf(dataDir: string, name: string): string {
  return join(folderOf(dataDir), `${name}.json`);
}
