import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { KeyDraft } from './key-row.ts';
import { Store } from './store.ts';

let dir: string;
let nowMs: number;
let store: Store;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'glovebox-keys-'));
  nowMs = Date.parse('2026-01-01T00:00:00.000Z');
  store = Store.open(dir, { now: () => nowMs });
});
afterEach(() => {
  store.close();
  rmSync(dir, { recursive: true, force: true });
});

const draft: KeyDraft = { team: 'a', identity: 'ada', scopes: ['call', 'read'], policies: ['ci'], expiresAt: null };

describe('a key', () => {
  test('is found by its secret, whole, and by nothing else', () => {
    const { row, secret } = store.keys.create(draft);
    expect(secret).toMatch(/^gbx_[0-9a-z]{26}_[A-Za-z0-9_-]{43}$/);
    expect(store.keys.find(secret)).toEqual(row);
    const { secret: other } = store.keys.create(draft);
    const wrong = [
      '',
      'gbx_',
      row.id,
      secret.slice(0, -1),
      `${secret}x`,
      ` ${secret}`,
      secret.replace('gbx_', 'GBX_'),
      secret.slice(0, 31) + other.slice(31),
      other.slice(0, 31) + secret.slice(31),
      `${secret.slice(0, -1)}${secret.endsWith('A') ? 'B' : 'A'}`,
    ];
    for (const text of wrong) expect(store.keys.find(text), text).toBeUndefined();
  });

  test('has one spelling: the bits that base64 leaves over are not free', () => {
    const { secret } = store.keys.create(draft);
    const bytes = (text: string): string => Buffer.from(text.slice(31), 'base64url').toString('hex');
    const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const twins = letters
      .split('')
      .map((letter) => secret.slice(0, -1) + letter)
      .filter((text) => text !== secret && bytes(text) === bytes(secret));
    expect(twins).toHaveLength(3);
    for (const twin of twins) expect(store.keys.find(twin)).toBeUndefined();
  });

  test('is nowhere on disk', () => {
    const { secret } = store.keys.create(draft);
    const random = secret.slice(31);
    for (const name of readdirSync(dir)) {
      const bytes = readFileSync(join(dir, name));
      expect(bytes.includes(random), name).toBe(false);
      expect(bytes.includes(Buffer.from(random, 'base64url')), name).toBe(false);
      expect(bytes.includes(Buffer.from(random, 'base64url').toString('hex')), name).toBe(false);
    }
  });

  test('that is revoked, here or by another process, is none from that moment on', () => {
    const { row, secret } = store.keys.create(draft);
    const beside = Store.open(dir);
    expect(beside.keys.find(secret)).toBeDefined();
    beside.keys.revoke(row.id);
    beside.close();
    expect([store.keys.find(secret), store.keys.isLive(row.id)]).toEqual([undefined, false]);
    const first = store.keys.get(row.id)?.revokedAt;
    nowMs += 1000;
    expect(store.keys.revoke(row.id)?.revokedAt).toBe(first);
    expect(store.keys.revoke('x')).toBeUndefined();
  });

  test('that has expired is none', () => {
    const expiresAt = new Date(nowMs + 1000).toISOString();
    const { row, secret } = store.keys.create({ ...draft, expiresAt });
    nowMs += 999;
    expect([store.keys.find(secret)?.id, store.keys.isLive(row.id)]).toEqual([row.id, true]);
    nowMs += 1;
    expect([store.keys.find(secret), store.keys.isLive(row.id)]).toEqual([undefined, false]);
    expect(() => store.keys.create({ ...draft, expiresAt })).toThrow(/would have expired/);
  });

  test.each<[string, Partial<KeyDraft>, RegExp]>([
    ['a team', { team: 'A b' }, /team/],
    ['an identity that stands for the owner of the machine', { identity: 'local:0' }, /identity/],
    ['no scope', { scopes: [] }, /scope/],
    ['a policy that is a path', { policies: ['../x'] }, /policy/],
    ['a quota below nothing', { quota: { openRuns: -1, callsPerMinute: 1, cpuMillis: 1, diskBytes: 1 } }, /openRuns/],
  ])('is not made with %s that cannot be', (_, patch, message) => {
    expect(() => store.keys.create({ ...draft, ...patch })).toThrow(message);
    expect(store.keys.list()).toEqual([]);
  });

  test('is listed with its team, without what it could be used with', () => {
    const { row, secret } = store.keys.create(draft);
    nowMs += 1;
    store.keys.create({ ...draft, team: 'b', policies: 'any' });
    expect(store.keys.list('a')).toEqual([row]);
    expect(store.keys.list().map(({ team, policies }) => [team, policies])).toEqual([
      ['a', ['ci']],
      ['b', 'any'],
    ]);
    expect(JSON.stringify(store.keys.list())).not.toContain(secret.slice(31));
  });
});

test('a team has what an operator says of it', () => {
  const quota = { openRuns: 1, callsPerMinute: 2, cpuMillis: 3, diskBytes: 4 };
  expect(store.teams.find('a')).toBeUndefined();
  store.teams.set({ team: 'a', quota, weight: 2 });
  store.teams.set({ team: 'a', quota: { ...quota, openRuns: 9 }, weight: 3 });
  expect(store.teams.list()).toEqual([{ team: 'a', quota: { ...quota, openRuns: 9 }, weight: 3 }]);
  expect(() => store.teams.set({ team: 'a', quota, weight: 0 })).toThrow(/weight/);
});
