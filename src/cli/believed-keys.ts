import { createPublicKey, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { findSigningKey, parsePublicKey } from '../bundle/signing-key.ts';
import { loadConfig } from '../config.ts';
import { messageOf, RunnerError } from '../errors.ts';
import type { CliContext } from './context.ts';

/** Public keys: those of these files, else that of this machine. Throws `invalid_request` where there is none. */
export async function believedKeys(
  files: readonly string[] | undefined,
  context: CliContext,
): Promise<readonly KeyObject[]> {
  if (files !== undefined) return Promise.all(files.map(readKey));
  const own = await findSigningKey((await context.openDataDir()).path, (await loadConfig()).signing);
  if (own !== undefined) return [createPublicKey(own.publicPem)];
  const next = 'give the public key of who has exported it: --key FILE (glovebox signing-key prints it there)';
  throw new RunnerError('invalid_request', `this machine has no signing key, so nothing says whom to believe; ${next}`);
}

/** Of this machine, which signs reviews. Where nobody has made one, there are none. */
export async function ownKeys(context: CliContext): Promise<readonly KeyObject[]> {
  return await believedKeys(undefined, context).catch(() => []);
}

async function readKey(file: string): Promise<KeyObject> {
  const pem = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new RunnerError('invalid_request', `--key ${file} cannot be read: ${messageOf(cause)}`, { cause });
  });
  return parsePublicKey(pem, `--key ${file}`);
}
