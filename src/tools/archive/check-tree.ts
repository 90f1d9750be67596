import { decodePath } from '../../bytes-path.ts';
import { archiveRefused, type TarEntry } from './tar-entry.ts';

const pathMaxBytes = 4096;
const nameMaxBytes = 255;
const depthMax = 256;
const entriesAtOnce = 4096;

/** The name of an entry without a leading `./` and a trailing `/`; empty for the root itself. */
export function cleanName(raw: Buffer): string {
  const name = decodePath(raw);
  const shown = JSON.stringify(name);
  if (raw.length === 0) throw archiveRefused('an entry without a name');
  if (raw.includes(0)) throw archiveRefused(`NUL byte in the name ${shown}`);
  if (raw.length > pathMaxBytes) throw archiveRefused(`a name of ${raw.length} bytes; ${pathMaxBytes} is the limit`);
  if (name.startsWith('/') || /^[A-Za-z]:/.test(name)) throw archiveRefused(`${shown} is absolute`);
  if (name.includes('\\')) throw archiveRefused(`${shown} has a backslash`);
  const clean = name.replace(/^(\.\/)+/, '').replace(/\/$/, '');
  if (clean === '' || clean === '.') return '';
  const parts = clean.split('/');
  if (parts.length > depthMax) throw archiveRefused(`${parts.length} levels of directories; ${depthMax} is the limit`);
  for (const part of parts) {
    if (part === '' || part === '.' || part === '..')
      throw archiveRefused(`${shown} has a component ${JSON.stringify(part)}`);
    if (Buffer.byteLength(part) > nameMaxBytes)
      throw archiveRefused(`a component of ${shown.slice(0, 80)} is over ${nameMaxBytes} bytes`);
  }
  return clean;
}

/** What single entries cannot show: names that come twice, paths through links or files, links that lead out. Others may have their turn at each step. */
export function* checkTree(entries: readonly Omit<TarEntry, 'content'>[]): Generator<void, void> {
  const types = new Map<string, TarEntry['type']>();
  for (const [n, entry] of entries.entries()) {
    if (n % entriesAtOnce === 0) yield;
    if (entry.path === '') throw archiveRefused('an entry that replaces the directory itself');
    const before = types.get(entry.path);
    if (before !== undefined && !(before === 'directory' && entry.type === 'directory')) {
      throw archiveRefused(`${JSON.stringify(entry.path)} comes twice`);
    }
    types.set(entry.path, entry.type);
  }
  for (const [n, entry] of entries.entries()) {
    if (n % entriesAtOnce === 0) yield;
    for (let at = entry.path.lastIndexOf('/'); at > 0; at = entry.path.lastIndexOf('/', at - 1)) {
      const parent = types.get(entry.path.slice(0, at));
      if (parent !== undefined && parent !== 'directory') {
        throw archiveRefused(`${JSON.stringify(entry.path)} goes through a ${parent}`);
      }
    }
    if (entry.type === 'symlink') checkTarget(entry);
  }
}

/**
 * A target may begin with as many `..` as keep it inside, and has none after that: then it stays inside even where other
 * components turn out to be links (to places inside).
 */
function checkTarget(entry: Omit<TarEntry, 'content'>): void {
  const shown = `${JSON.stringify(entry.path)} -> ${JSON.stringify(entry.target)}`;
  if (entry.target === '') throw archiveRefused(`${shown}: a link without a target`);
  if (entry.target.startsWith('/') || entry.target.includes('\0')) throw archiveRefused(`${shown} leads out`);
  const parts = entry.target.split('/').filter((part) => part !== '' && part !== '.');
  const ups = parts.findIndex((part) => part !== '..');
  const leading = ups === -1 ? parts.length : ups;
  const depth = entry.path.split('/').length - 1;
  if (leading > depth || parts.slice(leading).includes('..')) throw archiveRefused(`${shown} leads out`);
}
