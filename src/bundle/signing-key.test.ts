import { generateKeyPairSync } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findSigningKey, keyIdOf, openSigningKey, parsePublicKey } from './signing-key.ts';

let dir: string;
beforeEach(async () => void (dir = await mkdtemp(join(tmpdir(), 'glovebox-key-'))));
afterEach(() => rm(dir, { recursive: true }));

const pemOf = (type: 'ed25519' | 'ec'): string => {
  const pair = type === 'ec' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('ed25519');
  return pair.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
};

describe('the signing key of a machine', () => {
  test('is made once, also when ten need the first one at once, and for its owner alone', async () => {
    expect(await findSigningKey(dir)).toBeUndefined();
    const keys = await Promise.all(Array.from({ length: 10 }, () => openSigningKey(dir)));
    expect(new Set(keys.map(({ id }) => id)).size).toBe(1);
    expect(keys.filter(({ made }) => made)).toHaveLength(1);
    expect((await stat(join(dir, 'signing-key.pem'))).mode & 0o777).toBe(0o600);
    expect(await openSigningKey(dir)).toMatchObject({ id: keys[0]?.id, made: false });
  });

  test('may be a file or a program of the configuration, and is not made then', async () => {
    const pem = pemOf('ed25519');
    const key = join(dir, 'own.pem');
    await writeFile(key, pem, { mode: 0o600 });
    const [ofFile, ofProgram] = [
      await openSigningKey(dir, { key }),
      await openSigningKey(dir, { command: ['/bin/cat', key] }),
    ];
    expect(ofFile.id).toBe(ofProgram.id);
    await expect(readFile(join(dir, 'signing-key.pem'))).rejects.toThrow(/ENOENT/);
  });

  test('that cannot be had is said, and nothing of it is shown', async () => {
    const secret = pemOf('ec');
    const key = join(dir, 'own.pem');
    await writeFile(key, secret, { mode: 0o600 });
    const refused = async (from: object, why: RegExp): Promise<void> => {
      const error: unknown = await openSigningKey(dir, from).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'credential_unavailable', message: expect.stringMatching(why) as string });
      expect(inspect(error, { depth: 9 })).not.toContain(secret.split('\n')[1]);
    };
    await refused({ key }, /no Ed25519 private key/);
    await refused({ command: ['/bin/cat', key] }, /no Ed25519 private key/);
    await refused({ command: ['/bin/false'] }, /exit code 1/);
    await refused({ key: join(dir, 'absent') }, /ENOENT/);
    await chmod(key, 0o644);
    await refused({ key }, /others may read/);
    await writeFile(join(dir, 'signing-key.pem'), 'spoilt', { mode: 0o600 });
    await refused({}, /no Ed25519 private key/);
    expect(await readFile(join(dir, 'signing-key.pem'), 'utf8'), 'never written over').toBe('spoilt');
  });
});

test('a public key is an Ed25519 one, and no private one', async () => {
  const { publicPem, id } = await openSigningKey(dir);
  expect(keyIdOf(parsePublicKey(publicPem, 'key'))).toBe(id);
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({
    type: 'spki',
    format: 'pem',
  }) as string;
  for (const [pem, why] of [
    [pemOf('ed25519'), /private key/],
    [ec, /another kind/],
    ['', /no public key/],
  ] as const)
    expect(() => parsePublicKey(pem, 'key.pem')).toThrow(why);
});
