import { z } from 'zod';
import { RunnerError } from '../errors.ts';
import { idPattern } from '../ids.ts';

/** What a key may be used for. `approve` answers approvals, `admin` makes keys of its team and reads metrics. */
export const scopes = ['run:open', 'call', 'approve', 'read', 'admin'] as const;
export type Scope = (typeof scopes)[number];

export const teamPattern = /^[a-z0-9][a-z0-9_-]{0,31}$/;

/** No colon: what stands for the owner of a local socket (`local:1000`) cannot be given to a key. */
export const identityPattern = /^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$/;

/** What a key, or a team, may have at once or in a minute. 0 is none at all. */
export const Quota = z
  .strictObject({
    openRuns: z.int().min(0).max(100_000),
    callsPerMinute: z.int().min(0).max(1_000_000),
    /** Limits of its open runs together, in thousandths of a core. */
    cpuMillis: z.int().min(0).max(100_000_000),
    /** Bounds of its open runs' workspaces together. */
    diskBytes: z
      .int()
      .min(0)
      .max(2 ** 50),
  })
  .readonly();
export type Quota = z.infer<typeof Quota>;

export const standardQuota: Quota = {
  openRuns: 20,
  callsPerMinute: 1_200,
  cpuMillis: 40_000,
  diskBytes: 100 * 1024 ** 3,
};

const policyName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, 'is not the name of a policy');

export const KeyDraft = z.strictObject({
  team: z.string().regex(teamPattern, 'a team has 1 to 32 of a-z, 0-9, - and _, and starts with a letter or digit'),
  identity: z.string().regex(identityPattern, 'an identity has 1 to 64 letters, digits and . _ @ + -'),
  scopes: z.array(z.enum(scopes)).min(1, 'a key needs a scope').max(scopes.length).readonly(),
  /** Names it may open runs with; `any`: also with a policy's text. */
  policies: z.union([z.literal('any'), z.array(policyName).max(256).readonly()]),
  quota: Quota.optional(),
  /** Wall clock. Null: never. */
  expiresAt: z.iso.datetime().nullable(),
});
export type KeyDraft = z.input<typeof KeyDraft>;

/** Throws `invalid_request`, which says of each field what is wrong. */
export function checkedDraft(draft: KeyDraft): z.output<typeof KeyDraft> {
  const parsed = KeyDraft.safeParse(draft);
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'key'}: ${message}`);
  throw new RunnerError('invalid_request', `a key cannot be made: ${lines.join('; ')}`);
}

/** What is kept of a key, without what would let anybody use it. */
export const KeyRow = z
  .strictObject({
    ...KeyDraft.shape,
    id: z.string().regex(idPattern),
    quota: Quota,
    createdAt: z.iso.datetime(),
    revokedAt: z.iso.datetime().nullable(),
  })
  .readonly();
export type KeyRow = z.infer<typeof KeyRow>;
