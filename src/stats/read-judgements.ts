import { isRunnerError, messageOf } from '../errors.ts';
import { Ledger, type Promotion } from '../promotion/ledger.ts';
import type { Review } from '../promotion/review.ts';
import { Reviews, type Believed } from '../promotion/reviews.ts';
import { judgementsOf, type Judgement } from './judgement.ts';

export interface Judged {
  readonly judgements: ReadonlyMap<string, Judgement>;
  /** Records that are not what was written, or that nobody here has signed: they count for nothing. */
  readonly unreadable: readonly string[];
}

/** What the records of a data directory say became of its runs. */
export async function readJudgements(dataDir: { readonly path: string }, believed: Believed): Promise<Judged> {
  const unreadable: string[] = [];
  const sound = async <T>(read: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await read();
    } catch (error) {
      if (!isRunnerError(error, 'journal_broken')) throw error;
      unreadable.push(messageOf(error));
      return undefined;
    }
  };
  const [kept, ledger] = [new Reviews(dataDir, believed), new Ledger(dataDir)];
  const reviews: Review[] = [];
  for (const bundle of await kept.bundles()) reviews.push(...((await sound(() => kept.list(bundle))) ?? []));
  const promotions: Promotion[] = [];
  for (const id of await ledger.ids()) {
    const promotion = await sound(() => ledger.find(id));
    if (promotion !== undefined) promotions.push(promotion);
  }
  return { judgements: judgementsOf(reviews, promotions), unreadable };
}
