import { z } from 'zod';
import { digestPattern, type Digest } from '../digest.ts';
import { callIdPattern, idPattern } from '../ids.ts';
import { isJson } from './json.ts';

/**
 * What a journal can say. Strict everywhere: an unknown key or type is a finding, never skipped. `docs/journal.md`
 * explains every field; a test compares the two.
 */

/** Longest text anywhere in an entry, in UTF-16 units; longer ones are clipped before they are written. */
export const textMax = 4096;
/** Longest line in bytes, its newline included. */
export const lineBytesMax = 262_144;

const text = z.string().max(textMax + 64);
const count = z.int().nonnegative();
const ms = z.number().nonnegative();
const digest = z.custom<Digest>((value) => typeof value === 'string' && digestPattern.test(value), 'not a digest');
const callId = z.string().regex(callIdPattern);
/** Of git, by SHA-1 or SHA-256. */
const commitPattern = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
/** As `z.record(z.string(), z.json())`, looked at once: that tries every kind of value in turn, and makes a copy. */
const json = z.custom<Record<string, z.infer<ReturnType<typeof z.json>>>>(
  (value) => typeof value === 'object' && !Array.isArray(value) && value !== null && isJson(value),
  'not JSON',
);

/** How an identity came to take part in a run, other than by a call: of a call its own entry says so. */
const participations = [
  'fork_source',
  'looked',
  'stopped_call',
  'closed',
  'restored',
  'connected',
  'narrowed',
  'revoked',
] as const;
export type Participation = (typeof participations)[number];

/** `Outcome` of `sandbox/outcome.ts`, the two ways in which a tool without a command ends, and what nobody saw end. */
export const EntryOutcome = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('exited'), code: z.int() }),
  z.strictObject({ kind: z.literal('signaled'), signal: z.int() }),
  z.strictObject({
    kind: z.literal('not_started'),
    reason: z.enum(['not_found', 'not_executable', 'bad_cwd', 'too_big', 'no_resources']),
    message: text,
  }),
  z.strictObject({ kind: z.literal('timed_out'), afterMs: ms }),
  z.strictObject({ kind: z.literal('idle_timed_out'), afterMs: ms }),
  z.strictObject({ kind: z.literal('cancelled') }),
  z.strictObject({ kind: z.literal('output_limit'), limitBytes: count }),
  z.strictObject({ kind: z.literal('out_of_memory'), limitBytes: count, code: z.int() }),
  z.strictObject({ kind: z.literal('pids_limit'), limit: count, code: z.int() }),
  z.strictObject({ kind: z.literal('disk_full'), where: z.array(text).max(16).readonly(), code: z.int() }),
  z.strictObject({ kind: z.literal('denied'), rule: text, reason: text }),
  z.strictObject({ kind: z.literal('sandbox_lost'), reason: text }),
  /** The runner died, the sandbox lives on, and nobody knows what became of the call. */
  z.strictObject({ kind: z.literal('unknown'), reason: text }),
  z.strictObject({ kind: z.literal('done') }),
  z.strictObject({ kind: z.literal('failed') }),
]);
export type EntryOutcome = z.infer<typeof EntryOutcome>;

/** Of one call, and in one entry; what is more is counted. */
export const fileMarksMax = 256;

/** What became of a file of the workspace. `unread`: it changed, and what it holds now is not known (a link, a device, too large). */
const fileMark = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('content'), path: text, digest }),
  z.strictObject({ kind: z.literal('moved'), path: text, from: text }),
  z.strictObject({ kind: z.literal('gone'), path: text }),
  z.strictObject({ kind: z.literal('unread'), path: text }),
]);
export type FileMark = Readonly<z.infer<typeof fileMark>>;
const fileMarks = z.array(fileMark).max(fileMarksMax).readonly();

const isolation = z.strictObject({
  interfaces: z.array(text).max(256).readonly(),
  attempts: z
    .array(z.strictObject({ to: text, end: text }))
    .max(16)
    .readonly(),
  ms,
});

/** What can be otherwise than expected, and what a policy has done about it; a test compares with the policy language. */
export const driftWords = {
  kinds: [
    'image',
    'packages',
    'system_file',
    'tool_version',
    'env',
    'process_left',
    'clock',
    'resource_pressure',
    'lockfile',
    'base_moved',
    'egress',
    'policy',
    'mount',
    'engine',
  ],
  reactions: ['note', 'verify', 'reclassify', 'stop', 'fail'],
} as const;
/** `outside`: what somebody who holds the engine has done to the container. */
const driftAt = z.enum(['open', 'call', 'close', 'outside']);
/** `lock`: what the repository says that it has to be; `open`: what it was when the run was opened; `asked`: of the engine. */
const driftAgainst = z.enum(['lock', 'open', 'asked']);

const dataOf = {
  'run.opened': z.strictObject({
    intent: text.optional(),
    request: json.optional(),
    policy: z.strictObject({ name: text, digest, effective: json }),
    image: z.strictObject({ reference: text, id: digest }),
    engine: z.strictObject({ kind: text, version: text, runtime: text, factsDigest: digest }),
    limits: z.record(z.string().max(64), z.number()),
    versions: z.record(z.string().max(64), text),
    by: z.strictObject({ team: text, identity: text, key: text, name: text.optional() }).optional(),
    forkedFrom: z
      .strictObject({ run: z.string().regex(idPattern), snapshot: digest.optional(), base: digest })
      .optional(),
    verifies: z.strictObject({ run: z.string().regex(idPattern), gate: text, attempt: text }).optional(),
    replays: z.strictObject({ run: z.string().regex(idPattern) }).optional(),
  }),
  'sandbox.started': z.strictObject({
    sandbox: z.string().regex(idPattern),
    container: text,
    specDigest: digest,
    warm: z.boolean().optional(),
    workspace: z.strictObject({
      kind: z.enum(['git', 'plain']).optional(),
      digest,
      files: count,
      directories: count,
      symlinks: count,
      bytes: count,
      strategy: z.enum(['overlay', 'copy']).optional(),
      commit: z.string().regex(commitPattern).optional(),
      below: text.optional(),
    }),
    inputs: z
      .array(z.strictObject({ source: text, target: text, device: text, inode: text, files: count }))
      .max(64)
      .readonly()
      .optional(),
    isolation: isolation.optional(),
  }),
  'call.intended': z.strictObject({
    callId,
    tool: text,
    arguments: json,
    argsDigest: digest,
    by: text.optional(),
    claims: text.optional(),
    count,
    tags: z.array(text).max(64).readonly().optional(),
  }),
  'run.resumed': z.strictObject({
    sandbox: z.string().regex(idPattern),
    goesOn: z.array(callId).max(1024).readonly(),
    unknown: z.array(callId).max(1024).readonly(),
    isolation: isolation.optional(),
  }),
  'call.ended': z.strictObject({
    callId,
    outcome: EntryOutcome,
    exitCode: z.int().optional(),
    ms,
    cpuMs: ms.optional(),
    output: z.strictObject({ bytes: count, digest: digest.optional(), ref: text.optional() }).optional(),
    descendants: count.optional(),
    /** Written by the call itself, in order. */
    files: fileMarks.optional(),
    moreFiles: count.optional(),
    error: z.strictObject({ code: text, message: text, path: text.nullable().optional() }).optional(),
  }),
  'call.denied': z.strictObject({
    callId,
    tool: text,
    argsDigest: digest.optional(),
    by: text.optional(),
    rule: text,
    reason: text,
  }),
  'workspace.collected': z.strictObject({
    digest,
    added: count,
    modified: count,
    deleted: count,
    bytes: count,
    findings: z.record(z.string().max(64), count),
  }),
  'files.seen': z.strictObject({
    how: z.enum(['look', 'collected']),
    calls: count,
    from: callId.optional(),
    to: callId.optional(),
    late: z.boolean().optional(),
    files: fileMarks,
    moreFiles: count.optional(),
  }),
  'snapshot.taken': z.strictObject({ digest, changes: count, bytes: count, scratch: z.boolean() }),
  'snapshot.applied': z.strictObject({ run: z.string().regex(idPattern), digest, changes: count, bytes: count }),
  'sandbox.lost': z.strictObject({
    sandbox: z.string().regex(idPattern),
    reason: text,
    container: z.enum(['running', 'paused', 'exited', 'created', 'gone', 'unknown']),
    exitCode: z.int().optional(),
    stderrTail: text.optional(),
  }),
  'approval.requested': z.strictObject({
    id: z.string().regex(idPattern),
    category: text,
    at: z.enum(['call', 'export', 'budget']),
    callId: callId.optional(),
    rule: text,
    digest,
    quorum: count,
    expiresAt: z.iso.datetime({ precision: 3 }),
  }),
  'approval.decided': z.strictObject({
    id: z.string().regex(idPattern),
    category: text,
    verdict: z.enum(['approved', 'denied', 'expired', 'broken']),
    by: z.array(text).max(10).readonly(),
    reason: text,
    digest,
  }),
  'risk.raised': z.strictObject({ from: text, to: text, by: text }),
  'drift.found': z.strictObject({
    at: driftAt,
    against: driftAgainst,
    findings: z
      .array(
        z.strictObject({
          kind: z.enum(driftWords.kinds),
          source: text,
          key: text,
          expected: text.optional(),
          found: text.optional(),
          text,
          callId: callId.optional(),
          reaction: z.enum(driftWords.reactions),
        }),
      )
      .min(1)
      .max(24)
      .readonly(),
    more: count.optional(),
  }),
  'drift.held': z.strictObject({ at: driftAt, against: driftAgainst, expected: digest, found: digest }),
  'egress.decided': z.strictObject({
    id: count,
    kind: z.enum(['name', 'connection', 'request']),
    via: z.enum(['name', 'proxy']),
    callId: callId.optional(),
    host: text,
    port: count.optional(),
    scheme: text.optional(),
    method: text.optional(),
    path: text.optional(),
    rule: text.optional(),
    decision: z.enum(['allowed', 'denied', 'observed']),
    reason: text.optional(),
  }),
  'egress.ended': z.strictObject({
    id: count,
    result: z.enum(['done', 'denied', 'unresolvable', 'refused', 'timed_out', 'cut']),
    address: text.optional(),
    status: count.optional(),
    sentBytes: count,
    receivedBytes: count,
    ms,
    reason: text.optional(),
  }),
  'egress.counted': z.strictObject({ host: text, rule: text.optional(), reason: text, count }),
  'egress.narrowed': z.strictObject({ without: z.array(text).min(1).max(256).readonly() }),
  'credential.revoked': z.strictObject({ credential: text, cut: count }),
  'participant.joined': z.strictObject({ by: text, how: z.enum(participations) }),
  /** The whole is `context/<digest>.json` in the run's directory, and was there before. */
  'context.attached': z.strictObject({
    number: z.int().positive(),
    digest,
    bytes: count,
    version: count,
    at: z.enum(['start', 'before_compaction', 'after_compaction', 'other']),
    summary: text,
    sources: count,
    diffs: count,
    model: text.optional(),
    lane: text.optional(),
    tokens: z.strictObject({ input: count, output: count }).optional(),
    cost: z.strictObject({ amount: z.number().nonnegative(), currency: text }).optional(),
    by: text.optional(),
  }),
  /** The whole is `fingerprints/<document>.json` in the run's directory, and was there before. `digest` leaves moments out. */
  'environment.fingerprint': z.strictObject({
    at: z.enum(['open', 'call', 'close', 'verify', 'asked']),
    digest,
    document: digest,
    sections: z.record(z.string().max(64), digest),
  }),
  'lane.handed_over': z.strictObject({
    from: z.strictObject({ run: z.string().regex(idPattern), lane: text.optional(), model: text.optional() }),
    to: z.strictObject({ lane: text.optional(), model: text.optional() }),
  }),
  note: z.strictObject({ text }),
  'journal.recovered': z.strictObject({
    reason: text,
    tornBytes: count,
    tornFile: text.optional(),
    closedCalls: z.array(callId).max(1024).readonly(),
  }),
  'run.closed': z.strictObject({
    outcome: z.enum(['finished', 'failed', 'cancelled', 'lost']),
    summary: text,
    calls: count,
    denied: count,
    outputBytes: count,
    ms,
  }),
} as const;

export type EntryType = keyof typeof dataOf;
export type EntryData<T extends EntryType> = Readonly<z.infer<(typeof dataOf)[T]>>;
/** An entry before it is chained. */
export type Draft = { [T in EntryType]: { readonly type: T; readonly data: EntryData<T> } }[EntryType];

function entryOf<T extends EntryType>(type: T) {
  return z.strictObject({
    v: z.literal(1),
    /** 1, 2, 3 ... without a gap: also the line number. */
    seq: z.int().positive(),
    /** Wall clock, for people. Nothing is computed from it. */
    at: z.iso.datetime({ precision: 3 }),
    /** Milliseconds since the run was opened, never going back. */
    mono: ms,
    run: z.string().regex(idPattern),
    type: z.literal(type),
    data: dataOf[type],
    /** `hash` of the line before; of the first line, 64 zeros. */
    prev: digest,
    /** sha256 of this entry's canonical JSON (RFC 8785) without this key. */
    hash: digest,
  });
}

export const Entry = z.discriminatedUnion('type', [
  entryOf('run.opened'),
  entryOf('sandbox.started'),
  entryOf('run.resumed'),
  entryOf('call.intended'),
  entryOf('call.ended'),
  entryOf('call.denied'),
  entryOf('workspace.collected'),
  entryOf('files.seen'),
  entryOf('snapshot.taken'),
  entryOf('snapshot.applied'),
  entryOf('sandbox.lost'),
  entryOf('approval.requested'),
  entryOf('approval.decided'),
  entryOf('risk.raised'),
  entryOf('drift.found'),
  entryOf('drift.held'),
  entryOf('egress.decided'),
  entryOf('egress.ended'),
  entryOf('egress.counted'),
  entryOf('egress.narrowed'),
  entryOf('credential.revoked'),
  entryOf('participant.joined'),
  entryOf('context.attached'),
  entryOf('lane.handed_over'),
  entryOf('environment.fingerprint'),
  entryOf('note'),
  entryOf('journal.recovered'),
  entryOf('run.closed'),
]);
export type Entry = Readonly<z.infer<typeof Entry>>;

/** For the docs and their test. */
export const entryData: Readonly<Record<EntryType, z.ZodObject>> = dataOf;
