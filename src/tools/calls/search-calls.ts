import { z } from 'zod';
import { PathField } from './fields.ts';

const pattern = z.string().min(1).max(1024);

const all = z.boolean().default(false).describe('Also look into .git and node_modules.');

export const ListCall = z.strictObject({
  tool: z.literal('list').describe('Entries of a directory, or of the whole tree below it.'),
  path: PathField.default('.'),
  depth: z.int().min(1).max(64).default(1).describe('How many levels. Default 1: the directory itself.'),
  all,
  maxEntries: z.int().min(1).max(100_000).default(2000).describe('At most this many entries come back.'),
});
export type ListCall = z.infer<typeof ListCall>;

export const GlobCall = z.strictObject({
  tool: z.literal('glob').describe('Finds files by name: *, **, ?, [a-z], {a,b}. Without a slash: in any directory.'),
  pattern: pattern.describe('Relative to path, such as "src/**/*.ts".'),
  path: PathField.default('.').describe('Directory to look in.'),
  all,
  maxMatches: z.int().min(1).max(100_000).default(1000).describe('At most this many names come back.'),
});
export type GlobCall = z.infer<typeof GlobCall>;

export const GrepCall = z.strictObject({
  tool: z.literal('grep').describe('Finds lines in files. Regular expressions are RE2: no backreferences.'),
  pattern: pattern.describe('Regular expression (RE2 syntax), or plain text with literal.'),
  literal: z.boolean().default(false).describe('The pattern is plain text.'),
  caseInsensitive: z.boolean().default(false).describe('Upper and lower case are the same.'),
  path: PathField.default('.').describe('File or directory to look in.'),
  glob: pattern.optional().describe('Only files whose name matches, such as "*.ts" or "src/**".'),
  context: z.int().min(0).max(20).default(0).describe('Lines to show before and after each match.'),
  all,
  maxMatches: z.int().min(1).max(10_000).default(200).describe('At most this many matching lines come back.'),
});
export type GrepCall = z.infer<typeof GrepCall>;
