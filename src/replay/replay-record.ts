import { z } from 'zod';
import { canonicalJson, digestPattern, type Digest } from '../digest.ts';
import { Failure } from '../failures/failure.ts';
import { callIdPattern, idPattern } from '../ids.ts';
import { printable } from '../journal/printable.ts';

/** What came of it when the calls of a run were made again. `docs/replay.md` explains every field. All texts are printable. */

const lineCharsMax = 500;
export const diffLinesMax = 24;
export const leftOutMax = 500;
const notesMax = 64;

const digest = z.custom<Digest>((value) => typeof value === 'string' && digestPattern.test(value), 'not a digest');
const id = z.string().regex(idPattern);
const callId = z.string().regex(callIdPattern);
const count = z.int().nonnegative();
const line = z.string().max(lineCharsMax);

/** What came out otherwise. `allowed`: it was denied, and was let in now; `denied` the other way round. */
const aspects = [
  'outcome',
  'exit_code',
  'error',
  'output',
  'answer',
  'denied',
  'allowed',
  'snapshot',
  'change_set',
] as const;
export type Aspect = (typeof aspects)[number];

export const Divergence = z.strictObject({
  /** Absent where it is of the run as a whole. */
  callId: callId.optional(),
  tool: z.string().max(64).optional(),
  aspect: z.enum(aspects),
  expected: line,
  found: line,
  /** Lines that begin with `-` (then), `+` (now) or a space. */
  diff: z.array(line).max(diffLinesMax).readonly(),
  /** What may have led to it, where that is on record. */
  hints: z.array(line).max(8).readonly(),
});
export type Divergence = Readonly<z.infer<typeof Divergence>>;

export const LeftOut = z.strictObject({ callId: callId.optional(), why: line });
export type LeftOut = Readonly<z.infer<typeof LeftOut>>;

/** Where lines differed and count as the same all the same. */
export const NoiseMet = z.strictObject({
  /** Of a pattern of the policy, the pattern; else which kind of those that are always noise. */
  by: line,
  declared: z.enum(['always', 'policy']),
  lines: count,
});
export type NoiseMet = Readonly<z.infer<typeof NoiseMet>>;

export const ReplayRecord = z
  .strictObject({
    v: z.literal(1),
    id,
    run: id,
    at: z.iso.datetime({ precision: 3 }),
    /** Hash of the last entry of the run's journal. */
    journal: digest,
    policy: digest,
    candidate: digest,
    base: digest,
    image: z.strictObject({ reference: z.string().max(4160), id: digest }),
    /** In which run the calls were made again, under which policy, and the hash of its last entry. */
    replayed: z.strictObject({ run: id, policy: digest, journal: digest }),
    /** Whether it had the network of the run. */
    network: z.boolean(),
    /** Of the run; how many of them were made again, and how many of those were denied, as they were before. */
    calls: z.strictObject({ total: count, replayed: count, denied: count }),
    /** `incomplete`: what was made again came out the same, and not all of it could be. */
    verdict: z.enum(['clean', 'diverged', 'incomplete']),
    repeatable: z.boolean(),
    divergence: Divergence.optional(),
    /** Of one that is not clean. */
    failure: Failure.optional(),
    leftOut: z.array(LeftOut).max(leftOutMax).readonly(),
    /** Patterns of the policy that were noise, whether or not they were met. */
    noise: z.strictObject({ patterns: z.array(line).max(64).readonly(), met: z.array(NoiseMet).max(96).readonly() }),
    /** What by its nature may come out otherwise another time. */
    notes: z.array(line).max(notesMax).readonly(),
  })
  .refine(({ repeatable, verdict }) => repeatable === (verdict === 'clean'), 'repeatable says that it is clean')
  .refine(
    ({ verdict, divergence }) => (divergence !== undefined) === (verdict === 'diverged'),
    'who diverges says where',
  )
  .refine(
    ({ verdict, failure }) => (failure === undefined) === (verdict === 'clean'),
    'only what is clean has no cause',
  )
  .refine(({ verdict, leftOut }) => verdict !== 'clean' || leftOut.length === 0, 'what is clean leaves nothing out')
  .refine(({ verdict, leftOut }) => verdict !== 'incomplete' || leftOut.length > 0, 'it says what was left out');
export type ReplayRecord = Readonly<z.infer<typeof ReplayRecord>>;

/** Its one text. */
export function encodeReplay(record: ReplayRecord): string {
  return canonicalJson(record);
}

/** Text of a sandbox, safe to show, and not too long for one line of a record. */
export function shownLine(text: string): string {
  const shown = printable(text.slice(0, 4 * lineCharsMax));
  return shown.length <= lineCharsMax ? shown : `${shown.slice(0, lineCharsMax - 1)}…`;
}

/** The first of them, and how many more there are. */
export function shownNotes(notes: readonly string[]): readonly string[] {
  const all = [...new Set(notes.map(shownLine))];
  return all.length <= notesMax ? all : [...all.slice(0, notesMax - 1), `… and ${all.length - notesMax + 1} more`];
}
