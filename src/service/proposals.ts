import { describeRun, sealBundle, type Bundle, type DescribedRun } from '../bundle/export.ts';
import { machineKeys } from '../bundle/believed-keys.ts';
import { openSigningKey, type SigningSource } from '../bundle/signing-key.ts';
import type { DiffView } from '../contract/diff-view.ts';
import type { GiveReview, ReviewRecordView, ReviewView, SetbackView } from '../contract/review-view.ts';
import type { DataDir } from '../data-dir/data-dir.ts';
import { RunnerError } from '../errors.ts';
import type { ReviewerKeys } from '../promotion/own-word.ts';
import { reviewDocument } from '../promotion/review-document.ts';
import { Reviews, type ReviewDraft } from '../promotion/reviews.ts';
import { setbacksOfRun, type Setback } from '../promotion/rolled-back.ts';
import type { Scope } from '../store/key-row.ts';
import type { RunRow } from '../store/runs.ts';
import type { Store } from '../store/store.ts';
import { recordIdsIn } from '../data-dir/names-in.ts';
import { whyNotDecide, type Access } from './access.ts';
import type { EventLog } from './event-log.ts';
import { FairTurns } from './fair-turns.ts';
import { localKeyId, type Principal } from './principal.ts';

export interface ProposalParts {
  /** Who asks has this scope, and one more call to make; throws what refuses it. */
  readonly ask: (principal: Principal, scope: Scope) => void;
  readonly access: Access;
  /** Of a run as it stands; counts as a call itself. */
  readonly diff: (principal: Principal, run: string) => Promise<unknown>;
  readonly store: Store;
  readonly dataDir: DataDir;
  readonly events: EventLog;
  readonly signing?: SigningSource | undefined;
  readonly reviewers?: ReviewerKeys | undefined;
}

/** Of descriptions: one after the other, and team after team. */
const turns = { atOnce: 1, waitingMax: 256, waitMaxMs: 60_000 };

/**
 * What closed runs propose, for those who decide on it. Promises:
 *  - a review is bound to the manifest that was looked at: where it is another by now, nothing is kept;
 *  - who opened the run, or takes part in it, reviews nothing of it, whatever the scopes of the key;
 *  - a review says that a service has signed it on behalf of an identity; only the owner of the socket is merely named;
 *  - what other teams have promoted and rolled back is not told;
 *  - however much one team asks for, another waits for one of its descriptions at most.
 */
export class Proposals {
  readonly #parts: ProposalParts;
  /** Describing a run reads all that it has left. */
  readonly #described = new FairTurns(turns);

  constructor(parts: ProposalParts) {
    this.#parts = parts;
  }

  /** All that a closed run has left, signed; made one at a time. Throws `run_not_open` for one that is open. */
  async bundle(principal: Principal, runId: string): Promise<Bundle> {
    const { dataDir, signing } = this.#parts;
    return this.#describe(principal, 'read', runId, async (described) =>
      sealBundle(described, await openSigningKey(dataDir.path, signing)),
    );
  }

  /** What `glovebox review` shows. Throws as `bundle` does. */
  async review(principal: Principal, runId: string): Promise<ReviewView> {
    const { dataDir } = this.#parts;
    return this.#describe(principal, 'read', runId, async ({ manifest, digest, facts }) => {
      const paths = manifest.changes.map(({ path }) => path);
      return reviewDocument(manifest, digest, facts, {
        reviews: await (await this.#reviews()).list(digest),
        setbacks: await this.#setbacks(principal, manifest.run, paths),
        verifications: (await recordIdsIn(dataDir.runDir(manifest.run).verificationsDir)).length,
      });
    });
  }

  /** Throws `conflict` for another manifest than there is now, `forbidden`, and as `bundle` does. */
  async give(principal: Principal, runId: string, asked: GiveReview): Promise<ReviewRecordView> {
    const { dataDir, events, signing, store } = this.#parts;
    const { manifest, verdict, reason, signature } = asked;
    return this.#describe(principal, 'approve', runId, async ({ digest, facts }, row) => {
      const callers = store.runs.callers(row.id);
      const refusal = whyNotDecide(principal, row, callers);
      if (refusal !== undefined) throw new RunnerError('forbidden', refusal);
      if (digest !== manifest)
        throw new RunnerError(
          'conflict',
          `run ${row.id} has the manifest ${digest} now, and the review is of ${manifest}: look at it again`,
        );
      const draft: ReviewDraft = {
        bundle: digest,
        run: row.id,
        verdict,
        by: principal.identity,
        reason,
        ...(principal.keyId === localKeyId ? { known: 'named' } : { known: 'authenticated', key: principal.keyId }),
        ...(signature === undefined ? {} : { own: signature }),
      };
      const key = await openSigningKey(dataDir.path, signing);
      const involved = [...facts.story.involved, row.identity, ...callers];
      const { known, ...review } = await (await this.#reviews()).add(draft, involved, key.private);
      const at = new Date().toISOString();
      events.push({ type: 'run.reviewed', at, run: row.id, team: row.team, manifest, verdict, by: review.by }, row);
      return { ...review, known };
    });
  }

  /** Earlier promotions of the files that it has changed, of this team, which were rolled back. Of an open run no command may run. */
  async setbacks(principal: Principal, runId: string): Promise<readonly SetbackView[]> {
    const { changes } = (await this.#parts.diff(principal, runId)) as DiffView;
    const { id } = this.#parts.access.find(principal, runId);
    return this.#setbacks(
      principal,
      id,
      changes.map(({ path }) => path),
    );
  }

  #setbacks(principal: Principal, run: string, paths: readonly string[]): Promise<readonly Setback[]> {
    const { dataDir, store } = this.#parts;
    return setbacksOfRun(dataDir, dataDir.runDir(run), paths, (earlier) => {
      const row = store.runs.find(earlier);
      return row === undefined ? principal.keyId === localKeyId : row.team === principal.team;
    });
  }

  async #reviews(): Promise<Reviews> {
    const { dataDir, signing, reviewers } = this.#parts;
    const machine = await machineKeys(dataDir.path, signing);
    return new Reviews(dataDir, { machine, ...(reviewers === undefined ? {} : { reviewers }) });
  }

  async #describe<T>(
    principal: Principal,
    scope: Scope,
    runId: string,
    work: (described: DescribedRun, row: RunRow) => Promise<T>,
  ): Promise<T> {
    const { ask, access, dataDir } = this.#parts;
    ask(principal, scope);
    const row = access.find(principal, runId);
    if (row.state !== 'closed')
      throw new RunnerError('run_not_open', `run ${row.id} is ${row.state}, and proposes nothing before it is closed`);
    return this.#described.run(principal.team, async () => work(await describeRun(dataDir, row.id), row));
  }
}
