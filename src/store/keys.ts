import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import type { Database, Row } from './database.ts';
import { checkedDraft, KeyRow, Quota, standardQuota, type KeyDraft } from './key-row.ts';

/**
 * The keys of a service. Promises:
 *  - a secret is given out once, when its key is made; what is kept cannot be used in its place;
 *  - one that is unknown, wrong, expired or revoked is no key, and which of these it was cannot be told from the time it took;
 *  - each look is into the database: what another process has revoked or made holds at once.
 */
export class Keys {
  readonly #database: Database;
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** Throws `invalid_request` for a draft that cannot be. */
  create(draft: KeyDraft): { readonly row: KeyRow; readonly secret: string } {
    const now = this.#now();
    const { quota = standardQuota, ...rest } = checkedDraft(draft);
    if (rest.expiresAt !== null && Date.parse(rest.expiresAt) <= now)
      throw new RunnerError('invalid_request', `a key cannot be made: it would have expired at ${rest.expiresAt}`);
    const row: KeyRow = {
      ...rest,
      scopes: [...new Set(rest.scopes)],
      id: newId(now),
      quota,
      createdAt: new Date(now).toISOString(),
      revokedAt: null,
    };
    const secret = `gbx_${row.id}_${randomBytes(32).toString('base64url')}`;
    this.#database.run(
      `INSERT INTO keys (id, hash, team, identity, scopes, policies, quota, created_at, expires_at, revoked_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)`,
      [
        row.id,
        hashOf(secret).toString('hex'),
        row.team,
        row.identity,
        JSON.stringify(row.scopes),
        JSON.stringify(row.policies),
        JSON.stringify(row.quota),
        row.createdAt,
        row.expiresAt,
      ],
    );
    return { row, secret };
  }

  /** Whose secret it is. */
  find(secret: string): KeyRow | undefined {
    const id = keyIdOf(secret) ?? '';
    const found = this.#database.find('SELECT * FROM keys WHERE id = ?', [id]);
    const kept = found === undefined ? nobody : Buffer.from(String(found['hash']), 'hex');
    const fits = kept.length === nobody.length && timingSafeEqual(kept, hashOf(secret));
    if (found === undefined || !fits) return undefined;
    const row = rowOf(found);
    return this.#holds(row) ? row : undefined;
  }

  /** Whether it could still be used: of connections that last longer than one request. */
  isLive(id: string): boolean {
    const row = this.get(id);
    return row !== undefined && this.#holds(row);
  }

  get(id: string): KeyRow | undefined {
    const found = this.#database.find('SELECT * FROM keys WHERE id = ?', [id]);
    return found && rowOf(found);
  }

  /** Oldest first; those that are over too. */
  list(team?: string): readonly KeyRow[] {
    const rows =
      team === undefined
        ? this.#database.all('SELECT * FROM keys ORDER BY id')
        : this.#database.all('SELECT * FROM keys WHERE team = ? ORDER BY id', [team]);
    return rows.map(rowOf);
  }

  /** The most that one of a team's live keys may have, of each bound. Undefined where it has none. */
  largestQuota(team: string): Quota | undefined {
    const most = Object.keys(standardQuota).map((name) => `max(json_extract(quota, '$.${name}')) AS ${name}`);
    const found = this.#database.find(
      `SELECT ${most.join(', ')} FROM keys WHERE team = ? AND ${live} AND json_valid(quota)`,
      [team, this.#nowText()],
    );
    return Quota.safeParse(found).data;
  }

  /** Whether another team has a key that could still be used. */
  hasOthers(team: string): boolean {
    const sql = `SELECT 1 FROM keys WHERE team <> ? AND ${live} LIMIT 1`;
    return this.#database.find(sql, [team, this.#nowText()]) !== undefined;
  }

  /** From now on, and for ever. Twice is fine; undefined when there is no such key. */
  revoke(id: string): KeyRow | undefined {
    const at = this.#nowText();
    this.#database.run('UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL', [at, id]);
    return this.get(id);
  }

  #nowText(): string {
    return new Date(this.#now()).toISOString();
  }

  #holds({ revokedAt, expiresAt }: KeyRow): boolean {
    return revokedAt === null && (expiresAt === null || Date.parse(expiresAt) > this.#now());
  }
}

/** With the time as its value. */
const live = 'revoked_at IS NULL AND (expires_at IS NULL OR julianday(expires_at) > julianday(?))';

/** The key that it would be of; undefined for what is no secret. */
export function keyIdOf(secret: string): string | undefined {
  return secretPattern.exec(secret)?.[1];
}

const secretPattern = /^gbx_([0-9a-z]{26})_[A-Za-z0-9_-]{43}$/;

/**
 * One round of SHA-256 and no salt: a secret is 256 random bits, so there is nothing to guess that a slow hash would protect,
 * and no two are alike. Of the text, not of the bytes it encodes: those could be written in four ways.
 */
function hashOf(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

/** What a key that does not exist is compared with: no secret has this hash. */
const nobody = Buffer.alloc(32);

/** Of a row as it lies in the table. */
export function isKeyRow(row: Row): boolean {
  try {
    return rowOf(row).id !== '';
  } catch {
    return false;
  }
}

function rowOf(row: Row): KeyRow {
  const parsed = KeyRow.safeParse({
    id: row['id'],
    team: row['team'],
    identity: row['identity'],
    scopes: JSON.parse(String(row['scopes'])) as unknown,
    policies: JSON.parse(String(row['policies'])) as unknown,
    quota: JSON.parse(String(row['quota'])) as unknown,
    createdAt: row['created_at'],
    expiresAt: row['expires_at'],
    revokedAt: row['revoked_at'],
  });
  if (parsed.success) return parsed.data;
  throw new RunnerError(
    'data_dir_unusable',
    `key ${String(row['id'])} is not readable any more; revoke it, make another`,
  );
}
