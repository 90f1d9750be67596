import { join } from 'node:path';
import { canonicalJson, digestOf } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import { failpoint } from '../failpoint.ts';
import { rollbackText } from './commit-message.ts';
import { differingEntries, isSameEntry } from './compare.ts';
import { Ledger, type Promotion, type RollingBack } from './ledger.ts';
import { compose, type Put } from './target/compose.ts';
import { land } from './target/land.ts';
import { BorrowedObjects } from './target/objects.ts';
import { openPlace, type Place } from './target/place.ts';
import { branchRef, readRef } from './target/refs.ts';

export interface RollbackRequest {
  /** Id of the promotion, or the beginning of it or of its run's. */
  readonly promotion: string;
  readonly reason: string;
  readonly by: string;
  /** Where it has gone since; default: the branch that it was promoted to. */
  readonly branch?: string;
  readonly nowMs?: number;
}

export interface Undone {
  readonly id: string;
  readonly commit: string;
  readonly branch: string;
  readonly repository: string;
  readonly paths: readonly string[];
  /** It was there already. */
  readonly again: boolean;
}

/**
 * What a promotion has changed, undone by one more commit. `conflict` where the branch does not have it, or one of its files has
 * changed since: then nothing is done. The same rollback is one commit, however often it is asked for.
 */
export async function rollback(dataDir: { readonly path: string }, request: RollbackRequest): Promise<Undone> {
  if (request.reason.trim() === '')
    throw new RunnerError('invalid_request', 'a rollback says why, for whoever looks later: --reason');
  const ledger = new Ledger(dataDir);
  const { id } = await ledger.get(request.promotion);
  return ledger.alone(id, async (scratch) => {
    const promotion = await ledger.find(id);
    const done = promotion?.done;
    if (promotion === undefined || done === undefined)
      throw new RunnerError('conflict', `promotion ${id} was not completed; promote its bundle again first`);
    const place = await openPlace(promotion.intended.repository);
    try {
      const objects = await BorrowedObjects.create(join(scratch, 'objects.git'), place);
      return await new RollingBackOne(request, { ledger, place, objects, promotion: { ...promotion, done } }).go();
    } finally {
      await place.close();
    }
  });
}

interface Means {
  readonly ledger: Ledger;
  readonly place: Place;
  readonly objects: BorrowedObjects;
  readonly promotion: Promotion & { readonly done: NonNullable<Promotion['done']> };
}

class RollingBackOne {
  readonly #request: RollbackRequest;
  readonly #means: Means;

  constructor(request: RollbackRequest, means: Means) {
    this.#request = request;
    this.#means = means;
  }

  async go(): Promise<Undone> {
    const { ledger, promotion } = this.#means;
    const puts = await this.#puts();
    const begun = await ledger.read(promotion.id, 'rolling-back');
    if (promotion.rolledBack !== undefined) {
      const branch = begun?.branch ?? promotion.intended.branch;
      return this.#answer(promotion.rolledBack.commit, branch, puts, true);
    }
    const finished = begun === undefined ? undefined : await this.#finish(begun, puts);
    if (finished !== undefined) return finished;
    const anew = await this.#intend(puts);
    // With the words and the time of the one that was cut short it is the same commit.
    const isSame = begun !== undefined && begun.parent === anew.parent && begun.branch === anew.branch;
    const rolling = isSame ? begun : anew;
    await ledger.write('rolling-back', rolling);
    await failpoint('promote.intended');
    const { place, objects } = this.#means;
    const commit = await this.#compose(rolling, puts);
    await failpoint('promote.composed');
    const ref = branchRef(rolling.branch);
    await land(place, objects, { ref, from: rolling.parent, commit, own: promotion.id });
    return this.#record(rolling, commit, puts, false);
  }

  /** Where the branch has it already: one that was killed before it could write that down. */
  async #finish(begun: RollingBack, puts: ReadonlyMap<string, Put>): Promise<Undone | undefined> {
    const { place, objects } = this.#means;
    const tip = await readRef(place, branchRef(begun.branch));
    if (tip === undefined || tip === begun.parent) return undefined;
    const commit = await this.#compose(begun, puts);
    const isThere = tip === commit || (await objects.leadsTo(commit, tip));
    return isThere ? this.#record(begun, commit, puts, true) : undefined;
  }

  /** What the commit before had, by the names of its objects: they are all there. */
  async #puts(): Promise<ReadonlyMap<string, Put>> {
    const { objects, promotion } = this.#means;
    const before = await objects.entriesOf(promotion.intended.parent);
    const after = await objects.entriesOf(promotion.done.commit);
    return new Map(
      differingEntries(before, after).map((path): readonly [string, Put] => {
        const was = before.get(path);
        return [path, was === undefined ? { kind: 'deleted' } : { kind: 'known', ...was }];
      }),
    );
  }

  async #intend(puts: ReadonlyMap<string, Put>): Promise<RollingBack> {
    const { objects, place, promotion } = this.#means;
    const { id, done, intended } = promotion;
    const { nowMs = Date.now(), by, reason, branch = intended.branch } = this.#request;
    const tip = await readRef(place, branchRef(branch));
    if (tip === undefined || !(await objects.leadsTo(done.commit, tip)))
      throw new RunnerError(
        'conflict',
        `branch ${branch} of ${place.path} does not have ${done.commit}, which promotion ${id} made; name the branch that has it with --branch`,
      );
    const [after, now] = [await objects.entriesOf(done.commit), await objects.entriesOf(tip)];
    const changed = [...puts.keys()].filter((path) => !isSameEntry(after.get(path), now.get(path)));
    if (changed.length > 0)
      throw new RunnerError(
        'conflict',
        `promotion ${id} cannot be rolled back on ${branch}: ${changed.length} of its files have changed since, such as ${JSON.stringify(changed[0])}; revert ${done.commit} by hand`,
      );
    const at = new Date(nowMs).toISOString();
    return {
      v: 1,
      id,
      at,
      by,
      reason: reason.slice(0, 4000),
      branch,
      parent: tip,
      done: digestOf(canonicalJson(done)),
    };
  }

  #compose(rolling: RollingBack, puts: ReadonlyMap<string, Put>): Promise<string> {
    const { objects, promotion } = this.#means;
    const { intended, done } = promotion;
    const message = rollbackText(intended, rolling, done.commit);
    return compose(objects, rolling.parent, puts, { author: intended.author, atMs: Date.parse(rolling.at), message });
  }

  async #record(rolling: RollingBack, commit: string, puts: ReadonlyMap<string, Put>, again: boolean): Promise<Undone> {
    const { id, by, reason, branch } = rolling;
    const at = new Date(this.#request.nowMs ?? Date.now()).toISOString();
    const intended = digestOf(canonicalJson(rolling));
    await this.#means.ledger.write('rolled-back', { v: 1, id, at, intended, commit, reason, by });
    await failpoint('promote.recorded');
    return this.#answer(commit, branch, puts, again);
  }

  #answer(commit: string, branch: string, puts: ReadonlyMap<string, Put>, again: boolean): Undone {
    const { promotion, place } = this.#means;
    return { id: promotion.id, commit, branch, repository: place.path, paths: [...puts.keys()], again };
  }
}
