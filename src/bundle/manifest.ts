import { z } from 'zod';
import { canonicalJson, digestOf, digestPattern, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { idPattern } from '../ids.ts';
import { riskLevels } from '../policy/language/fields.ts';
import { isCanonicalPath } from '../workspace/manifest.ts';

/**
 * What a bundle is about, all of it by digest. Its own digest is what reviews and promotions are bound to. Promises:
 *  - one manifest has one text: canonical JSON (RFC 8785), so one digest;
 *  - nothing in it depends on when, where or by whom it was made;
 *  - whoever holds the digest can tell any other change, content, policy, journal or verdict from these.
 */

const digest = z.custom<Digest>((value) => typeof value === 'string' && digestPattern.test(value), 'not a digest');
const count = z.int().nonnegative();
const id = z.string().regex(idPattern);
const path = z.string().max(8192).refine(isCanonicalPath, 'not a relative path without empty, `.` or `..` parts');

const file = z.strictObject({
  kind: z.literal('file'),
  mode: z.union([z.literal(0o644), z.literal(0o755)]),
  digest,
  bytes: count,
});
const symlink = z.strictObject({ kind: z.literal('symlink'), target: z.string().min(1).max(8192) });
const directory = z.strictObject({ kind: z.literal('directory') });

/** What stands at a path. */
const node = z.discriminatedUnion('kind', [file, symlink, directory]);
export type ManifestNode = Readonly<z.infer<typeof node>>;

/** One path, hostile text: to be shown escaped. */
const change = z.strictObject({
  path,
  status: z.enum(['added', 'modified', 'deleted', 'type_changed', 'mode_changed']),
  /** What the base has there: a target without it is another one. Absent where there is nothing. */
  before: node.optional(),
  /** What the run puts there. Absent where it deletes. */
  after: node.optional(),
  categories: z.array(z.string().max(64)).max(16).readonly(),
  /** What a reader has to know besides: `becomes_executable`, `link`, or the kind of a finding on this path. Sorted. */
  flags: z.array(z.string().max(64)).max(32).readonly(),
});
export type ManifestChange = Readonly<z.infer<typeof change>>;

/** A file of the bundle, by its name in it. */
const member = z.strictObject({ path: z.string().max(99), bytes: count, digest });
export type ManifestMember = Readonly<z.infer<typeof member>>;

export const Manifest = z.strictObject({
  v: z.literal(1),
  run: id,
  /** Of the policy that held in the run. */
  policy: digest,
  /** Of the change set. */
  candidate: digest,
  /** The tree that the run began with; `commit` where git knew which one was checked out, `below` its directory in there. */
  base: z.strictObject({
    digest,
    commit: z
      .string()
      .regex(/^([0-9a-f]{40}|[0-9a-f]{64})$/)
      .optional(),
    below: path.max(4160).optional(),
  }),
  image: z.strictObject({ reference: z.string().max(4160), id: digest }),
  /** Of what is installed in the image, where this machine has the list: `environment.json`. */
  environment: digest.optional(),
  /** In the words of whoever asked for the run. */
  intent: z.string().max(4160).optional(),
  /** The highest that policy, run and verification came to. */
  risk: z.enum(riskLevels),
  /** The newest one when this was made; absent where nobody has verified the run. */
  verification: z
    .strictObject({ id, digest, verdict: z.enum(['passed', 'needs_review', 'failed', 'broken']) })
    .optional(),
  /** The newest one when this was made; absent where nobody has made its calls again. */
  replay: z.strictObject({ digest, verdict: z.enum(['clean', 'diverged', 'incomplete']) }).optional(),
  /** `head`: hash of the last entry. */
  journal: z.strictObject({ entries: count, head: digest }),
  /** By the bytes of their paths. */
  changes: z.array(change).readonly(),
  /** Every file of the bundle but this one and the signed statements, by name. */
  members: z.array(member).readonly(),
});
export type Manifest = Readonly<z.infer<typeof Manifest>>;

/** The one text of a manifest: the bytes of `manifest.json`. */
export function encodeManifest(manifest: Manifest): string {
  return canonicalJson(manifest);
}

/** What reviews and promotions are bound to. */
export function digestOfManifest(manifest: Manifest): Digest {
  return digestOf(encodeManifest(manifest));
}

/** Throws `invalid_request` on anything that is not exactly the text of a manifest, also where it would mean the same. */
export function parseManifest(text: string): Manifest {
  try {
    const manifest = Manifest.parse(JSON.parse(text));
    if (encodeManifest(manifest) !== text) throw new Error('it is not written in the one form that it has');
    return manifest;
  } catch (cause) {
    throw new RunnerError('invalid_request', `manifest.json is no manifest: ${messageOf(cause).slice(0, 500)}`, {
      cause,
    });
  }
}
