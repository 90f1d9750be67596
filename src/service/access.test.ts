import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { messageOf } from '../errors.ts';
import { newId } from '../ids.ts';
import { scopes, standardQuota, type Scope } from '../store/key-row.ts';
import { Store } from '../store/store.ts';
import { Access } from './access.ts';
import { localPrincipal, principalOf, type Principal } from './principal.ts';

let dir: string;
let store: Store;
let access: Access;
let runId: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'glovebox-access-'));
  store = Store.open(dir);
  access = new Access(store.runs);
  runId = newId();
  const closed = { closedAt: null, outcome: null, summary: null };
  const row = { id: runId, team: 'a', identity: 'ada', keyId: 'k', name: null, openedAt: new Date().toISOString() };
  store.runs.insert({ ...row, ...closed, state: 'open', policy: 'ci', lane: null, class: null });
});
afterEach(() => {
  store.close();
  rmSync(dir, { recursive: true, force: true });
});

function who(identity: string, team = 'a', has: readonly Scope[] = scopes): Principal {
  return { keyId: `k-${identity}`, team, identity, scopes: new Set(has), policies: ['ci'], quota: standardQuota };
}

function refusalOf(work: () => unknown): unknown {
  try {
    return work();
  } catch (error) {
    return { code: (error as { code?: string }).code, message: messageOf(error).replaceAll(/[0-9a-z]{26}/g, 'ID') };
  }
}

describe("another team's run", () => {
  test('is answered as one that does not exist, in the same words', () => {
    const absent = newId();
    expect(access.find(who('ada'), runId).id).toBe(runId);
    const none = refusalOf(() => access.find(who('eve', 'b'), absent));
    expect(none).toMatchObject({ code: 'run_not_found' });
    expect(refusalOf(() => access.find(who('eve', 'b'), runId))).toEqual(none);
    expect(refusalOf(() => access.mayDecide(who('eve', 'b'), runId))).toEqual(none);
    // the owner of the machine too has a team of its own at the socket
    expect(refusalOf(() => access.find(localPrincipal(0), runId))).toEqual(none);
  });

  test('is not looked for in ids that are none', () => {
    for (const id of ['', '../../etc', runId.toUpperCase(), `${runId} `, `${runId}\0`, runId.slice(0, 25)])
      expect(
        refusalOf(() => access.find(who('ada'), id)),
        id,
      ).toMatchObject({ code: 'run_not_found' });
  });
});

describe('a scope', () => {
  test('is asked for before anything is looked up', () => {
    for (const scope of scopes) {
      expect(() => access.require(who('ada', 'a', [scope]), scope)).not.toThrow();
      const others = scopes.filter((one) => one !== scope);
      expect(refusalOf(() => access.require(who('ada', 'a', others), scope))).toMatchObject({ code: 'forbidden' });
    }
    const refusal = refusalOf(() => access.mayDecide(who('eve', 'b', ['read']), runId));
    expect(refusal).toMatchObject({ code: 'forbidden' });
    expect(refusalOf(() => access.mayDecide(who('eve', 'b', ['read']), newId()))).toEqual(refusal);
  });

  test('to open runs is for the policies that the key names, and for a text only where it may have any', () => {
    expect(() => access.mayOpen(who('ada'), { name: 'ci' })).not.toThrow();
    expect(refusalOf(() => access.mayOpen(who('ada'), { name: 'prod' }))).toMatchObject({ code: 'forbidden' });
    expect(refusalOf(() => access.mayOpen(who('ada'), 'text'))).toMatchObject({ code: 'forbidden' });
    expect(() => access.mayOpen(localPrincipal(0), 'text')).not.toThrow();
    expect(refusalOf(() => access.mayOpen(who('ada', 'a', ['call']), { name: 'ci' }))).toMatchObject({
      code: 'forbidden',
    });
  });
});

describe('an approval', () => {
  test('is never answered by who opened the run or made a call in it, whatever the scopes and keys', () => {
    expect(refusalOf(() => access.mayDecide(who('ada'), runId))).toMatchObject({ code: 'forbidden' });
    expect(access.mayDecide(who('bob'), runId).id).toBe(runId);
    store.runs.addCaller(runId, 'bob');
    expect(refusalOf(() => access.mayDecide(who('bob'), runId))).toMatchObject({ code: 'forbidden' });
    const otherKey = { ...who('bob'), keyId: 'another', policies: 'any' } as const;
    expect(refusalOf(() => access.mayDecide(otherKey, runId))).toMatchObject({ code: 'forbidden' });
    expect(access.mayDecide(who('carl'), runId).id).toBe(runId);
  });

  test('needs the scope to answer approvals', () => {
    const rest = scopes.filter((scope) => scope !== 'approve');
    expect(refusalOf(() => access.mayDecide(who('bob', 'a', rest), runId))).toMatchObject({ code: 'forbidden' });
  });
});

test('a principal is what its key says, and nobody by a key is the owner of the machine', () => {
  const { row } = store.keys.create({
    team: 'a',
    identity: 'ada',
    scopes: ['call'],
    policies: ['ci'],
    expiresAt: null,
  });
  expect(principalOf(row)).toEqual({ ...who('ada', 'a', ['call']), keyId: row.id });
  expect(localPrincipal(1000)).toMatchObject({ keyId: 'local', identity: 'local:1000', policies: 'any' });
  const draft = { team: 'local', scopes: ['approve'], policies: 'any', expiresAt: null } as const;
  expect(() => store.keys.create({ ...draft, identity: 'local:1000' })).toThrow(/identity/);
});
