import type { FileEntry } from '../sandbox/spec.ts';
import type * as calls from './calls/file-calls.ts';
import { bytesOf } from './calls/fields.ts';
import { sliceLines } from './lines.ts';
import { viewLong } from './bytes-view.ts';
import { shownPath } from './tree.ts';
import type { ToolContext } from './tool-context.ts';
import type { EntryData, ToolData } from './tool-result.ts';

const lineFileMaxBytes = 67_108_864;

export async function stat(context: ToolContext, call: calls.StatCall): Promise<ToolData> {
  const entry = await context.files.stat(call.path, { follow: call.follow, digest: call.digest });
  return { kind: 'entry', entry: entryData(entry) };
}

export async function read(context: ToolContext, call: calls.ReadCall): Promise<ToolData> {
  const range = call.range ?? (call.lineNumbers ? { fromLine: 1 } : { offset: 0 });
  return 'fromLine' in range ? await readLines(context, call, range) : await readBytes(context, call, range);
}

export async function write(context: ToolContext, call: calls.WriteCall): Promise<ToolData> {
  const entry = await context.files.write(call.path, bytesOf(call.content), {
    parents: call.parents,
    ...(call.mode === undefined ? {} : { mode: call.mode }),
    ...(call.create === undefined ? {} : { create: call.create }),
    ...(call.ifMatch === undefined ? {} : { ifMatch: call.ifMatch }),
  });
  return { kind: 'entry', entry: entryData(entry) };
}

export async function mkdir(context: ToolContext, call: calls.MkdirCall): Promise<ToolData> {
  const mode = call.mode === undefined ? {} : { mode: call.mode };
  await context.files.mkdir(call.path, { parents: call.parents, ...mode });
  return { kind: 'done' };
}

export async function move(context: ToolContext, call: calls.MoveCall): Promise<ToolData> {
  await context.files.move(call.from, call.to, { replace: call.replace });
  return { kind: 'done' };
}

export async function remove(context: ToolContext, call: calls.RemoveCall): Promise<ToolData> {
  await context.files.remove(call.path, { recursive: call.recursive });
  return { kind: 'done' };
}

export function entryData(entry: FileEntry): EntryData {
  return {
    path: shownPath(entry.path),
    type: entry.type,
    mode: entry.mode & 0o7777,
    uid: entry.uid,
    gid: entry.gid,
    sizeBytes: entry.sizeBytes,
    mtimeMs: Number(entry.mtimeNs / 1_000_000n),
    target: entry.target ?? null,
    digest: entry.digest ?? null,
  };
}

async function readBytes(
  context: ToolContext,
  call: calls.ReadCall,
  range: { offset: number; bytes?: number | undefined },
): Promise<ToolData> {
  const lengthBytes = Math.min(range.bytes ?? Number.MAX_SAFE_INTEGER, call.maxBytes);
  const { entry, bytes } = await context.files.read(call.path, { offset: range.offset, lengthBytes });
  const wanted = Math.min(range.bytes ?? Number.MAX_SAFE_INTEGER, Math.max(0, entry.sizeBytes - range.offset));
  return {
    kind: 'content',
    entry: entryData(entry),
    content: await viewLong(bytes),
    offset: range.offset,
    firstLine: null,
    lastLine: null,
    truncated: bytes.length < wanted,
  };
}

async function readLines(
  context: ToolContext,
  call: calls.ReadCall,
  range: { fromLine: number; toLine?: number | undefined },
): Promise<ToolData> {
  const { entry, bytes } = await context.files.read(call.path, { maxBytes: lineFileMaxBytes });
  const slice = sliceLines(bytes, range.fromLine, range.toLine, call.maxBytes);
  const content = await viewLong(slice.bytes);
  return {
    kind: 'content',
    entry: entryData(entry),
    content: call.lineNumbers ? { ...content, text: slice.numbered() } : content,
    offset: slice.offset,
    firstLine: slice.firstLine,
    lastLine: slice.lastLine,
    truncated: slice.truncated,
  };
}
