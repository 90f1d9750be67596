import { standardQuota, scopes, type KeyRow, type Quota, type Scope } from '../store/key-row.ts';

/** Who asks. Made by authentication alone. */
export interface Principal {
  /** `local`: the owner of the unix socket. */
  readonly keyId: string;
  readonly team: string;
  /** A person or a program; separation of duties is between identities. */
  readonly identity: string;
  readonly scopes: ReadonlySet<Scope>;
  /** Names it may open runs with; `any`: also with a policy's text. */
  readonly policies: readonly string[] | 'any';
  readonly quota: Quota;
}

export const localKeyId = 'local';

export function principalOf(key: KeyRow): Principal {
  const { id: keyId, team, identity, policies, quota } = key;
  return { keyId, team, identity, scopes: new Set(key.scopes), policies, quota };
}

/** The user of this machine who owns the data directory, by its socket. Nobody else can reach that. */
export function localPrincipal(uid: number, quota: Quota = standardQuota): Principal {
  const identity = `local:${uid}`;
  return { keyId: localKeyId, team: localTeam, identity, scopes: new Set(scopes), policies: 'any', quota };
}

export const localTeam = 'local';
