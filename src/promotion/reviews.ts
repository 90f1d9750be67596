import type { KeyObject } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { openEnvelope, sealEnvelope } from '../bundle/envelope.ts';
import { statementType } from '../bundle/statements.ts';
import { namesIn } from '../data-dir/names-in.ts';
import { writeWhole } from '../data-dir/write-whole.ts';
import { canonicalJson, type Digest } from '../digest.ts';
import { messageOf, RunnerError } from '../errors.ts';
import { idPattern, newId } from '../ids.ts';
import { personOf, reviewerPattern, type Review } from './review.ts';

/**
 * What people said of bundles: `reviews/<manifest>/<id>.json` in the data directory, each signed as bundles are. Promises:
 *  - a review holds for the manifest that it names: another export of other changes has none;
 *  - whoever had a hand in the run reviews nothing of it;
 *  - a record that is not what was signed stops whatever asks for the reviews: it is never passed over.
 */
export class Reviews {
  readonly #directory: string;

  /** Of a data directory. */
  constructor(dataDir: { readonly path: string }) {
    this.#directory = join(dataDir.path, 'reviews');
  }

  /** `involved`: who asked for the run, or worked in it. */
  async add(
    review: Omit<Review, 'id' | 'at'>,
    involved: readonly string[],
    key: KeyObject,
    nowMs: number = Date.now(),
  ): Promise<Review> {
    refuse(review, involved);
    const whole: Review = { ...review, id: newId(nowMs), at: new Date(nowMs).toISOString() };
    const directory = this.#of(review.bundle);
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      await writeWhole(join(directory, `${whole.id}.json`), sealEnvelope(statementOf(whole), key));
    } catch (cause) {
      const message = `the review cannot be kept in ${directory}: ${messageOf(cause)}; make room there, then review again`;
      throw new RunnerError('data_dir_unusable', message, { cause });
    }
    return whole;
  }

  /** The oldest first. Throws `journal_broken` for one that none of these keys has signed as it is. */
  async list(bundle: Digest, keys: readonly KeyObject[]): Promise<readonly Review[]> {
    const names = await namesIn(this.#of(bundle));
    const ids = names.filter((name) => name.endsWith('.json')).map((name) => name.slice(0, -'.json'.length));
    return Promise.all(ids.sort().map((id) => this.#read(bundle, id, keys)));
  }

  async #read(bundle: Digest, id: string, keys: readonly KeyObject[]): Promise<Review> {
    const file = join(this.#of(bundle), `${id}.json`);
    const broken = (why: string): RunnerError =>
      new RunnerError('journal_broken', `${file} is no review that was signed here: ${why}; see who changed it`);
    const opened = openEnvelope(await readFile(file, 'utf8'), keys);
    if (opened.kind === 'bad') throw broken(opened.message);
    const parsed = Statement.safeParse(JSON.parse(opened.payload));
    if (!parsed.success) throw broken('it says something else');
    const { predicate, subject } = parsed.data;
    if (predicate.id !== id || `sha256:${subject[0].digest.sha256}` !== bundle) throw broken('it is of another bundle');
    return { ...predicate, bundle };
  }

  #of(bundle: Digest): string {
    return join(this.#directory, bundle.slice('sha256:'.length));
  }
}

function refuse({ by, verdict, reason, run }: Omit<Review, 'id' | 'at'>, involved: readonly string[]): void {
  if (!reviewerPattern.test(by))
    throw new RunnerError('invalid_request', `${JSON.stringify(by)} is no name to review as; write letters and digits`);
  if (involved.some((name) => personOf(name) === personOf(by)))
    throw new RunnerError('forbidden', `${by} had a hand in run ${run}, and cannot review it; somebody else has to`);
  if (verdict === 'rejected' && reason.trim() === '')
    throw new RunnerError('invalid_request', 'a rejection says why: --reason');
}

const predicateType = 'urn:glovebox:review:v1';

const Statement = z.strictObject({
  _type: z.literal(statementType),
  subject: z.tuple([
    z.strictObject({
      name: z.literal('manifest.json'),
      digest: z.strictObject({ sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
    }),
  ]),
  predicateType: z.literal(predicateType),
  predicate: z.strictObject({
    id: z.string().regex(idPattern),
    run: z.string().regex(idPattern),
    verdict: z.enum(['accepted', 'rejected']),
    by: z.string().regex(reviewerPattern),
    reason: z.string().max(4096),
    at: z.iso.datetime({ precision: 3 }),
  }),
});

function statementOf({ bundle, ...predicate }: Review): string {
  return canonicalJson({
    _type: statementType,
    subject: [{ name: 'manifest.json', digest: { sha256: bundle.slice('sha256:'.length) } }],
    predicateType,
    predicate,
  });
}
