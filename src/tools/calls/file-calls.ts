import { z } from 'zod';
import { base64Field, Bytes, DigestField, maxBytesField, ModeField, PathField } from './fields.ts';

export const StatCall = z.strictObject({
  tool: z.literal('stat').describe('Type, size, mode and times of one path.'),
  path: PathField,
  follow: z.boolean().default(true).describe('Follow a symbolic link at the end of the path.'),
  digest: z.boolean().default(false).describe('Also the SHA-256 of a file.'),
});
export type StatCall = z.infer<typeof StatCall>;

export const ReadCall = z.strictObject({
  tool: z.literal('read').describe('Reads a file, whole or in part.'),
  path: PathField,
  range: z
    .union([
      z.strictObject({
        offset: z.int().min(0).default(0).describe('First byte, from 0.'),
        bytes: z.int().min(0).optional().describe('How many bytes. Default: to the end.'),
      }),
      z.strictObject({
        fromLine: z.int().min(1).default(1).describe('First line, from 1.'),
        toLine: z.int().min(1).optional().describe('Last line, included. Default: to the end.'),
      }),
    ])
    .optional()
    .describe('By bytes or by lines. Default: the whole file.'),
  lineNumbers: z.boolean().default(false).describe('Put the number and a tab in front of each line of the text view.'),
  maxBytes: maxBytesField(262_144, 33_554_432),
});
export type ReadCall = z.infer<typeof ReadCall>;

export const WriteCall = z.strictObject({
  tool: z.literal('write').describe('Writes a whole file at once: readers see the old or the new content, never half.'),
  path: PathField,
  content: Bytes,
  mode: ModeField.optional().describe('Permission bits. Default: those of the file it replaces, else 420 (0644).'),
  ifMatch: DigestField.optional().describe('Only if the file has this content now; otherwise `conflict`.'),
  create: z
    .enum(['only', 'never'])
    .optional()
    .describe('"only": refuse to replace a file. "never": refuse to make one. Default: either.'),
  parents: z.boolean().default(true).describe('Make missing directories.'),
});
export type WriteCall = z.infer<typeof WriteCall>;

export const EditCall = z.strictObject({
  tool: z.literal('edit').describe('Replaces an exact piece of text in a file.'),
  path: PathField,
  old: z.string().min(1).max(1_048_576).describe('Exact text to find, whitespace included.'),
  new: z.string().max(1_048_576).describe('Text to put in its place.'),
  replaceAll: z.boolean().default(false).describe('Replace every occurrence; otherwise there must be exactly one.'),
  expectCount: z
    .int()
    .min(1)
    .optional()
    .describe('How many occurrences there must be; all are replaced. Another count changes nothing.'),
});
export type EditCall = z.infer<typeof EditCall>;

export const ApplyPatchCall = z.strictObject({
  tool: z.literal('apply_patch').describe('Applies a patch to one or many files: all of it or nothing.'),
  patch: z.string().min(1).max(16_777_216).describe('Unified diff (git style too), or "*** Begin Patch" form.'),
  format: z
    .enum(['auto', 'unified', 'v4a'])
    .default('auto')
    .describe('Form of the patch. Default: by its first lines.'),
  dryRun: z.boolean().default(false).describe('Check and report only.'),
});
export type ApplyPatchCall = z.infer<typeof ApplyPatchCall>;

export const MkdirCall = z.strictObject({
  tool: z.literal('mkdir').describe('Makes a directory.'),
  path: PathField,
  parents: z.boolean().default(true).describe('Make missing parents; an existing directory is fine.'),
  mode: ModeField.optional().describe('Permission bits. Default: 493 (0755).'),
});
export type MkdirCall = z.infer<typeof MkdirCall>;

export const MoveCall = z.strictObject({
  tool: z.literal('move').describe('Renames a file or directory.'),
  from: PathField,
  to: PathField,
  replace: z.boolean().default(false).describe('Replace a file that is there already.'),
});
export type MoveCall = z.infer<typeof MoveCall>;

export const RemoveCall = z.strictObject({
  tool: z.literal('remove').describe('Removes a file, a link or a directory.'),
  path: PathField,
  recursive: z.boolean().default(false).describe('With everything in it.'),
});
export type RemoveCall = z.infer<typeof RemoveCall>;

export const UploadCall = z.strictObject({
  tool: z
    .literal('upload')
    .describe('Unpacks a tar archive into a directory: all of it is checked before anything is written.'),
  path: PathField.describe('Directory that the entries go to; it is made if it is not there.'),
  tar: base64Field(134_217_728).describe('The archive, not compressed, as base64.'),
});
export type UploadCall = z.infer<typeof UploadCall>;

export const DownloadCall = z.strictObject({
  tool: z.literal('download').describe('Packs a file or directory as a tar archive (base64).'),
  path: PathField,
  maxBytes: maxBytesField(33_554_432, 100_663_296),
});
export type DownloadCall = z.infer<typeof DownloadCall>;
