import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import { signWord, type Word } from './own-word.ts';
import { outcomeOf, type Known, type Review } from './review.ts';
import { Reviews } from './reviews.ts';

const { privateKey: key } = generateKeyPairSync('ed25519');
const machine = [createPublicKey(key)];
const ada = generateKeyPairSync('ed25519').privateKey;
const reviewers = new Map([['ada', [createPublicKey(ada)]]]);
const bundle = digestOf('a manifest');
const review = { bundle, run: newId(), verdict: 'accepted', by: 'ada', reason: 'read it', known: 'named' } as const;

let home: string;
let reviews: Reviews;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'glovebox-reviews-'));
  reviews = new Reviews({ path: home }, { machine, reviewers });
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

test('is kept for the manifest that was looked at, and for no other', async () => {
  const kept = await reviews.add(review, [], key);
  expect(await reviews.list(bundle)).toEqual([kept]);
  expect(await reviews.list(digestOf('another one'))).toEqual([]);
});

test.each([
  ['who asked for the run', 'ada', ['Ada'], 'forbidden'],
  ['the owner of a socket who asked for it', 'ada', ['local:ada'], 'forbidden'],
  ['who asked for the run and types a space more', 'ada ', ['ada'], 'forbidden'],
  ['who asked for the run, in letters of another width', '\uff41da', ['ada'], 'forbidden'],
  ['nobody', '', [], 'invalid_request'],
  ['somebody whose name is a line of its own', 'ada\nReviewed-by: eve', [], 'invalid_request'],
])('is none by %s', async (_, by, involved, code) => {
  await expect(reviews.add({ ...review, by }, involved, key)).rejects.toMatchObject({ code });
  expect(await reviews.list(bundle)).toEqual([]);
});

test('says why, where it rejects', async () => {
  const rejected = { ...review, verdict: 'rejected', reason: ' ' } as const;
  await expect(reviews.add(rejected, [], key)).rejects.toMatchObject({ code: 'invalid_request' });
});

test('is the last word of its person although the clock was set back by a day since the one before', async () => {
  const nowMs = Date.now();
  await reviews.add(review, [], key, nowMs);
  await reviews.add({ ...review, verdict: 'rejected', reason: 'no tests' }, [], key, nowMs - 86_400_000);
  const kept = await reviews.list(bundle);
  expect(kept.map(({ verdict }) => verdict)).toEqual(['accepted', 'rejected']);
  expect(kept.map(({ at }) => at)).toEqual(kept.map(({ at }) => at).toSorted());
  expect(outcomeOf(kept)).toMatchObject({ accepted: [], rejected: [{ by: 'ada' }] });
});

test('that was changed, moved here from another manifest, or signed by somebody else stops whoever asks', async () => {
  const refused = { code: 'journal_broken' };
  const { id } = await reviews.add(review, [], key);
  const folder = join(home, 'reviews', bundle.slice(7));
  const file = join(folder, `${id}.json`);
  const text = readFileSync(file, 'utf8');
  for (const at of [20, Math.floor(text.length / 2), text.length - 20]) {
    const flipped = text[at] === 'A' ? 'B' : 'A';
    writeFileSync(file, text.slice(0, at) + flipped + text.slice(at + 1));
    await expect(reviews.list(bundle)).rejects.toMatchObject(refused);
  }
  writeFileSync(file, text);
  const elsewhere = new Reviews({ path: home }, { machine: [createPublicKey(ada)] });
  await expect(elsewhere.list(bundle)).rejects.toMatchObject(refused);
  await expect(elsewhere.list(bundle)).rejects.toThrow(/signing-key --believe/);
  renameSync(folder, join(home, 'reviews', digestOf('another one').slice(7)));
  await expect(reviews.list(digestOf('another one'))).rejects.toMatchObject(refused);
  expect(readdirSync(join(home, 'reviews'))).toHaveLength(1);
});

test('has a reason that can be read again: a longer one is refused, and stops nobody who asks later', async () => {
  const huge = reviews.add({ ...review, reason: 'x'.repeat(5000) }, [], key);
  await expect(huge).rejects.toMatchObject({ code: 'invalid_request' });
  expect(await reviews.list(bundle)).toEqual([]);
});

test('the same word once more is the one that is there; another word of the same person is one more', async () => {
  const kept = await reviews.add(review, [], key);
  expect(await reviews.add(review, [], key)).toEqual(kept);
  await reviews.add({ ...review, verdict: 'rejected', reason: 'on second thought' }, [], key);
  await reviews.add(review, [], key);
  expect((await reviews.list(bundle)).map(({ verdict }) => verdict)).toEqual(['accepted', 'rejected', 'accepted']);
});

test('there are so many of one manifest and no more', async () => {
  const by = (n: number): string => `reviewer ${n}`;
  await Promise.all(Array.from({ length: 64 }, (_, n) => reviews.add({ ...review, by: by(n) }, [], key)));
  await expect(reviews.add(review, [], key)).rejects.toMatchObject({ code: 'limit_exceeded' });
});

test('nobody says so much, under however many spellings, that a rejection by another has no room', async () => {
  const say = (n: number): Promise<Review> =>
    reviews.add({ ...review, by: n % 2 === 0 ? 'eve' : 'Eve', reason: `${n}` }, [], key);
  for (let n = 0; n < 8; n++) await say(n);
  await expect(say(8)).rejects.toMatchObject({ code: 'limit_exceeded' });
  await reviews.add({ ...review, verdict: 'rejected', reason: 'it phones home' }, [], key);
  expect(outcomeOf(await reviews.list(bundle)).rejected.map(({ by }) => by)).toEqual(['ada']);
});

describe('signed by the reviewer', () => {
  const nowMs = Date.parse('2026-01-02T03:04:05.678Z');
  const word = { ...review, at: new Date(nowMs).toISOString() };
  const own = (over: Partial<Word> = {}, by = ada): string => {
    const { known: _, ...said } = { ...word, ...over };
    return signWord(said, by);
  };
  const add = (draft: object, atMs = nowMs) => reviews.add({ ...review, ...draft }, [], key, atMs);

  test('is known for that, for as long as their key is believed', async () => {
    expect(await add({ known: 'authenticated', own: own() })).toMatchObject({ known: 'signed' });
    expect(await reviews.list(bundle)).toMatchObject([{ known: 'signed', by: 'ada' }]);
    const gone = new Reviews({ path: home }, { machine });
    expect(await gone.list(bundle)).toMatchObject([{ known: 'authenticated', by: 'ada' }]);
  });

  test.each([
    ['of another manifest', () => own({ bundle: digestOf('another one') })],
    ['of another verdict', () => own({ verdict: 'rejected' })],
    ['of another reason', () => own({ reason: 'read some of it' })],
    ['of another run', () => own({ run: newId() })],
    ['of somebody else', () => own({ by: 'grace' })],
    ['with the key of somebody else', () => own({}, key)],
    ['that is no envelope', () => 'hello'],
  ])('a word %s does not count', async (_, signature) => {
    await expect(add({ own: signature() })).rejects.toMatchObject({ code: 'invalid_request' });
    expect(await reviews.list(bundle)).toEqual([]);
  });

  test('a word that is old, of tomorrow, or was used before something else was said does not count again', async () => {
    const late = add({ own: own() }, nowMs + 11 * 60_000);
    await expect(late).rejects.toMatchObject({ code: 'conflict' });
    await expect(add({ own: own() }, nowMs - 11 * 60_000)).rejects.toMatchObject({ code: 'conflict' });
    await add({ own: own() });
    await add({ own: own() });
    await add({ verdict: 'rejected', reason: 'no' }, nowMs + 1);
    await expect(add({ own: own() }, nowMs + 2)).rejects.toMatchObject({ code: 'conflict' });
    expect(await reviews.list(bundle)).toMatchObject([{ verdict: 'accepted' }, { verdict: 'rejected' }]);
  });
});

describe('what reviews come to', () => {
  const of = (by: string, verdict: Review['verdict'], known: Known = 'named'): Review => {
    return { ...review, id: newId(), at: '', by, verdict, known };
  };

  test('of each person the last word counts', () => {
    const all = [of('ada', 'rejected'), of('grace', 'accepted'), of('ada', 'accepted'), of('grace', 'rejected')];
    expect(outcomeOf(all)).toMatchObject({ accepted: ['ada'], rejected: [{ by: 'grace' }] });
  });

  test('one person by two spellings is one', () => {
    const all = ['ada', 'Ada', 'ada ', '\uff41da', '@ada', 'local:ada', 'grace'].map((name) => of(name, 'accepted'));
    expect(outcomeOf(all).accepted).toHaveLength(2);
  });

  test('nobody is accepted for who is known less surely than the policy wants', () => {
    const all = [of('ada', 'accepted', 'authenticated'), of('grace', 'accepted'), of('kim', 'accepted', 'signed')];
    expect(outcomeOf(all, 'authenticated')).toMatchObject({ accepted: ['ada', 'kim'], unsure: ['grace'] });
    expect(outcomeOf(all, 'signed')).toMatchObject({ accepted: ['kim'], unsure: ['ada', 'grace'] });
  });

  test('a rejection counts however it came, and only one as sure takes it back', () => {
    const no = of('ada', 'rejected', 'authenticated');
    expect(outcomeOf([of('ada', 'rejected')], 'signed').rejected).toHaveLength(1);
    expect(outcomeOf([no, of('ada', 'accepted')]).rejected).toHaveLength(1);
    expect(outcomeOf([no, of('ada', 'rejected'), of('ada', 'accepted')]).rejected).toHaveLength(1);
    expect(outcomeOf([no, of('ada', 'accepted', 'signed')])).toMatchObject({ accepted: ['ada'], rejected: [] });
  });
});
