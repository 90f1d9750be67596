import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { verifyIt, type ClosedRun } from '../bundle/closed-run.fixture.ts';
import type { Problem } from '../contract/problem.ts';
import { ReviewRecordView, ReviewView } from '../contract/review-view.ts';
import { canonicalJson, digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import { Ledger } from '../promotion/ledger.ts';
import { signWord } from '../promotion/own-word.ts';
import { Api } from './api.fixture.ts';

const kim = generateKeyPairSync('ed25519');
const reviewers = new Map([['kim', [kim.publicKey]]]);

let api: Api;
let run: ClosedRun;
let kims: string;
beforeEach(async () => {
  api = await Api.open({ reviewers });
  run = await api.fake.closedRun();
  kims = api.key({ identity: 'kim' });
});
afterEach(() => api.close());

async function look(key = kims, id = run.dir.id): Promise<ReviewView> {
  return (await (await api.ask(key, 'GET', `/v1/runs/${id}/review`)).json()) as ReviewView;
}

async function say(
  body: object,
  key = kims,
  id = run.dir.id,
): Promise<readonly [number, Partial<Problem & ReviewRecordView>]> {
  const { manifest } = await look();
  const answer = await api.ask(key, 'POST', `/v1/runs/${id}/reviews`, { manifest, verdict: 'accepted', ...body });
  return [answer.status, (await answer.json()) as Partial<Problem & ReviewRecordView>];
}

const kept = (): readonly string[] => {
  const { path } = api.fake.service.dataDir;
  return readdirSync(path).includes('reviews')
    ? readdirSync(join(path, 'reviews'), { recursive: true, encoding: 'utf8' })
    : [];
};

describe('a review over HTTP', () => {
  test('shows what a terminal shows, by the schema of the document', async () => {
    await verifyIt(api.fake.service.dataDir, run);
    const view = await look();
    expect(ReviewView.parse(view)).toEqual(view);
    expect(view).toMatchObject({
      run: run.dir.id,
      verification: { verdict: 'passed' },
      verifications: 1,
      approvals: [{ category: 'diff_review', by: ['ada'] }],
      left: [{ path: 'etc/x', effect: 'out_of_scope' }],
      demand: { action: 'review', reviewers: 'named' },
      reviews: [],
    });
    expect(view.files.map(({ path }) => path)).toContain('src/b\nc\x1b[2J.ts');
    expect(view.work).toEqual({ models: ['strong-2'], lanes: [], handOvers: 0, snapshots: 1 });
    expect(view.timeline.map(({ what }) => what).join('\n')).toMatch(/risk raised.*approval requested.*run closed/s);
    expect(JSON.stringify(view)).not.toContain(api.fake.service.dataDir.path);
  });

  test('is kept as what the service says on behalf of an identity, and seen by the next who looks', async () => {
    const [status, review] = await say({ reason: 'read it' });
    expect([status, ReviewRecordView.parse(review)]).toMatchObject([201, { by: 'kim', known: 'authenticated' }]);
    expect((await look()).reviews).toEqual([review]);
    expect(await say({ reason: 'read it' })).toEqual([201, review]);
    expect((await look()).reviews).toHaveLength(1);
  });

  test('of the owner of the socket is one of somebody who is merely named', async () => {
    const { service } = api.fake;
    const { manifest } = await look();
    const asked = { manifest: manifest, verdict: 'accepted', reason: '' } as const;
    await expect(service.proposals.give(service.local(), run.dir.id, asked)).rejects.toMatchObject({
      code: 'run_not_found',
    });
    const own = await api.fake.closedRun({ team: 'local', identity: service.local().identity });
    const view = await service.proposals.review(service.local(), own.dir.id);
    const give = service.proposals.give(service.local(), own.dir.id, { ...asked, manifest: view.manifest });
    await expect(give).rejects.toMatchObject({ code: 'forbidden' });
    const other = service.proposals.give(service.local('kim'), own.dir.id, { ...asked, manifest: view.manifest });
    expect(await other).toMatchObject({ by: 'local:kim', known: 'named' });
  });

  test('that its reviewer has signed too says so; one that is signed by somebody else is refused', async () => {
    const { manifest } = await look();
    const word = {
      bundle: manifest,
      run: run.dir.id,
      verdict: 'accepted',
      by: 'kim',
      reason: '',
      at: new Date().toISOString(),
    } as const;
    expect(await say({ signature: signWord(word, kim.privateKey) })).toMatchObject([201, { known: 'signed' }]);
    const forged = signWord({ ...word, verdict: 'rejected', reason: 'no' }, generateKeyPairSync('ed25519').privateKey);
    expect(await say({ verdict: 'rejected', reason: 'no', signature: forged })).toMatchObject([
      400,
      { code: 'invalid_request' },
    ]);
    // Somebody else's word, word for word, with a key of one's own.
    expect(await say({ signature: signWord(word, kim.privateKey) }, api.key({ identity: 'lea' }))).toMatchObject([
      400,
      {},
    ]);
    expect(createPublicKey(kim.privateKey).equals(kim.publicKey)).toBe(true);
  });
});

describe('a review is refused', () => {
  test('of whoever opened the run or called in it, by journal and by store, whatever the key', async () => {
    expect(await say({}, api.key({ identity: 'ann' }))).toMatchObject([403, { code: 'forbidden' }]);
    expect(await say({}, api.key({ identity: 'Ann' }))).toMatchObject([403, { code: 'forbidden' }]);
    api.fake.store.runs.addCaller(run.dir.id, 'kim');
    expect(await say({})).toMatchObject([403, { code: 'forbidden' }]);
    expect(kept()).toEqual([]);
  });

  test('where the run was verified meanwhile, so that it is another manifest: nothing is kept', async () => {
    const { manifest } = await look();
    await verifyIt(api.fake.service.dataDir, run);
    expect(await say({ manifest })).toMatchObject([409, { code: 'conflict' }]);
    expect(await say({ manifest: digestOf('of another run') })).toMatchObject([409, { code: 'conflict' }]);
    expect(kept()).toEqual([]);
    expect((await say({}))[0]).toBe(201);
  });

  test('of a run that is open, of one of another team, and of one that does not exist', async () => {
    const open = await api.open(api.key());
    expect(await say({}, kims, open.id)).toMatchObject([409, { code: 'run_not_open' }]);
    const blue = api.key({ team: 'blue', identity: 'bob' });
    const theirs = await say({}, blue);
    expect(theirs).toMatchObject([404, { code: 'run_not_found' }]);
    expect((await say({}, blue, newId()))[1].code).toBe(theirs[1].code);
    expect(kept()).toEqual([]);
  });

  test.each([
    ['without a reason where it rejects', { verdict: 'rejected' }],
    ['with a reason that is a book', { reason: 'x'.repeat(4097) }],
    ['in the name of somebody else', { by: 'lea' }],
    ['with a verdict of its own', { verdict: 'maybe' }],
    ['without a manifest', { manifest: 'sha256:1' }],
  ])('%s', async (_, body) => {
    expect((await say(body))[0]).toBe(400);
    expect(kept()).toEqual([]);
  });
});

test('of two reviewers at once both are heard, and of one person at once the words are all kept', async () => {
  const lea = api.key({ identity: 'lea' });
  const all = await Promise.all([
    say({}),
    say({ verdict: 'rejected', reason: 'no' }, lea),
    say({ reason: 'again' }),
    say({}, lea),
  ]);
  expect(all.map(([status]) => status)).toEqual([201, 201, 201, 201]);
  expect((await look()).reviews.map(({ by }) => by).sort()).toEqual(['kim', 'kim', 'lea', 'lea']);
});

test('a team that asks for many descriptions at once keeps another waiting for one of them, not for all', async () => {
  const own = await api.fake.closedRun({ team: 'blue', identity: 'bob' });
  const answered: string[] = [];
  const ask = async (team: string, id: string, key: string): Promise<void> => {
    const { status } = await api.ask(key, 'GET', `/v1/runs/${id}/review`);
    answered.push(`${team} ${status}`);
  };
  const many = Array.from({ length: 12 }, () => ask('red', run.dir.id, kims));
  await Promise.all([...many, ask('blue', own.dir.id, api.key({ team: 'blue', identity: 'lea' }))]);
  expect(answered).toHaveLength(13);
  expect(answered.indexOf('blue 200')).toBeLessThanOrEqual(2);
});

test('a record that was changed is told with a code, and no path of this machine', async () => {
  await say({});
  const { dataDir } = api.fake.service;
  const file = kept().find((name) => name.endsWith('.json')) ?? '';
  writeFileSync(join(dataDir.path, 'reviews', file), '{}');
  const answer = await api.ask(kims, 'GET', `/v1/runs/${run.dir.id}/review`);
  const text = await answer.text();
  expect(JSON.parse(text)).toMatchObject({ code: 'journal_broken' });
  expect(text).not.toContain(dataDir.path);
});

test('what was rolled back on the same files is told, of the own team alone', async () => {
  const { dataDir } = api.fake.service;
  const ledger = new Ledger(dataDir);
  const theirs = await api.fake.closedRun({ team: 'blue', identity: 'bob' });
  const earlier = await api.fake.closedRun();
  for (const [at, one] of [earlier, theirs].entries()) {
    const id = `${'0'.repeat(25)}${at}`;
    const when = '2026-01-02T03:04:05.678Z';
    const [bundle, policy] = [digestOf('b'), digestOf('p')];
    mkdirSync(join(dataDir.path, 'promotions', id), { recursive: true });
    const what = {
      id,
      at: when,
      by: 'ada',
      bundle,
      run: one.dir.id,
      policy,
      lane: null,
      repository: '/r',
      branch: 'b',
    };
    const how = { parent: 'c'.repeat(40), author: { name: 'a', email: 'a' }, subject: 's', verdict: 'passed' } as const;
    const demand = { action: 'review', reviews: 1, owners: false, because: [] } as const;
    const intended = { v: 1, ...what, ...how, demand, reviewers: ['ada'], paths: ['src/a.ts', 'other.ts'] } as const;
    const digest = await ledger.write('intended', intended);
    expect(digest).toBe(digestOf(canonicalJson(intended)));
    const undone = {
      v: 1,
      id,
      at: when,
      intended: digest,
      commit: 'd'.repeat(40),
      reason: 'it broke',
      by: 'ada',
    } as const;
    await ledger.write('rolled-back', undone);
  }
  const wanted = [{ path: 'src/a.ts', run: earlier.dir.id, reason: 'it broke' }];
  expect((await look()).setbacks).toMatchObject(wanted);
  const answer = await api.ask(kims, 'GET', `/v1/runs/${run.dir.id}/setbacks`);
  expect(await answer.json()).toMatchObject({ setbacks: wanted });
});
