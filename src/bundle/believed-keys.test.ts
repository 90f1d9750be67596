import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { believedKeysDir, believeKey, machineKeys } from './believed-keys.ts';
import { keyIdOf, openSigningKey } from './signing-key.ts';

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'glovebox-keys-'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const made = (): KeyObject => generateKeyPairSync('ed25519').publicKey;
const pemOf = (key: KeyObject): string => key.export({ type: 'spki', format: 'pem' }) as string;

test('its own key is believed first, then those that somebody has named, once each', async () => {
  expect(await machineKeys(home)).toEqual([]);
  const other = made();
  await believeKey(home, pemOf(other), 'a file');
  await believeKey(home, pemOf(other), 'a file');
  const own = await openSigningKey(home);
  const ids = (await machineKeys(home)).map((key) => keyIdOf(key));
  expect(ids).toEqual([keyIdOf(createPublicKey(own.publicPem)), keyIdOf(other)]);
});

test('a private key is not taken, and leaves nothing there', async () => {
  const { privateKey } = generateKeyPairSync('ed25519');
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  await expect(believeKey(home, pem, 'a file')).rejects.toMatchObject({ code: 'invalid_request' });
  expect(readdirSync(home)).toEqual([]);
});

test('a file that is another key than its name says, or none, is told and not passed over', async () => {
  const id = await believeKey(home, pemOf(made()), 'a file');
  for (const content of [pemOf(made()), 'hello']) {
    writeFileSync(join(home, believedKeysDir, `${id}.pem`), content);
    await expect(machineKeys(home)).rejects.toMatchObject({ code: 'credential_unavailable' });
  }
});

test('there are so many and no more', async () => {
  for (let n = 0; n < 16; n++) await believeKey(home, pemOf(made()), 'a file');
  await expect(believeKey(home, pemOf(made()), 'a file')).rejects.toMatchObject({ code: 'limit_exceeded' });
});
