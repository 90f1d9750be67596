import { z } from 'zod';
import { canonicalJson, digestOf, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';

/** When a harness takes one. `other`: before a risky step, at a change of mind, at the end. */
const contextMoments = ['start', 'before_compaction', 'after_compaction', 'other'] as const;

/** Of one snapshot as canonical JSON, in bytes. */
export const contextBytesMax = 262_144;

const line = z.string().min(1).max(1024);
const tokens = z.int().nonnegative();

/**
 * What a harness says that its agent knows and believes, at one moment of a run. Strict and bounded; of its words nothing is
 * believed or acted upon. The same snapshot twice is the same snapshot: a new one has another `version`, or says something else.
 */
export const ContextSnapshot = z
  .strictObject({
    version: z.int().nonnegative().describe('Of the context, counted by the harness.'),
    summary: z
      .string()
      .min(1)
      .max(32_768)
      .describe('What the agent believes: its task, what it has found, what it is about to do.'),
    source_refs: z
      .array(line)
      .max(256)
      .readonly()
      .default([])
      .describe('What it has that from: files with lines, calls, URLs, documents.'),
    diffs: z
      .array(z.strictObject({ path: z.string().min(1).max(4096), text: z.string().max(32_768) }).readonly())
      .max(256)
      .readonly()
      .default([])
      .describe('What has changed since the version before, file by file: a patch, or words.'),
    model: z.string().min(1).max(100).optional().describe('Which model works from here on.'),
    lane: z
      .string()
      .regex(/^[a-z][a-z0-9_-]{0,63}$/)
      .optional()
      .describe('In which lane it works.'),
    tokens: z
      .strictObject({ input: tokens, output: tokens })
      .readonly()
      .optional()
      .describe('Spent since the snapshot before, or since the run was opened.'),
    cost: z
      .strictObject({ amount: z.number().nonnegative().max(1e9), currency: z.string().regex(/^[A-Z]{3}$/) })
      .readonly()
      .optional()
      .describe('The same in money; the currency as ISO 4217 has it.'),
    at: z.enum(contextMoments).default('other').describe('When it is taken.'),
  })
  .readonly();
export type ContextSnapshot = z.infer<typeof ContextSnapshot>;
/** As a harness writes it: what has a default may be left out. */
export type ContextSnapshotInput = z.input<typeof ContextSnapshot>;

/** Throws `invalid_request` with the first thing that is wrong, `limit_exceeded` for one that is too large as a whole. */
export function parseContext(input: unknown): ContextSnapshot {
  const parsed = ContextSnapshot.safeParse(input);
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0] ?? { path: [], message: 'it cannot be read' };
    const where = path.length === 0 ? '' : `${path.join('.').slice(0, 100)}: `;
    throw new RunnerError('invalid_request', `a context snapshot that cannot be attached: ${where}${message}`);
  }
  const bytes = Buffer.byteLength(encodeContext(parsed.data));
  if (bytes > contextBytesMax)
    throw new RunnerError(
      'limit_exceeded',
      `a context snapshot of ${bytes} bytes; ${contextBytesMax} are possible: shorten its diffs`,
    );
  return parsed.data;
}

/** The one form that it has in a run's directory and in a bundle. */
export function encodeContext(snapshot: ContextSnapshot): string {
  return canonicalJson(snapshot);
}

export function digestOfContext(snapshot: ContextSnapshot): Digest {
  return digestOf(encodeContext(snapshot));
}

/** A text that is another one than its digest names throws, as does one that is not in the one form. */
export function parseEncodedContext(text: string, digest: Digest): ContextSnapshot {
  let snapshot: ContextSnapshot;
  try {
    snapshot = ContextSnapshot.parse(JSON.parse(text));
  } catch (cause) {
    throw new Error(`it is no context snapshot: ${messageOf(cause)}`, { cause });
  }
  if (encodeContext(snapshot) !== text) throw new Error('it is not written in the one form that it has');
  const found = digestOf(text);
  if (found !== digest) throw new Error(`it is ${found}, and was attached as ${digest}`);
  return snapshot;
}
