import type { FileEntry } from '../sandbox/spec.ts';
import type { GlobCall, ListCall } from './calls/search-calls.ts';
import { entryData } from './files.ts';
import { NamePattern } from './name-pattern.ts';
import type { ToolContext } from './tool-context.ts';
import type { EntryData, ToolData } from './tool-result.ts';
import { Pause, prunedNames, relativeTo, searchMaxMs, statDirectory, treeEntriesMax } from './tree.ts';

export async function list(context: ToolContext, call: ListCall): Promise<ToolData> {
  // Of the directory itself the pruned names are shown: they are there, only not entered.
  const everything = { path: call.path, all: call.all, max: call.maxEntries };
  if (call.depth === 1) return await collect(context, { ...everything, shallow: true, matches: () => true });
  return await collect(context, { ...everything, depthMax: call.depth, matches: () => true });
}

export async function glob(context: ToolContext, call: GlobCall): Promise<ToolData> {
  const pattern = new NamePattern(call.pattern);
  const matches = (entry: FileEntry): boolean => pattern.matches(relativeTo(call.path, entry.path));
  return await collect(context, { path: call.path, all: call.all, max: call.maxMatches, matches });
}

interface Collect {
  readonly path: string;
  readonly all: boolean;
  readonly max: number;
  readonly shallow?: boolean;
  readonly depthMax?: number;
  matches(entry: FileEntry): boolean;
}

async function collect(context: ToolContext, what: Collect): Promise<ToolData> {
  await statDirectory(context.files, what.path);
  const entries: EntryData[] = [];
  const unreadable: string[] = [];
  const pause = new Pause();
  const endMs = performance.now() + searchMaxMs;
  let truncated = false;
  const walk = context.files.walk([what.path], {
    entriesMax: treeEntriesMax,
    prune: what.all ? [] : prunedNames,
    ...(what.shallow === undefined ? {} : { shallow: what.shallow }),
    ...(what.depthMax === undefined ? {} : { depthMax: what.depthMax }),
  });
  for await (const item of walk) {
    if (item.kind === 'end') truncated ||= item.truncated;
    else if (item.kind === 'unreadable') {
      if (unreadable.length < 100) unreadable.push(item.path);
    } else if (what.matches(item.entry)) {
      if (entries.length === what.max) {
        truncated = true;
        break;
      }
      entries.push(entryData(item.entry));
    }
    await pause.maybe();
    if (performance.now() > endMs) {
      truncated = true;
      break;
    }
  }
  return { kind: 'entries', entries, unreadable, truncated };
}
