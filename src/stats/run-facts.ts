import { z } from 'zod';
import { idPattern } from '../ids.ts';

/** Counts up whenever a fact changes its meaning: what is kept of an older version is read from the journals again. */
export const factsVersion = 1;

export const modelsMax = 8;
export const currenciesMax = 8;
export const waitsMax = 256;
const kindsMax = 64;

const count = z.int().nonnegative();
const id = z.string().regex(idPattern);
const name = z.string().max(200);
const counts = z
  .record(z.string().max(64), count)
  .refine((all) => Object.keys(all).length <= kindsMax, 'too many kinds');

/**
 * What is counted of one run: from its journal, its newest verification and, of a fork, the two patches. What people and
 * repositories made of it comes later and is a `Judgement`. `docs/stats.md` explains every fact.
 */
export const RunFacts = z.strictObject({
  v: z.literal(factsVersion),
  run: id,
  openedAt: z.iso.datetime({ precision: 3 }),
  /** Only tasks are measured. */
  purpose: z.enum(['task', 'verification', 'replay']),
  policy: name,
  lane: name.nullable(),
  class: name.nullable(),
  /** As the harness calls them; printable. */
  models: z.array(name).max(modelsMax).readonly(),
  forkedFrom: id.nullable(),
  /** null while it is open. */
  outcome: z.enum(['finished', 'failed', 'cancelled', 'lost']).nullable(),
  /** From `run.opened` to `run.closed` by the clock of the run; null while it is open. */
  ms: z.number().nonnegative().nullable(),
  calls: count,
  denied: count,
  /** Of its commands. */
  cpuMs: z.number().nonnegative(),
  /** What the harness said; null: nothing. */
  tokens: z.strictObject({ input: count, output: count }).nullable(),
  /** What the harness said, by currency, in millionths. */
  money: z.record(z.string().max(3), z.number().nonnegative()),
  /** By class. */
  failures: counts,
  /** By kind. */
  drift: counts,
  approvals: z.strictObject({
    asked: count,
    approved: count,
    denied: count,
    /** Nobody answered in time, or nobody could be asked. */
    unanswered: count,
    /** How long each one that was decided had waited; the first of them. */
    waitsMs: z.array(z.number().nonnegative()).max(waitsMax).readonly(),
  }),
  /** Of the newest verification; null: there is none. */
  verdict: z.enum(['passed', 'needs_review', 'failed', 'broken']).nullable(),
  /** Gates of it that were run more than once, and those whose answers did not agree. */
  gates: z.strictObject({ repeated: count, flaky: count }),
  /** Lines in which its patch differs from that of the run that it was forked from; null: no fork, or not kept any more. */
  linesSinceFork: count.nullable(),
});
export type RunFacts = Readonly<z.infer<typeof RunFacts>>;
