import { FileError, type Files } from '../sandbox/spec.ts';

/** Where programs inside find what they are to trust, written before any of them runs. */
export const clientFolder = '/run/glovebox';
/** Where nearly all programs look that look nowhere else, GnuTLS for one. In an environment it is a link to `ca.pem` there. */
export const systemBundle = '/etc/ssl/certs/ca-certificates.crt';
/** What an environment's base image had there. */
export const keptBundle = '/opt/glovebox/ca-certificates.crt';

/**
 * For a sandbox without an authority of its own: the link in an environment leads to what its image trusts. An image without
 * such a link is left as it is.
 */
export async function keepImageTrust(files: Pick<Files, 'stat' | 'unpack'>): Promise<void> {
  try {
    await files.stat(keptBundle);
  } catch (error) {
    if (error instanceof FileError) return;
    throw error;
  }
  const root = { owner: 'root' } as const;
  await files.unpack(
    '/run',
    [
      { ...root, path: 'glovebox', type: 'directory', mode: 0o755 },
      { ...root, path: 'glovebox/ca.pem', type: 'symlink', mode: 0o777, target: keptBundle },
    ],
    { owners: true },
  );
}
