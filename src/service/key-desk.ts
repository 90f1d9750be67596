import { RunnerError } from '../errors.ts';
import type { KeyDraft, KeyRow } from '../store/key-row.ts';
import type { Keys } from '../store/keys.ts';
import { localKeyId, type Principal } from './principal.ts';

/**
 * Keys, as those who have the scope `admin` make them. Nobody gives more than they have: not another team, no scope, no policy.
 * The owner of the machine has everything.
 */
export class KeyDesk {
  readonly #keys: Keys;

  constructor(keys: Keys) {
    this.#keys = keys;
  }

  create(principal: Principal, draft: KeyDraft): { readonly key: KeyRow; readonly secret: string } {
    if (!isOwner(principal)) refuseMore(principal, draft);
    const { row, secret } = this.#keys.create(draft);
    return { key: row, secret };
  }

  list(principal: Principal): readonly KeyRow[] {
    return this.#keys.list(isOwner(principal) ? undefined : principal.team);
  }

  /** Throws `not_found`, for another team's too. */
  revoke(principal: Principal, id: string): KeyRow {
    const found = this.#keys.get(id);
    const ours = found !== undefined && (isOwner(principal) || found.team === principal.team);
    const revoked = ours ? this.#keys.revoke(id) : undefined;
    if (revoked === undefined) throw new RunnerError('not_found', `there is no key ${id}`);
    return revoked;
  }
}

function isOwner({ keyId }: Principal): boolean {
  return keyId === localKeyId;
}

function refuseMore(principal: Principal, { team, scopes, policies }: KeyDraft): void {
  const scope = scopes.find((one) => !principal.scopes.has(one));
  const mine = principal.policies;
  const policy =
    mine === 'any' ? undefined : policies === 'any' ? 'any' : policies.find((name) => !mine.includes(name));
  const what =
    team !== principal.team
      ? `team ${JSON.stringify(team)}`
      : scope !== undefined
        ? `the scope ${scope}`
        : policy !== undefined
          ? `the policy ${policy}`
          : undefined;
  if (what !== undefined)
    throw new RunnerError('forbidden', `this key cannot give ${what} to another: it does not have it`);
}
