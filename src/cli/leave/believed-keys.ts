import type { KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { machineKeys } from '../../bundle/believed-keys.ts';
import { parsePublicKey } from '../../bundle/signing-key.ts';
import { loadConfig } from '../../config.ts';
import { messageOf, RunnerError } from '../../errors.ts';
import { openReviewerKeys } from '../../promotion/reviewer-keys.ts';
import type { Believed } from '../../promotion/reviews.ts';
import type { CliContext } from '../context.ts';

/** Whose signatures count: of the files that are named, else of this machine. Throws `invalid_request` where there is none. */
export async function believedKeys(
  files: readonly string[] | undefined,
  context: CliContext,
): Promise<readonly KeyObject[]> {
  if (files !== undefined) return Promise.all(files.map(readKey));
  const own = await ownKeys(context);
  if (own.length > 0) return own;
  const next = 'give the public key of who has exported it: --key FILE (glovebox signing-key prints it there)';
  throw new RunnerError('invalid_request', `this machine has no signing key, so nothing says whom to believe; ${next}`);
}

/** Reviews are signed by this machine, with its key or an earlier one; where nobody has made one, there are none. */
export async function believedReviews(context: CliContext, more: readonly KeyObject[] = []): Promise<Believed> {
  const { reviewers } = (await loadConfig()).promotion;
  return { machine: [...(await ownKeys(context)), ...more], reviewers: await openReviewerKeys(reviewers) };
}

async function ownKeys(context: CliContext): Promise<readonly KeyObject[]> {
  return machineKeys((await context.openDataDir()).path, (await loadConfig()).signing);
}

async function readKey(file: string): Promise<KeyObject> {
  const pem = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new RunnerError('invalid_request', `--key ${file} cannot be read: ${messageOf(cause)}`, { cause });
  });
  return parsePublicKey(pem, `--key ${file}`);
}
