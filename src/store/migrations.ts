/** "gbox": tells our files from others'. */
export const applicationId = 0x67_62_6f_78;

/**
 * Forward only, one after the other; `user_version` of the file says how many have been done. What has been released is never
 * edited: a change is another one at the end.
 */
export const migrations: readonly string[] = [
  `
  CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL,
    team TEXT NOT NULL,
    identity TEXT NOT NULL,
    scopes TEXT NOT NULL,
    policies TEXT NOT NULL,
    quota TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX keys_by_team ON keys (team, id);

  CREATE TABLE teams (
    team TEXT PRIMARY KEY,
    quota TEXT NOT NULL,
    weight INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    team TEXT NOT NULL,
    identity TEXT NOT NULL,
    key_id TEXT NOT NULL,
    name TEXT,
    state TEXT NOT NULL CHECK (state IN ('opening', 'open', 'closed')),
    policy TEXT NOT NULL,
    lane TEXT,
    class TEXT,
    opened_at TEXT NOT NULL,
    closed_at TEXT,
    outcome TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX runs_by_team ON runs (team, id);
  CREATE INDEX runs_open ON runs (team, key_id) WHERE state <> 'closed';
  CREATE UNIQUE INDEX runs_open_name ON runs (team, name) WHERE state <> 'closed' AND name IS NOT NULL;

  CREATE TABLE callers (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    identity TEXT NOT NULL,
    PRIMARY KEY (run_id, identity)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE open_requests (
    team TEXT NOT NULL,
    identity TEXT NOT NULL,
    request_key TEXT NOT NULL,
    digest TEXT NOT NULL,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    PRIMARY KEY (team, identity, request_key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX open_requests_by_run ON open_requests (run_id);

  CREATE TABLE verdicts (
    approval_id TEXT NOT NULL,
    identity TEXT NOT NULL,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    approve INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (approval_id, identity)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX verdicts_by_run ON verdicts (run_id);
  `,
  'ALTER TABLE runs ADD COLUMN summary TEXT;',
  `
  CREATE TABLE run_facts (
    run_id TEXT PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    stamp TEXT NOT NULL,
    facts TEXT
  ) STRICT, WITHOUT ROWID;
  `,
];
