import { describe, expect, test } from 'vitest';
import { FileError, type FileEntry, type UnpackItem } from '../sandbox/spec.ts';
import { trustEnvironment, writeTrust } from './client-files.ts';

/** An image whose files are these. */
function imageWith(texts: Readonly<Record<string, string>>) {
  const written = new Map<string, UnpackItem>();
  return {
    written,
    read: (path: string) => {
      const text = texts[path];
      if (text === undefined) return Promise.reject(new FileError('not_found', path, 'it is not there'));
      return Promise.resolve({ entry: {} as FileEntry, bytes: Buffer.from(text) });
    },
    unpack: async (root: string, items: Iterable<UnpackItem> | AsyncIterable<UnpackItem>) => {
      for await (const item of items) written.set(`${root}/${item.path}`, item);
    },
  };
}

describe('what is to be trusted inside', () => {
  test.each([
    ['of an image as Debian makes it', { '/etc/ssl/certs/ca-certificates.crt': 'A\nB\n' }, 'A\nB\nRUN\n'],
    ['of one as Fedora makes it, without a line end', { '/etc/pki/tls/certs/ca-bundle.crt': 'A' }, 'A\nRUN\n'],
    ['of an image that trusts nobody', {}, 'RUN\n'],
  ])('is what the image trusts and the authority of the run: %s', async (_, texts, bundle) => {
    const image = imageWith(texts);
    await writeTrust(image, 'RUN\n');
    const { SSL_CERT_FILE = '', APT_CONFIG = '', WGETRC = '' } = trustEnvironment();
    expect(image.written.get(SSL_CERT_FILE)?.content).toEqual(Buffer.from(bundle));
    for (const path of [SSL_CERT_FILE, APT_CONFIG, WGETRC])
      expect(image.written.get(path)).toMatchObject({ owner: 'root', mode: 0o444 });
  });

  test('has to be written, or the run does not open', async () => {
    const full = () => Promise.reject(new FileError('no_space', '/run', 'it is full'));
    await expect(writeTrust({ ...imageWith({}), unpack: full }, 'RUN\n')).rejects.toMatchObject({
      code: 'policy_unenforceable',
    });
  });
});
