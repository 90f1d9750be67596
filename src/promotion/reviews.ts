import type { KeyObject } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { openEnvelope, sealEnvelope } from '../bundle/envelope.ts';
import { namesIn, recordIdsIn, timeAfter } from '../data-dir/names-in.ts';
import { writeWhole } from '../data-dir/write-whole.ts';
import { canonicalJson, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { idPattern, newId } from '../ids.ts';
import { ownWordMax, readWord, reviewSchema, reviewStatement, wordShape, type ReviewerKeys } from './own-word.ts';
import { personOf, reasonMax, reviewerPattern, type Known, type Review } from './review.ts';

/** Whose signatures are believed. */
export interface Believed {
  /** Of this machine: what records are signed with. */
  readonly machine: readonly KeyObject[];
  /** Of people. Default: nobody has one. */
  readonly reviewers?: ReviewerKeys;
}

/** What somebody says, before it is kept. */
export interface ReviewDraft extends Omit<Review, 'id' | 'at' | 'known'> {
  readonly known: Exclude<Known, 'signed'>;
  /** Of the key of the service that `by` came with. */
  readonly key?: string;
  /** The same, signed by themselves (`signWord`). */
  readonly own?: string;
}

/** Of one manifest; far more than people who review. */
const reviewsMax = 64;
/** Of one person: whoever says more would leave no room for the words of others. */
const wordsMax = 8;
/** How far the clock of who signs may be from ours. */
const clockMs = 10 * 60_000;

/**
 * What people said of bundles: `reviews/<manifest>/<id>.json` in the data directory, each signed as bundles are. Promises:
 *  - a review holds for the manifest that it names: another export of other changes has none;
 *  - whoever had a hand in the run reviews nothing of it;
 *  - it says how its person was known; what they have signed themselves is held against their keys whenever it is read;
 *  - the last word is the last one that was said, also where a clock was set back in between: none is dated before the one before it;
 *  - what a person has signed counts once, when it was signed: an old word does not come back;
 *  - nobody says so much that another person is not heard;
 *  - a record that is not what was signed stops whatever asks for the reviews: it is never passed over.
 */
export class Reviews {
  readonly #directory: string;
  readonly #believed: Believed;

  /** Of a data directory. */
  constructor(dataDir: { readonly path: string }, believed: Believed) {
    this.#directory = join(dataDir.path, 'reviews');
    this.#believed = believed;
  }

  /** `involved`: who asked for the run, or worked in it. The same word once more is the one that is there. `key` is of this machine. */
  async add(
    draft: ReviewDraft,
    involved: readonly string[],
    key: KeyObject,
    nowMs: number = Date.now(),
  ): Promise<Review> {
    refuse(draft, involved);
    const kept = await this.#all(draft.bundle);
    const theirs = kept.filter(({ review }) => personOf(review.by) === personOf(draft.by));
    const last = theirs.at(-1);
    if (last !== undefined && isSame(draft, last)) return last.review;
    if (draft.own !== undefined) this.#refuseOwn(draft, draft.own, theirs, nowMs);
    const known = draft.own === undefined ? draft.known : 'signed';
    if (theirs.length >= wordsMax)
      throw new RunnerError(
        'limit_exceeded',
        `${draft.by} has said ${theirs.length} things of manifest ${draft.bundle}, as many as one person may; the last one stands`,
      );
    if (kept.length >= reviewsMax)
      throw new RunnerError(
        'limit_exceeded',
        `manifest ${draft.bundle} has ${kept.length} reviews, as many as are kept`,
      );
    const { bundle, ...said } = draft;
    const ids = kept.map(({ review }) => review.id);
    const atMs = timeAfter(ids, nowMs);
    const record: SignedReview = { ...said, id: newId(atMs), at: new Date(atMs).toISOString() };
    await this.#write(bundle, record, key);
    return reviewOf(bundle, record, known);
  }

  /** The oldest first. Throws `journal_broken` for one that no key of this machine has signed as it is. */
  async list(bundle: Digest): Promise<readonly Review[]> {
    return (await this.#all(bundle)).map(({ review }) => review);
  }

  /** Manifests of which somebody has said something, in no order. */
  async bundles(): Promise<readonly Digest[]> {
    const names = await namesIn(this.#directory);
    return names.filter((name) => /^[0-9a-f]{64}$/.test(name)).map((hex): Digest => `sha256:${hex}`);
  }

  async #all(bundle: Digest): Promise<readonly Kept[]> {
    const ids = await recordIdsIn(this.#of(bundle));
    return Promise.all(ids.map((id) => this.#read(bundle, id)));
  }

  async #read(bundle: Digest, id: string): Promise<Kept> {
    const file = join(this.#of(bundle), `${id}.json`);
    const broken = (why: string, next = 'see who changed it'): RunnerError =>
      new RunnerError('journal_broken', `${file} is no review that was signed here: ${why}; ${next}`);
    const opened = openEnvelope(await readFile(file, 'utf8'), this.#believed.machine);
    if (opened.kind === 'bad')
      throw opened.field.endsWith('.keyid') ? broken(opened.message, otherKey) : broken(opened.message);
    const parsed = Statement.safeParse(JSON.parse(opened.payload));
    if (!parsed.success) throw broken('it says something else');
    const { predicate: record, subject } = parsed.data;
    if (record.id !== id || `sha256:${subject[0].digest.sha256}` !== bundle) throw broken('it is of another bundle');
    const word = this.#wordOf(record, bundle);
    return {
      review: reviewOf(bundle, record, word === undefined ? (record.known ?? 'named') : 'signed'),
      own: record.own,
      signedAt: word?.at,
    };
  }

  /** What they have signed, if their key is still believed and it is this. */
  #wordOf({ own, by, run, verdict, reason }: SignedReview, bundle: Digest): { readonly at: string } | undefined {
    if (own === undefined) return undefined;
    const word = readWord(own, by, this.#believed.reviewers ?? new Map());
    if ('problem' in word) return undefined;
    const says = [word.by, word.run, word.verdict, word.reason, word.bundle];
    return canonicalJson(says) === canonicalJson([by, run, verdict, reason, bundle]) ? word : undefined;
  }

  /** Throws `invalid_request` for a signature that says something else, `conflict` for one that was used, is old or of tomorrow. */
  #refuseOwn(draft: ReviewDraft, own: string, theirs: readonly Kept[], nowMs: number): void {
    const { by, bundle } = draft;
    const read = readWord(own, by, this.#believed.reviewers ?? new Map());
    if ('problem' in read)
      throw new RunnerError('invalid_request', `the signature of ${by} does not count: ${read.problem}`);
    if (this.#wordOf({ ...draft, id: '', at: '' }, bundle) === undefined)
      throw new RunnerError('invalid_request', `${by} has signed something else than this review; sign it again`);
    const isUsed = theirs.some(({ signedAt = '' }) => signedAt >= read.at);
    if (isUsed || Math.abs(Date.parse(read.at) - nowMs) > clockMs)
      throw new RunnerError(
        'conflict',
        `what ${by} has signed is of ${read.at}, and does not count now; sign it again`,
      );
  }

  async #write(bundle: Digest, record: SignedReview, key: KeyObject): Promise<void> {
    const directory = this.#of(bundle);
    const statement = reviewStatement(reviewType, bundle, record);
    Statement.parse(statement); // what cannot be read again would stop everything that asks
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      await writeWhole(join(directory, `${record.id}.json`), sealEnvelope(canonicalJson(statement), key));
    } catch (cause) {
      const message = `the review cannot be kept in ${directory}: ${messageOf(cause)}; make room there, then review again`;
      throw new RunnerError('data_dir_unusable', message, { cause });
    }
  }

  #of(bundle: Digest): string {
    return join(this.#directory, bundle.slice('sha256:'.length));
  }
}

interface Kept {
  readonly review: Review;
  readonly own: string | undefined;
  /** As they have signed it. */
  readonly signedAt: string | undefined;
}

/** Said before, and last. */
function isSame(draft: ReviewDraft, { review, own }: Kept): boolean {
  if (draft.own !== undefined || own !== undefined) return draft.own === own;
  return draft.known === review.known && draft.verdict === review.verdict && draft.reason === review.reason;
}

const otherKey =
  'if this is an earlier key of this machine, or of the one that this data directory was restored from: glovebox signing-key --believe PUB';

function refuse({ by, verdict, reason, run, own = '' }: ReviewDraft, involved: readonly string[]): void {
  if (!reviewerPattern.test(by))
    throw new RunnerError('invalid_request', `${JSON.stringify(by)} is no name to review as; write letters and digits`);
  if (involved.some((name) => personOf(name) === personOf(by)))
    throw new RunnerError('forbidden', `${by} had a hand in run ${run}, and cannot review it; somebody else has to`);
  if (verdict === 'rejected' && reason.trim() === '')
    throw new RunnerError('invalid_request', 'a rejection says why: --reason');
  if (reason.length > reasonMax || own.length > ownWordMax)
    throw new RunnerError('invalid_request', `a reason has at most ${reasonMax} characters; say where to read more`);
}

function reviewOf(bundle: Digest, { id, run, verdict, by, reason, at }: SignedReview, known: Known): Review {
  return { id, bundle, run, verdict, by, reason, at, known };
}

const reviewType = 'urn:glovebox:review:v1';

const Statement = reviewSchema(
  reviewType,
  z.strictObject({
    id: z.string().regex(idPattern),
    ...wordShape,
    /** Default: `named`. */
    known: z.enum(['named', 'authenticated']).optional(),
    /** Of the key of the service that they came with. */
    key: z.string().max(64).optional(),
    own: z.string().max(ownWordMax).optional(),
  }),
);
type SignedReview = Readonly<z.infer<typeof Statement>['predicate']>;
