import { encodePath } from '../../bytes-path.ts';
import { invalidPatch, type Patch } from './patch.ts';
import { parseUnified } from './parse-unified.ts';
import { parseV4a } from './parse-v4a.ts';

/** Throws `ToolError` `invalid_patch`, and nothing else, for whatever text. */
export function parsePatch(text: string, format: 'auto' | 'unified' | 'v4a' = 'auto'): Patch {
  const lines = patchLines(text);
  const v4a = format === 'auto' ? lines.some((line) => line.trim() === '*** Begin Patch') : format === 'v4a';
  const patch: Patch = v4a
    ? { format: 'v4a', files: parseV4a(lines) }
    : { format: 'unified', files: parseUnified(lines) };
  if (patch.files.length === 0) {
    throw invalidPatch('no file in the patch: neither "--- a/file" and "+++ b/file" nor "*** Begin Patch" was found');
  }
  return patch;
}

/** A patch that was carried with CRLF line ends has them in its headers too; a patch *of* a CRLF file does not. */
function patchLines(text: string): string[] {
  const lines = encodePath(text).toString('latin1').split('\n');
  if (lines.at(-1) === '') lines.pop();
  const carried = lines.length > 0 && lines.every((line) => line.endsWith('\r'));
  return carried ? lines.map((line) => line.slice(0, -1)) : lines;
}
