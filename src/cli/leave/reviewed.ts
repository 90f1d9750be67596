import { readFile } from 'node:fs/promises';
import type { KeyObject } from 'node:crypto';
import { readBundle } from '../../bundle/check.ts';
import { describeRun, type DescribedRun } from '../../bundle/export.ts';
import { findSigningKey } from '../../bundle/signing-key.ts';
import type { RemoteRun } from '../../client/client.ts';
import { ReviewView, type ReviewRecordView } from '../../contract/review-view.ts';
import type { RunDir } from '../../data-dir/data-dir.ts';
import { RunnerError } from '../../errors.ts';
import { Ledger } from '../../promotion/ledger.ts';
import { signWord } from '../../promotion/own-word.ts';
import { reviewDocument } from '../../promotion/review-document.ts';
import { Reviews } from '../../promotion/reviews.ts';
import { setbacksOn } from '../../promotion/rolled-back.ts';
import { recordIdsIn } from '../../data-dir/names-in.ts';
import { Verification } from '../../verify/verification.ts';
import { answered } from './answered.ts';
import { userName } from '../ask-approval.ts';
import { believedKeys, believedReviews } from './believed-keys.ts';
import type { CliContext } from '../context.ts';
import { ownKey } from './export.ts';

/** What is looked at, and where a word about it goes. */
export interface Reviewed {
  readonly view: ReviewView;
  readonly patch: () => Promise<Buffer>;
  readonly give: (spoken: Spoken) => Promise<ReviewRecordView>;
}

export interface Spoken {
  readonly verdict: 'accepted' | 'rejected';
  readonly reason: string;
  readonly as: string | undefined;
  /** File with the private key of who speaks. */
  readonly signWith: string | undefined;
}

/** A closed run of this data directory, as it would be exported now. */
export async function reviewedHere(context: CliContext, dir: RunDir): Promise<Reviewed> {
  const described = await describeRun(await context.openDataDir(), dir.id);
  const times = (await recordIdsIn(dir.verificationsDir)).length;
  return reviewed(context, described, times, () => readFile(dir.patch));
}

export async function reviewedBundle(
  context: CliContext,
  file: string,
  keys: readonly string[] | undefined,
): Promise<Reviewed> {
  const bundle = await readBundle(file, await believedKeys(keys, context));
  return reviewed(context, bundle, bundle.facts.verification === undefined ? 0 : 1, bundle.patch);
}

/** At a service: whose word it is, the key in use says. */
export async function reviewedThere(run: RemoteRun): Promise<Reviewed> {
  const view = answered(ReviewView, await run.review(), 'a review');
  if (view.verification !== null) answered(Verification, view.verification, 'a verification');
  return {
    view,
    patch: () => run.patch(),
    give: async ({ verdict, reason, as, signWith }) => {
      const { manifest } = view;
      if (signWith === undefined) {
        if (as !== undefined && process.env['GLOVEBOX_KEY'] !== undefined)
          throw new RunnerError('invalid_request', `--as ${as}: at a service the key says who reviews; leave --as out`);
        return run.giveReview({ manifest, verdict, reason });
      }
      if (as === undefined)
        throw new RunnerError('invalid_request', '--sign-with needs --as NAME: your identity there, which you sign');
      const signature = await signed({ ...view, verdict, reason, by: as }, signWith);
      return run.giveReview({ manifest, verdict, reason, signature });
    },
  };
}

async function reviewed(
  context: CliContext,
  { manifest, digest, facts }: Pick<DescribedRun, 'manifest' | 'digest' | 'facts'>,
  verifications: number,
  patch: () => Promise<Buffer>,
): Promise<Reviewed> {
  const dataDir = await context.openDataDir();
  const changed = manifest.changes.map(({ path }) => path);
  const setbacks = setbacksOn(await new Ledger(dataDir).list(), changed, manifest.base.below);
  const reviews = await new Reviews(dataDir, await believedReviews(context)).list(digest);
  const view = reviewDocument(manifest, digest, facts, { reviews, setbacks, verifications });
  const give: Reviewed['give'] = async ({ verdict, reason, as: by = userName(), signWith }) => {
    const key = await ownKey(dataDir.path);
    const own = signWith === undefined ? {} : { own: await signed({ ...view, verdict, reason, by }, signWith) };
    const draft = { bundle: digest, run: manifest.run, verdict, by, reason, known: 'named', ...own } as const;
    const involved = involvedHere(facts.story.involved);
    return new Reviews(dataDir, await believedReviews(context)).add(draft, involved, key.private);
  };
  return { view, patch, give };
}

/** The owner of the socket is a number in a journal, and has a name here. */
function involvedHere(involved: ReadonlySet<string>): readonly string[] {
  const isOwner = involved.has(`local:${process.getuid?.() ?? 0}`);
  return isOwner ? [...involved, userName()] : [...involved];
}

async function signed(
  {
    manifest: bundle,
    run,
    verdict,
    reason,
    by,
  }: Pick<ReviewView, 'manifest' | 'run'> & Omit<Spoken, 'as' | 'signWith'> & { by: string },
  file: string,
): Promise<string> {
  return signWord({ bundle, run, verdict, by, reason, at: new Date().toISOString() }, await privateKey(file));
}

async function privateKey(file: string): Promise<KeyObject> {
  const key = await findSigningKey('', { key: file });
  if (key === undefined) throw new RunnerError('invalid_request', `--sign-with ${file}: there is no such key`);
  return key.private;
}
