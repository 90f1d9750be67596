import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { access, link, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { askProgram, readSecretFile } from '../credentials/sources.ts';
import { digestOf } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { failpoint } from '../failpoint.ts';
import { newId } from '../ids.ts';

/** What bundles are signed with: Ed25519. Only `publicPem` and `id` are ever shown. */
export interface SigningKey {
  readonly private: KeyObject;
  /** sha256 of the public half (SPKI, DER), 64 hex digits. */
  readonly id: string;
  readonly publicPem: string;
  /** It was made just now. */
  readonly made: boolean;
}

/** What the operator says of it; nothing: the one of the data directory. */
export interface SigningSource {
  readonly key?: string | undefined;
  readonly command?: readonly string[] | undefined;
}

/**
 * The key of this machine, made in its data directory where there is none yet. Promises:
 *  - a key is there whole or not at all, for its owner alone (0600), and is never written over;
 *  - two processes that need the first one at once get the same;
 *  - a message about it shows nothing of it.
 */
export async function openSigningKey(dataDir: string, from: SigningSource = {}): Promise<SigningKey> {
  const found = await findSigningKey(dataDir, from);
  if (found !== undefined) {
    await sweepDrafts(dataDir);
    return found;
  }
  const file = keyFile(dataDir);
  const draft = `${file}.${newId()}.new`;
  try {
    const { privateKey } = generateKeyPairSync('ed25519');
    await writeFile(draft, privateKey.export({ type: 'pkcs8', format: 'pem' }), {
      mode: 0o600,
      flag: 'wx',
      flush: true,
    });
    await failpoint('export.keyed');
    const isOurs = await link(draft, file).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        // Somebody was faster, and perhaps has swept our draft: the key is there.
        if (error.code !== 'EEXIST' && error.code !== 'ENOENT') throw error;
        return false;
      },
    );
    return { ...parseSigningKey(await readFile(file, 'utf8'), file), made: isOurs };
  } catch (cause) {
    if (cause instanceof RunnerError) throw cause;
    const message = `the signing key cannot be kept as ${file}: ${messageOf(cause)}; make room there, or name one in the configuration (signing.key)`;
    throw new RunnerError('data_dir_unusable', message, { cause });
  } finally {
    await rm(draft, { force: true }).catch(() => undefined); // the key has its own name by now
  }
}

/** The same, but none is made. Throws `credential_unavailable` for one that is said and cannot be had. */
export async function findSigningKey(dataDir: string, from: SigningSource = {}): Promise<SigningKey | undefined> {
  const [program, ...args] = from.command ?? [];
  if (program !== undefined) return get(`the program ${program}`, () => askProgram(program, args, askMs));
  if (from.key !== undefined) {
    const { key } = from;
    return get(key, () => readSecretFile(key));
  }
  const file = keyFile(dataDir);
  const isAbsent = await access(file).then(
    () => false,
    (error: NodeJS.ErrnoException) => error.code === 'ENOENT',
  );
  return isAbsent ? undefined : get(file, () => readSecretFile(file));
}

/** A public key in PEM, for checking. Throws `invalid_request`; a private one is refused, so that nobody hands it around. */
export function parsePublicKey(pem: string, source: string): KeyObject {
  const refuse = (why: string, cause?: unknown): never => {
    throw new RunnerError(
      'invalid_request',
      `${source}: ${why}; glovebox signing-key prints the public key of a machine`,
      {
        cause,
      },
    );
  };
  if (/PRIVATE KEY/.test(pem)) refuse('this is a private key, and checking needs the public one');
  try {
    const key = createPublicKey(pem);
    return key.asymmetricKeyType === 'ed25519'
      ? key
      : refuse('bundles are signed with Ed25519, and this is another kind of key');
  } catch (error) {
    if (error instanceof RunnerError) throw error;
    return refuse('is no public key in PEM', error);
  }
}

/** Of either half. */
export function keyIdOf(key: KeyObject): string {
  const half = key.type === 'private' ? createPublicKey(key) : key;
  return digestOf(half.export({ type: 'spki', format: 'der' })).slice('sha256:'.length);
}

const askMs = 10_000;

/** Where the data directory has the one that it makes. */
function keyFile(dataDir: string): string {
  return join(dataDir, 'signing-key.pem');
}

/** Of processes that died before their key had its name: keys that nobody will use, and nobody is to find. */
async function sweepDrafts(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir).catch(() => []))
    if (/^signing-key\.pem\.[0-9a-z]{26}\.new$/.test(name)) await rm(join(dataDir, name), { force: true });
}

async function get(source: string, read: () => Promise<string>): Promise<SigningKey> {
  try {
    return { ...parseSigningKey(await read(), source), made: false };
  } catch (error) {
    if (error instanceof RunnerError) throw error;
    throw new RunnerError('credential_unavailable', `the signing key of ${source} cannot be had: ${messageOf(error)}`);
  }
}

function parseSigningKey(pem: string, source: string): Omit<SigningKey, 'made'> {
  const refuse = (): never => {
    throw new RunnerError(
      'credential_unavailable',
      `${source} has no Ed25519 private key in PEM; make one: openssl genpkey -algorithm ed25519`,
    );
  };
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType !== 'ed25519') return refuse();
    const publicPem = createPublicKey(key).export({ type: 'spki', format: 'pem' }) as string;
    return { private: key, id: keyIdOf(key), publicPem };
  } catch {
    return refuse(); // what the parser says may quote the key
  }
}
