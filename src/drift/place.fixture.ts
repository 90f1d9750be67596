import { digestOf } from '../digest.ts';
import type { Listed, Place } from './place.ts';

/** Files by path, and links as `-> target`. */
export function placeWith(files: Readonly<Record<string, string>>): Place {
  const ended = (path: string): string | undefined => {
    const found = files[path];
    return found?.startsWith('-> ') === true ? ended(found.slice(3)) : found;
  };
  return {
    read: async (path, bytesMax) => {
      const found = ended(path);
      return found === undefined || found.length > bytesMax ? undefined : found;
    },
    digest: async (path) => {
      const found = ended(path);
      return found === undefined ? undefined : digestOf(found);
    },
    list: async (root, { entriesMax, depthMax = Infinity, digests = false }) => {
      const below = Object.keys(files).filter((path) => path.startsWith(`${root}/`));
      const entries = new Map<string, Listed>();
      for (const path of below) {
        const names = path.slice(root.length + 1).split('/');
        for (let depth = 1; depth <= Math.min(names.length, depthMax); depth++) {
          const at = `${root}/${names.slice(0, depth).join('/')}`;
          entries.set(at, depth < names.length ? directory(at) : entryOf(at, files[path] ?? '', digests));
        }
      }
      return [...entries.values()].slice(0, entriesMax);
    },
  };
}

function directory(path: string): Listed {
  return { path, type: 'directory', mode: 0o755, uid: 0, gid: 0 };
}

function entryOf(path: string, text: string, digests: boolean): Listed {
  if (text.startsWith('-> ')) return { path, type: 'symlink', mode: 0o777, uid: 0, gid: 0, target: text.slice(3) };
  return { path, type: 'file', mode: 0o644, uid: 0, gid: 0, ...(digests ? { digest: digestOf(text) } : {}) };
}
