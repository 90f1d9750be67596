import { RunnerError } from '../errors.ts';
import { standardQuota, type KeyDraft, type KeyRow, type Scope } from '../store/key-row.ts';
import type { Keys } from '../store/keys.ts';
import { localKeyId, type Principal } from './principal.ts';

/**
 * Keys, as those who have the scope `admin` make them. Promises:
 *  - nobody gives more than they have: no other team, scope, policy or quota, and for no longer;
 *  - only the owner of the machine gives `approve` and `admin`, and who answers approvals gives keys in its own name alone: else one
 *    person could ask as one identity and answer as another.
 */
export class KeyDesk {
  readonly #keys: Keys;

  constructor(keys: Keys) {
    this.#keys = keys;
  }

  create(principal: Principal, draft: KeyDraft): { readonly key: KeyRow; readonly secret: string } {
    if (!isOwner(principal)) refuseMore(principal, this.#keys.get(principal.keyId)?.expiresAt ?? null, draft);
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

const ofOwnerAlone: readonly Scope[] = ['approve', 'admin'];

function refuseMore(principal: Principal, endsAt: string | null, draft: KeyDraft): void {
  const what = whatIsMore(principal, endsAt, draft);
  if (what === undefined) return;
  throw new RunnerError(
    'forbidden',
    `this key cannot give ${what} to another; give less, or have the owner of its machine do it there: glovebox key create`,
  );
}

function whatIsMore(principal: Principal, endsAt: string | null, draft: KeyDraft): string | undefined {
  if (draft.team !== principal.team) return `team ${JSON.stringify(draft.team.slice(0, 64))}`;
  const scope = draft.scopes.find((one) => ofOwnerAlone.includes(one) || !principal.scopes.has(one));
  if (scope !== undefined) return `the scope ${scope}`;
  if (principal.scopes.has('approve') && draft.identity !== principal.identity)
    return `the identity ${JSON.stringify(draft.identity.slice(0, 64))}, as it answers approvals,`;
  const { policies } = principal;
  if (policies !== 'any') {
    if (draft.policies === 'any') return 'every policy';
    const policy = draft.policies.find((name) => !policies.includes(name));
    if (policy !== undefined) return `the policy ${JSON.stringify(policy.slice(0, 128))}`;
  }
  const quota = draft.quota ?? standardQuota;
  const bound = quotaBounds.find((one) => quota[one] > principal.quota[one]);
  if (bound !== undefined) return `a quota of ${quota[bound]} ${bound}, where its own is ${principal.quota[bound]},`;
  if (endsAt === null || (draft.expiresAt !== null && Date.parse(draft.expiresAt) <= Date.parse(endsAt)))
    return undefined;
  return `a time beyond ${endsAt}, when it expires itself,`;
}

const quotaBounds = ['openRuns', 'callsPerMinute', 'cpuMillis', 'diskBytes'] as const;
