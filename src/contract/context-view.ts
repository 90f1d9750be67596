import { z } from 'zod';
import { ContextSnapshot } from '../context/context-snapshot.ts';
import { CallId, DigestText, RunId, Time } from './fields.ts';

export const AttachContext = ContextSnapshot;
export const AttachedView = z.strictObject({
  digest: DigestText.describe('Of the snapshot, without what is secret to the run.'),
  number: z.int().positive().describe('1, 2, 3 ... in the run; the same snapshot again has the same number.'),
});
export type AttachedView = z.infer<typeof AttachedView>;

export const ContextQuery = z.strictObject({
  call: CallId.optional().describe('What was believed when this call was let in, or refused. Default: now.'),
});

const worker = {
  lane: z.string().nullable(),
  model: z.string().nullable().describe('As the intent, or the harness, has named it.'),
};
const count = z.int().nonnegative();

/** Who worked in a run, and what they believed. */
export const ContextView = z.strictObject({
  run: RunId,
  parts: z
    .array(
      z.strictObject({
        ...worker,
        from: z
          .strictObject({ run: RunId, ...worker })
          .nullable()
          .describe('Who handed over: in this run, or in that it is a fork of.'),
        calls: count,
        denied: count,
        firstCall: CallId.nullable(),
        lastCall: CallId.nullable(),
        snapshots: count,
      }),
    )
    .readonly()
    .describe('Who ran which part.'),
  applied: z
    .array(z.strictObject({ run: RunId, digest: DigestText, changes: count }))
    .readonly()
    .describe('Changes of other runs that were laid over the workspace, such as what a fork began with.'),
  snapshots: z
    .array(
      z.strictObject({
        ...worker,
        number: z.int().positive(),
        digest: DigestText,
        version: count,
        at: z.string(),
        time: Time,
        summary: z.string().describe('Its beginning, printable.'),
        sources: count,
        diffs: count,
        tokens: z.strictObject({ input: count, output: count }).nullable(),
        cost: z.strictObject({ amount: z.number(), currency: z.string() }).nullable(),
        by: z.string().nullable().describe('An identity.'),
      }),
    )
    .readonly(),
  call: CallId.nullable().describe('The one that was asked about.'),
  worker: z.strictObject(worker).describe('Who made that call, or works now.'),
  inForce: z
    .strictObject({
      number: z.int().positive(),
      digest: DigestText,
      time: Time,
      snapshot: ContextSnapshot.nullable().describe('Null: it is no longer kept.'),
    })
    .nullable()
    .describe('The belief behind that call, or the newest; null: nothing was said before.'),
});
export type ContextView = z.infer<typeof ContextView>;
