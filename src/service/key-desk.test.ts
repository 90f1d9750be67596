import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { KeyDraft, Quota } from '../store/key-row.ts';
import { Store } from '../store/store.ts';
import { KeyDesk } from './key-desk.ts';
import { localPrincipal, principalOf, type Principal } from './principal.ts';

let dir: string;
let store: Store;
let desk: KeyDesk;
let admin: Principal;
const quota: Quota = { openRuns: 2, callsPerMinute: 60, cpuMillis: 4000, diskBytes: 1000 };
const soon = new Date(Date.now() + 3_600_000).toISOString();
const draft: KeyDraft = { team: 'a', identity: 'ada', scopes: ['call'], policies: ['ci'], quota, expiresAt: soon };
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'glovebox-desk-'));
  store = Store.open(dir);
  desk = new KeyDesk(store.keys);
  const scopes = ['admin', 'run:open', 'call', 'approve'] as const;
  admin = principalOf(store.keys.create({ ...draft, identity: 'ada', scopes: [...scopes] }).row);
});
afterEach(() => {
  store.close();
  rmSync(dir, { recursive: true, force: true });
});

describe('who may make keys', () => {
  test('gives what it has itself', () => {
    const { key, secret } = desk.create(admin, draft);
    expect(store.keys.find(secret)?.id).toBe(key.id);
  });

  test.each<[string, Partial<KeyDraft>, RegExp]>([
    ['another team', { team: 'b' }, /team "b"/],
    ['a scope that it does not have', { scopes: ['call', 'read'] }, /scope read/],
    [
      'approvals, though it has them: who asks could make itself somebody who answers',
      { scopes: ['approve'] },
      /scope approve/,
    ],
    ['another name, as it answers approvals: it could ask under that one', { identity: 'bot' }, /identity "bot"/],
    ['the making of keys', { scopes: ['admin'] }, /scope admin/],
    ['a policy that it does not have', { policies: ['ci', 'prod'] }, /policy "prod"/],
    ['every policy', { policies: 'any' }, /every policy/],
    ['a larger quota', { quota: { ...quota, openRuns: 3 } }, /3 openRuns, where its own is 2/],
    ['the usual quota, where its own is smaller', { quota: undefined }, /openRuns/],
    ['more time than it has', { expiresAt: new Date(Date.now() + 7_200_000).toISOString() }, /a time beyond/],
    ['time without end', { expiresAt: null }, /a time beyond/],
  ])('does not give %s', (_, patch, message) => {
    expect(() => desk.create(admin, { ...draft, ...patch })).toThrow(message);
    expect(store.keys.list()).toHaveLength(1);
  });

  test('sees and revokes the keys of its own team alone', () => {
    const { row: theirs } = store.keys.create({ ...draft, team: 'b' });
    const { row: ours } = store.keys.create(draft);
    expect(desk.list(admin).map(({ team }) => team)).toEqual(['a', 'a']);
    expect(() => desk.revoke(admin, theirs.id)).toThrow(`there is no key ${theirs.id}`);
    expect(store.keys.isLive(theirs.id)).toBe(true);
    expect(desk.revoke(admin, ours.id).revokedAt).not.toBeNull();
  });

  test('is unbounded as the owner of the machine', () => {
    const owner = localPrincipal(0);
    const { key } = desk.create(owner, {
      ...draft,
      team: 'b',
      scopes: ['approve', 'admin'],
      policies: 'any',
      expiresAt: null,
    });
    expect(desk.list(owner).map(({ id }) => id)).toContain(key.id);
    expect(desk.revoke(owner, key.id).revokedAt).not.toBeNull();
  });
});
