import type { TarEntry } from '../../tools/archive/tar-entry.ts';
import { writeTar } from '../../tools/archive/write-tar.ts';
import { selectFiles } from '../../workspace/base/select.ts';
import { readingBuffer, readSteadily } from '../../workspace/base/steady-read.ts';
import { defaultLimits } from '../../workspace/limits.ts';
import { Scope } from '../../workspace/scope/scope.ts';

const endBytes = 1024;
const nothing = Buffer.alloc(0);

/**
 * The files of a directory as a tar, one after the other: in a git work tree what is tracked and what is untracked and not ignored,
 * elsewhere all but `.git`. Which of them a run gets to see its policy says, where it is opened. Throws `import_refused`.
 */
export async function* packWorkspace(directory: string): AsyncGenerator<Uint8Array, void> {
  const everything = Scope.compile({ read: ['**'], write: [], scratch: [], deny: [] });
  const { root, files, directories } = await selectFiles(directory, everything);
  for (const path of directories) yield part({ path, type: 'directory', mode: 0o755, content: nothing, target: '' });
  const buffer = readingBuffer();
  for (const file of files) {
    const { path } = file;
    if (file.kind === 'symlink')
      yield part({ path, type: 'symlink', mode: 0o777, content: nothing, target: file.target });
    else yield part({ path, type: 'file', ...contentOf(root, path, buffer), target: '' });
  }
  yield Buffer.alloc(endBytes);
}

function contentOf(root: string, path: string, buffer: Buffer): Pick<TarEntry, 'mode' | 'content'> {
  let pieces: Buffer[] = [];
  const { node } = readSteadily(root, path, buffer, defaultLimits.fileBytesMax, () => {
    pieces = [];
    return (piece) => void pieces.push(Buffer.from(piece));
  });
  return { mode: node.mode, content: Buffer.concat(pieces) };
}

/** Without the end of an archive. */
function part(entry: TarEntry): Buffer {
  return writeTar([entry]).subarray(0, -endBytes);
}
