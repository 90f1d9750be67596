import { join } from 'node:path';
import type { Manifest } from '../bundle/manifest.ts';
import type { Digest } from '../digest.ts';
import { canonicalJson, digestOf } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import { failpoint } from '../failpoint.ts';
import type { Policy } from '../policy/policy.ts';
import type { Tree } from '../workspace/change-set.ts';
import type { Verification } from '../verify/verification.ts';
import { isGitName } from '../workspace/changes/names.ts';
import { promotionMessage } from './commit-message.ts';
import { differingEntries, findConflicts, findMoved } from './compare.ts';
import { Ledger, type Done, type Intended } from './ledger.ts';
import { CodeOwners, codeOwnersBytesMax, codeOwnersPaths, pathsWithoutOwner } from './owners.ts';
import { outcomeOf, type Known, type Review } from './review.ts';
import { demandOf, demandText, reviewersOf, strictest, type Demand } from './rules.ts';
import { compose, type Put } from './target/compose.ts';
import { land, refuseCheckedOut } from './target/land.ts';
import { BorrowedObjects } from './target/objects.ts';
import { openPlace, type Place } from './target/place.ts';
import { branchRef, readRef } from './target/refs.ts';
import type { Tightened } from './tighten.ts';
import { plural } from '../plural.ts';

/** What a bundle says, once it was checked. */
export interface Candidate {
  readonly manifest: Manifest;
  /** Of the manifest. */
  readonly digest: Digest;
  readonly policy: Pick<Policy, 'promotion' | 'taskClass' | 'lane'>;
  /** What the run began with. */
  readonly base: Tree;
  /** Added and removed. */
  readonly lines: number;
  /** What the run itself left open. */
  readonly demanded?: Demand;
  /** A new content, as it was checked. */
  contents(digest: Digest): Promise<Uint8Array>;
}

export interface PromoteRequest {
  readonly candidate: Candidate;
  /** Path of a repository on this machine, or of a work tree's top. */
  readonly repository: string;
  /** Default: `glovebox/<beginning of the run's id>`. */
  readonly branch?: string;
  /** Who promotes. */
  readonly by: string;
  readonly author?: { readonly name: string; readonly email: string };
  /** Of this very manifest. */
  readonly reviews: readonly Review[];
  /** Who is in a team that CODEOWNERS names. */
  readonly members?: Readonly<Record<string, readonly string[]>>;
  readonly tightened?: Tightened;
  /** Where other files have moved on: judges the change set on what is there now. Without it that is refused. */
  readonly reverify?: (at: { readonly commit: string; readonly objects: BorrowedObjects }) => Promise<Verification>;
  readonly nowMs?: number;
}

export interface Promoted {
  readonly id: string;
  readonly commit: string;
  readonly branch: string;
  readonly repository: string;
  readonly parent: string;
  readonly demand: Demand;
  /** It was there already. */
  readonly again: boolean;
}

/**
 * A bundle as a commit on a branch. Promises:
 *  - what is not verified, not demanded by the rules or not reviewed as they say goes nowhere;
 *  - each changed path is what the run began with, or nothing is done; contents are compared, not names of objects;
 *  - nothing of the repository is run or believed: no hook, filter, attribute, monitor or setting;
 *  - all of it or nothing: the branch names the commit, or what it named before;
 *  - the same bundle on the same branch is one commit, however often and by however many at once it is promoted.
 */
export async function promote(dataDir: { readonly path: string }, request: PromoteRequest): Promise<Promoted> {
  const { candidate, branch = `glovebox/${candidate.manifest.run.slice(0, 10)}` } = request;
  const place = await openPlace(request.repository);
  try {
    const ref = branchRef(branch);
    const ledger = new Ledger(dataDir);
    const id = ledger.idFor(candidate.digest, place.common.path, ref);
    return await ledger.alone(id, async (scratch) => {
      const objects = await BorrowedObjects.create(join(scratch, 'objects.git'), place);
      return new Promoting(request, { ledger, id, place, ref, branch, objects }).go();
    });
  } finally {
    await place.close();
  }
}

interface Means {
  readonly ledger: Ledger;
  readonly id: string;
  readonly place: Place;
  readonly ref: string;
  readonly branch: string;
  readonly objects: BorrowedObjects;
}

class Promoting {
  readonly #request: PromoteRequest;
  readonly #means: Means;

  constructor(request: PromoteRequest, means: Means) {
    this.#request = request;
    this.#means = means;
  }

  async go(): Promise<Promoted> {
    const { ledger, id } = this.#means;
    const known = await ledger.find(id);
    if (known?.rolledBack !== undefined)
      throw new RunnerError(
        'promotion_denied',
        `this bundle was promoted to ${this.#means.branch} before and rolled back (${known.rolledBack.reason}); export a new run, or name another branch`,
      );
    const finished = known === undefined ? undefined : await this.#finish(known.intended, known.done);
    if (finished !== undefined) return finished;
    const anew = await this.#intend();
    // With the time of the one that was cut short it is the same commit.
    const begun = known?.done === undefined ? known?.intended : undefined;
    const redone = begun === undefined ? anew : { ...anew, at: begun.at, by: begun.by };
    const intended = begun !== undefined && canonicalJson(redone) === canonicalJson(begun) ? redone : anew;
    await ledger.write('intended', intended);
    await failpoint('promote.intended');
    return this.#do(intended);
  }

  /** What an earlier one began, where its commit is on the branch already; else there is something to do. */
  async #finish(intended: Intended, done: Done | undefined): Promise<Promoted | undefined> {
    const { place, ref, objects } = this.#means;
    const tip = await readRef(place, ref);
    if (done !== undefined) {
      if (tip !== undefined && (tip === done.commit || (await objects.leadsTo(done.commit, tip))))
        return this.#promoted(intended, done.commit, true);
      return undefined; // somebody has taken it off the branch again
    }
    if (tip === undefined || tip === intended.from) return undefined; // it has not come so far
    const commit = await this.#compose(intended);
    const isThere = tip === commit || (await objects.leadsTo(commit, tip));
    return isThere ? this.#record(intended, commit, true) : undefined;
  }

  /** Everything that has to be so, before anything is written. */
  async #intend(): Promise<Intended> {
    const { place, ref, objects, id, branch } = this.#means;
    const { candidate, author = glovebox, by, tightened, nowMs = Date.now() } = this.#request;
    const { manifest } = candidate;
    if (manifest.changes.length === 0)
      throw new RunnerError('promotion_denied', `run ${manifest.run} changes nothing: there is nothing to promote`);
    refuseGitNames(this.#changes());
    const from = await readRef(place, ref);
    const parent = from ?? manifest.base.commit;
    if (parent === undefined)
      throw new RunnerError(
        'conflict',
        `run ${manifest.run} did not begin at a commit, so that there is nothing to make branch ${branch} from; make it, or name one that is there with --branch`,
      );
    if (!(await objects.hasCommit(parent)))
      throw new RunnerError(
        'conflict',
        `${place.path} has no commit ${parent}, at which run ${manifest.run} began; fetch it there, or promote into the repository that the run was of`,
      );
    const asked = this.#demand();
    const { reviewers, nobodyOwns } = await this.#heard(asked, parent);
    const demand = nobodyOwns === undefined ? asked : { ...asked, because: [...asked.because, nobodyOwns] };
    await refuseCheckedOut(place, ref);
    const reverified = await this.#compare(parent);
    return {
      v: 1,
      id,
      at: new Date(nowMs).toISOString(),
      by,
      bundle: candidate.digest,
      run: manifest.run,
      policy: manifest.policy,
      lane: candidate.policy.lane,
      repository: place.path,
      branch,
      ...(from === undefined ? {} : { from }),
      parent,
      author,
      ...promotionMessage.of(manifest),
      verdict: manifest.verification?.verdict === 'passed' ? 'passed' : 'needs_review',
      ...(reverified === undefined ? {} : { reverified }),
      demand: { ...demand, action: demand.action === 'auto' ? 'auto' : 'review' },
      ...(tightened === undefined ? {} : { tightened: tightened.because }),
      reviewers,
      paths: this.#changes().map(({ path }) => path),
    };
  }

  #demand(): Demand {
    const { candidate, tightened } = this.#request;
    const { manifest, policy, lines } = candidate;
    const asked = demandOf(policy, {
      risk: manifest.risk,
      verdict: manifest.verification?.verdict,
      replay: manifest.replay?.verdict,
      changes: manifest.changes,
      lines,
    });
    return strictest([
      asked,
      ...(candidate.demanded ? [candidate.demanded] : []),
      ...(tightened ? [tightened.demand] : []),
    ]);
  }

  /** Who has accepted it, if they are enough. */
  async #heard(demand: Demand, parent: string): Promise<Heard> {
    const { reviews, candidate } = this.#request;
    const { run } = candidate.manifest;
    const because = demand.because.join('; ');
    const denied = (why: string): RunnerError => new RunnerError('promotion_denied', `run ${run} ${why}`);
    const reviewers = reviewersOf(candidate.policy);
    const { accepted, rejected, unsure } = outcomeOf(reviews, reviewers);
    const [no] = rejected;
    if (no !== undefined)
      throw denied(
        `was rejected by ${no.by}: ${no.reason}; it goes on when ${no.by} accepts it, or another run mends that`,
      );
    if (demand.action === 'never') throw denied(`is not promoted: ${because}; glovebox verify ${run} judges it`);
    if (accepted.length < demand.reviews)
      throw denied(
        `${demandText(demand, reviewers)} and has ${accepted.length}${notCounted(unsure)} (${because}); ${askFor(reviewers, run)}`,
      );
    if (!demand.owners || (await this.#askOwners(parent, accepted, denied))) return { reviewers: accepted };
    return {
      reviewers: accepted,
      nobodyOwns: `commit ${parent.slice(0, 12)} has no CODEOWNERS, so nobody owns anything`,
    };
  }

  /** CODEOWNERS of the commit that the change is made on: what the run says of owners counts for nothing. False where there is none. */
  async #askOwners(
    parent: string,
    accepted: readonly string[],
    denied: (why: string) => RunnerError,
  ): Promise<boolean> {
    for (const name of codeOwnersPaths) {
      const content = await this.#means.objects.fileAt(parent, name);
      if (content === undefined) continue;
      if (content.length > codeOwnersBytesMax)
        throw denied(`cannot be held against ${name}: it is too long to be read`);
      const owners = CodeOwners.parse(content.toString('utf8'));
      const paths = this.#changes().map(({ path }) => path);
      const [lacking, ...more] = pathsWithoutOwner(owners, paths, accepted, this.#request.members ?? {});
      if (lacking === undefined) return true;
      const also = more.length === 0 ? '' : ` and ${more.length} more files`;
      throw denied(
        `needs a review by an owner of ${JSON.stringify(lacking.path)}${also} (${name}: ${lacking.owners.join(', ')}); teams are listed in the configuration (promotion.members)`,
      );
    }
    return false;
  }

  /** Digest of the new verification, where one was needed. */
  async #compare(parent: string): Promise<Digest | undefined> {
    const { objects, branch, place } = this.#means;
    const { candidate, reverify } = this.#request;
    const { manifest } = candidate;
    const entries = await objects.entriesOf(parent);
    const changes = this.#changes();
    const conflicts = await findConflicts(objects, entries, changes);
    const [first] = conflicts;
    if (first !== undefined) {
      const also = conflicts.length === 1 ? '' : `, and ${conflicts.length - 1} more`;
      throw new RunnerError(
        'conflict',
        `run ${manifest.run} cannot be applied to ${branch} of ${place.path}: ${JSON.stringify(first.path)}: ${first.why}${also}; run it again on what is there now`,
      );
    }
    const moved = await this.#moved(parent, entries);
    if (moved.length === 0) return undefined;
    if (reverify === undefined)
      throw new RunnerError(
        'conflict',
        `run ${manifest.run} rebases cleanly on ${branch}, but ${plural(moved.length, 'file')} that it did not change ${moved.length === 1 ? 'is another' : 'are others'} there than it was verified with, such as ${JSON.stringify(moved[0])}; verify it there: --reverify`,
      );
    const verification = await reverify({ commit: parent, objects });
    if (verification.verdict !== 'passed' || verification.candidate !== manifest.candidate)
      throw new RunnerError(
        'promotion_denied',
        `run ${manifest.run} was verified again on ${parent}, and the verdict is ${verification.verdict}; run it again on what is there now`,
      );
    return await this.#means.ledger.keepVerification(this.#means.id, verification);
  }

  async #moved(parent: string, entries: Awaited<ReturnType<BorrowedObjects['entriesOf']>>): Promise<readonly string[]> {
    const { objects } = this.#means;
    const { base, manifest } = this.#request.candidate;
    const changed = new Set(this.#changes().map(({ path }) => path));
    const seen = new Map([...base].map(([path, node]) => [this.#inRepository(path), node]));
    const moved = new Set(await findMoved(objects, entries, seen, changed));
    const { commit } = manifest.base;
    if (commit !== undefined && commit !== parent && (await objects.hasCommit(commit)))
      for (const path of differingEntries(await objects.entriesOf(commit), entries))
        if (!changed.has(path)) moved.add(path);
    return [...moved].sort();
  }

  async #do(intended: Intended): Promise<Promoted> {
    const { id, place, ref, objects } = this.#means;
    const commit = await this.#compose(intended);
    await failpoint('promote.composed');
    await land(place, objects, { ref, from: intended.from, commit, own: id });
    return this.#record(intended, commit, false);
  }

  #compose(intended: Intended): Promise<string> {
    const { parent, author, at } = intended;
    const text = { author, atMs: Date.parse(at), message: promotionMessage.text(intended) };
    return compose(this.#means.objects, parent, this.#puts(), text);
  }

  async #record(intended: Intended, commit: string, again: boolean): Promise<Promoted> {
    const { ledger, id } = this.#means;
    const { nowMs = Date.now() } = this.#request;
    const at = new Date(nowMs).toISOString();
    await ledger.write('done', { v: 1, id, at, intended: digestOf(canonicalJson(intended)), commit });
    await failpoint('promote.recorded');
    return this.#promoted(intended, commit, again);
  }

  #promoted(intended: Intended, commit: string, again: boolean): Promoted {
    const { id, branch, place } = this.#means;
    return { id, commit, branch, repository: place.path, parent: intended.parent, demand: intended.demand, again };
  }

  #puts(): ReadonlyMap<string, Put> {
    const { candidate } = this.#request;
    const puts = new Map<string, Put>();
    for (const { path, before, after } of this.#changes()) {
      if (after?.kind === 'file')
        puts.set(path, { kind: 'file', mode: after.mode, content: () => candidate.contents(after.digest) });
      else if (after?.kind === 'symlink') puts.set(path, after);
      // Git knows no directories: one goes with its last file, and files that the run did not see stay.
      else if (before !== undefined && before.kind !== 'directory') puts.set(path, { kind: 'deleted' });
    }
    return puts;
  }

  #changes(): Manifest['changes'] {
    const { changes } = this.#request.candidate.manifest;
    return changes.map((change) => ({ ...change, path: this.#inRepository(change.path) }));
  }

  /** A workspace may be a directory of its repository. */
  #inRepository(path: string): string {
    const { below } = this.#request.candidate.manifest.base;
    return below === undefined ? path : `${below}/${path}`;
  }
}

/** No export has such a path: a bundle that does was made by something else, whoever signed it. */
function refuseGitNames(changes: Manifest['changes']): void {
  const found = changes.find(({ path }) => path.split('/').some(isGitName));
  if (found !== undefined)
    throw new RunnerError(
      'bundle_refused',
      `${JSON.stringify(found.path)} lies in what some file system takes for git's own directory; see who made this bundle`,
    );
}

interface Heard {
  readonly reviewers: readonly string[];
  /** Where owners are asked for, and there are none. */
  readonly nobodyOwns?: string;
}

/** What somebody who had no hand in it has to do. */
function askFor(reviewers: Known, run: string): string {
  const accept = `glovebox review ${run} --accept`;
  switch (reviewers) {
    case 'named':
      return `somebody who had no hand in it: ${accept} --as NAME`;
    case 'authenticated':
      return `somebody who had no hand in it, at the service that has the run, with a key of theirs with the scope approve: ${accept}`;
    case 'signed':
      return `somebody who had no hand in it: ${accept} --as NAME --sign-with KEY; whose keys count says promotion.reviewers of the configuration`;
  }
}

function notCounted(unsure: readonly string[]): string {
  if (unsure.length === 0) return '';
  return `, without that of ${unsure.join(', ')}, who are not known as surely as its policy wants`;
}

const glovebox = { name: 'glovebox', email: 'glovebox@localhost' };
