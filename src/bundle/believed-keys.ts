import { createPublicKey, type KeyObject } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { namesIn } from '../data-dir/names-in.ts';
import { writeWhole } from '../data-dir/write-whole.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { findSigningKey, keyIdOf, parsePublicKey, type SigningSource } from './signing-key.ts';

/**
 * Public keys whose signatures count in a data directory besides its own: an earlier one of this machine, or that of the machine
 * that it was restored from. `believed-keys/<id>.pem`; a backup has them, and the public half of the key of its time. Whoever may
 * write there may as well write the key itself; what is to be believed no more is removed there.
 */
export const believedKeysDir = 'believed-keys';
/** More are a mistake. */
const keysMax = 16;

/** Its own, where there is one, then the others. */
export async function machineKeys(dataDir: string, from: SigningSource = {}): Promise<readonly KeyObject[]> {
  const own = await findSigningKey(dataDir, from);
  const others = await otherKeys(dataDir);
  return own === undefined ? others : [createPublicKey(own.publicPem), ...others];
}

/** From now on; twice is fine. Returns its id. Throws `invalid_request` for what is no public key. */
export async function believeKey(dataDir: string, pem: string, source: string): Promise<string> {
  const key = parsePublicKey(pem, source);
  const id = keyIdOf(key);
  const others = await otherKeys(dataDir);
  if (others.length >= keysMax && !others.some((one) => keyIdOf(one) === id))
    throw new RunnerError('limit_exceeded', `${dataDir} believes ${others.length} keys already, as many as it may`);
  const directory = join(dataDir, believedKeysDir);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await writeWhole(join(directory, `${id}.pem`), key.export({ type: 'spki', format: 'pem' }));
  return id;
}

async function otherKeys(dataDir: string): Promise<readonly KeyObject[]> {
  const directory = join(dataDir, believedKeysDir);
  const pems = (await namesIn(directory)).filter((name) => /^[0-9a-f]{64}\.pem$/.test(name)).sort();
  return Promise.all(pems.slice(0, keysMax).map((name) => readOther(directory, name)));
}

async function readOther(directory: string, name: string): Promise<KeyObject> {
  const file = join(directory, name);
  try {
    const key = parsePublicKey(await readFile(file, 'utf8'), file);
    if (`${keyIdOf(key)}.pem` !== name) throw new Error('it is another key than its name says');
    return key;
  } catch (cause) {
    const message = `${file} is not the public key that was put there: ${messageOf(cause)}; remove it, or put it back`;
    throw new RunnerError('credential_unavailable', message, { cause });
  }
}
