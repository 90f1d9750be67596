import type { FileEntry, UnpackItem } from '../sandbox/spec.ts';
import { readTarInTurns } from './archive/read-tar.ts';
import type { TarEntry } from './archive/tar-entry.ts';
import { joinBytes, toBase64 } from '../long-bytes.ts';
import { tarParts } from './archive/write-tar.ts';
import { base64Bytes } from './calls/fields.ts';
import type { DownloadCall, UploadCall } from './calls/file-calls.ts';
import type { ToolContext } from './tool-context.ts';
import { ToolError, type ToolData } from './tool-result.ts';
import { relativeTo } from './tree.ts';

const entriesMax = 100_000;

/** The whole archive is checked before the first file is written. */
export async function upload(context: ToolContext, call: UploadCall): Promise<ToolData> {
  const entries = await readTarInTurns(base64Bytes(call.tar));
  await context.files.mkdir(call.path, { parents: true });
  await context.files.unpack(call.path, withParents(entries));
  return { kind: 'unpacked', entries: entries.length, bytes: entries.reduce((sum, e) => sum + e.content.length, 0) };
}

/** Links are packed as links, never followed. What is no file, directory or link is left out and named. */
export async function download(context: ToolContext, call: DownloadCall): Promise<ToolData> {
  const packed: (TarEntry & { mtimeSeconds: number })[] = [];
  const skipped: string[] = [];
  let bytes = 0;
  const walk = context.files.walk([call.path], {
    contents: true,
    includeRoot: true,
    entriesMax,
    contentBytesMax: call.maxBytes,
    fileBytesMax: call.maxBytes,
  });
  const root = await context.files.stat(call.path);
  for await (const item of walk) {
    if (item.kind === 'unreadable') throw new ToolError(item.code, `${item.path} cannot be read`, item.path);
    if (item.kind === 'end') {
      if (item.truncated) throw tooLarge(call);
      continue;
    }
    const path = relativeTo(call.path, item.entry.path) || (root.type === 'directory' ? '' : baseName(call.path));
    if (path === '') continue;
    const type = item.entry.type;
    if (type !== 'file' && type !== 'directory' && type !== 'symlink') {
      skipped.push(item.entry.path);
      continue;
    }
    const content = contentOf(item.entry, item.content, call);
    bytes += content.length;
    if (bytes > call.maxBytes) throw tooLarge(call);
    const mtimeSeconds = Number(item.entry.mtimeNs / 1_000_000_000n);
    packed.push({ path, type, mode: item.entry.mode & 0o777, content, target: item.entry.target ?? '', mtimeSeconds });
  }
  const archive = await joinBytes([...tarParts(packed)]);
  return {
    kind: 'archive',
    base64: await toBase64(archive),
    entries: packed.length,
    bytes: archive.length,
    skipped,
  };
}

/** Directories that the archive only implies come first, as unpacking needs them. */
function* withParents(entries: readonly TarEntry[]): Generator<UnpackItem> {
  const made = new Set<string>();
  const own = new Map(entries.filter((entry) => entry.type === 'directory').map((entry) => [entry.path, entry.mode]));
  const directory = function* (path: string): Generator<UnpackItem> {
    for (let at = path.indexOf('/'); ; at = path.indexOf('/', at + 1)) {
      const part = at === -1 ? path : path.slice(0, at);
      if (!made.has(part)) yield { path: part, type: 'directory', mode: own.get(part) ?? 0o755 };
      made.add(part);
      if (at === -1) return;
    }
  };
  for (const entry of entries) {
    const end = entry.path.lastIndexOf('/');
    if (entry.type === 'directory') yield* directory(entry.path);
    else {
      if (end !== -1) yield* directory(entry.path.slice(0, end));
      const link = entry.type === 'symlink' ? { target: entry.target } : { content: entry.content };
      yield { path: entry.path, type: entry.type, mode: entry.mode, ...link };
    }
  }
}

function contentOf(entry: FileEntry, content: Uint8Array | undefined, call: DownloadCall): Buffer {
  if (entry.type !== 'file' || entry.sizeBytes === 0) return Buffer.alloc(0);
  if (content === undefined) throw tooLarge(call);
  return Buffer.from(content.buffer, content.byteOffset, content.byteLength);
}

function tooLarge(call: DownloadCall): ToolError {
  return new ToolError(
    'too_large',
    `${call.path} holds more than ${call.maxBytes} bytes or ${entriesMax} entries; download parts of it`,
    call.path,
  );
}

function baseName(path: string): string {
  return path.replace(/\/+$/, '').slice(path.replace(/\/+$/, '').lastIndexOf('/') + 1);
}
