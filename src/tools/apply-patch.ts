import { digestOf } from '../digest.ts';
import type { ApplyPatchCall } from './calls/file-calls.ts';
import { applyHunks, comparisonsMax } from './patch/apply-hunks.ts';
import type { SearchBudget } from './patch/find-lines.ts';
import { parsePatch } from './patch/parse-patch.ts';
import type { FilePatch } from './patch/patch.ts';
import { StagedFiles, type StagedFile } from './patch/staged-files.ts';
import type { ToolContext } from './tool-context.ts';
import { ToolError, type PatchedFile, type ToolData } from './tool-result.ts';

/** All files of the patch or none: everything is computed first, then written, and undone if a write fails. */
export async function applyPatch(context: ToolContext, call: ApplyPatchCall): Promise<ToolData> {
  const patch = parsePatch(call.patch, call.format);
  for (const file of patch.files) {
    checkPath(file.path);
    if (file.moveTo !== undefined) checkPath(file.moveTo);
  }
  const staged = new StagedFiles(context.files);
  const files: PatchedFile[] = [];
  // A diff compares two trees, so that a -> b beside b -> c is no conflict; agents' sections follow one another.
  const moved = patch.format === 'unified' ? await takeMoved(staged, patch.files) : new Map<FilePatch, StagedFile>();
  const budget = { left: comparisonsMax };
  for (const file of patch.files) files.push(await stage(staged, file, moved.get(file), budget));
  if (!call.dryRun) await staged.commit();
  return { kind: 'patched', format: patch.format, dryRun: call.dryRun, files };
}

/** A patch is written by a model or comes from elsewhere: it stays within the workspace. */
function checkPath(path: string): void {
  const parts = path.split('/');
  const bad = path.startsWith('/') || path.includes('\0') || path.length > 4096 || parts.includes('..');
  if (bad || path.endsWith('/') || path === '.') {
    throw new ToolError(
      'invalid_path',
      `${JSON.stringify(path)}: a patch names files relative to the workspace, without ".."`,
      path,
    );
  }
}

async function takeMoved(staged: StagedFiles, patches: readonly FilePatch[]): Promise<Map<FilePatch, StagedFile>> {
  const moved = new Map<FilePatch, StagedFile>();
  for (const patch of patches.filter((file) => file.moveTo !== undefined)) {
    const before = await staged.read(patch.path);
    if (before === undefined) continue;
    moved.set(patch, before);
    await staged.set(patch.path, undefined);
  }
  return moved;
}

async function stage(
  staged: StagedFiles,
  patch: FilePatch,
  taken: StagedFile | undefined,
  budget: SearchBudget,
): Promise<PatchedFile> {
  const before = taken ?? (await staged.read(patch.path));
  if (patch.action === 'add') {
    if (before !== undefined)
      throw new ToolError('exists', `${patch.path} is already there; update it instead`, patch.path);
  } else if (before === undefined) {
    throw new ToolError(
      'not_found',
      `${patch.path} is not there; a patch can only ${patch.action} what is`,
      patch.path,
    );
  }
  const applied = applyHunks(before?.bytes.toString('latin1') ?? '', patch, budget);
  const report = { path: patch.moveTo ?? patch.path, hunks: applied.hunks, ...countLines(patch) };
  const bytes = Buffer.from(applied.content, 'latin1');
  if (patch.action === 'delete') {
    if (patch.hunks.length > 0 && bytes.length > 0) {
      throw new ToolError(
        'patch_mismatch',
        `${patch.path}: the patch deletes a file that has more lines than it knows`,
        patch.path,
      );
    }
    await staged.set(patch.path, undefined);
    return { ...report, action: 'deleted', movedFrom: null, digest: null };
  }
  const file = { bytes, mode: patch.mode ?? before?.mode ?? 0o644 };
  if (patch.moveTo !== undefined) await makeRoom(staged, patch.path, patch.moveTo, taken !== undefined);
  await staged.set(report.path, file);
  const action =
    patch.action === 'add'
      ? 'added'
      : patch.moveTo !== undefined
        ? 'moved'
        : patch.hunks.length === 0
          ? 'mode'
          : 'updated';
  return { ...report, action, movedFrom: patch.moveTo === undefined ? null : patch.path, digest: digestOf(bytes) };
}

async function makeRoom(staged: StagedFiles, from: string, to: string, taken: boolean): Promise<void> {
  if ((await staged.read(to)) !== undefined) {
    throw new ToolError('exists', `${to} is already there; ${from} cannot be moved to it`, to);
  }
  if (!taken) await staged.set(from, undefined);
}

function countLines(patch: FilePatch): { added: number; removed: number } {
  const lines = patch.hunks.flatMap((hunk) => hunk.lines);
  return {
    added: lines.filter((line) => line.kind === '+').length,
    removed: lines.filter((line) => line.kind === '-').length,
  };
}
