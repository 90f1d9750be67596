import type { KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { parsePublicKey } from '../bundle/signing-key.ts';
import { messageOf, RunnerError } from '../errors.ts';
import type { ReviewerKeys } from './own-word.ts';
import { personOf } from './review.ts';

/** Of files with public keys, by name of the reviewer. Throws `invalid_config` for one that cannot be read. */
export async function openReviewerKeys(files: Readonly<Record<string, readonly string[]>>): Promise<ReviewerKeys> {
  const keys = new Map<string, readonly KeyObject[]>();
  for (const [name, paths] of Object.entries(files)) {
    const person = personOf(name);
    keys.set(person, [...(keys.get(person) ?? []), ...(await Promise.all(paths.map((path) => read(name, path))))]);
  }
  return keys;
}

async function read(name: string, path: string): Promise<KeyObject> {
  try {
    return parsePublicKey(await readFile(path, 'utf8'), path);
  } catch (cause) {
    const message = `promotion.reviewers.${name}: ${messageOf(cause)}; name a file with an Ed25519 public key in PEM`;
    throw new RunnerError('invalid_config', message, { cause });
  }
}
