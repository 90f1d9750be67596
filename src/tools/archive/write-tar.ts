import { encodePath } from '../../bytes-path.ts';
import { formatPax } from './pax.ts';
import { blockBytes, type TarEntry } from './tar-entry.ts';
import { formatHeader } from './tar-header.ts';

/** POSIX (pax) archive of these entries, the same bytes for the same entries. Names are written byte by byte. */
export function writeTar(entries: Iterable<TarEntry & { readonly mtimeSeconds?: number }>): Buffer {
  return Buffer.concat([...tarParts(entries)]);
}

/** The same, in parts that are to be put together. */
export function* tarParts(entries: Iterable<TarEntry & { readonly mtimeSeconds?: number }>): Generator<Buffer, void> {
  for (const entry of entries) {
    const name = encodePath(entry.type === 'directory' ? `${entry.path}/` : entry.path);
    const linkName = encodePath(entry.target);
    const long = {
      ...(name.length > 100 ? { path: name } : {}),
      ...(linkName.length > 100 ? { linkpath: linkName } : {}),
    };
    if (Object.keys(long).length > 0) {
      const pax = formatPax(long);
      yield formatHeader({ name: Buffer.from('pax'), mode: 0o644, size: pax.length, type: 'x' });
      yield* padded(pax);
    }
    const type = entry.type === 'file' ? '0' : entry.type === 'directory' ? '5' : '2';
    const size = entry.content.length;
    yield formatHeader({ name, mode: entry.mode & 0o777, size, type, linkName, mtimeSeconds: entry.mtimeSeconds ?? 0 });
    yield* padded(entry.content);
  }
  yield Buffer.alloc(2 * blockBytes);
}

function padded(bytes: Buffer): Buffer[] {
  const rest = bytes.length % blockBytes;
  return rest === 0 ? [bytes] : [bytes, Buffer.alloc(blockBytes - rest)];
}
