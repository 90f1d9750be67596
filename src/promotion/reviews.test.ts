import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import { outcomeOf, type Review } from './review.ts';
import { Reviews } from './reviews.ts';

const { privateKey: key } = generateKeyPairSync('ed25519');
const keys = [createPublicKey(key)];
const bundle = digestOf('a manifest');
const review = { bundle, run: newId(), verdict: 'accepted', by: 'ada', reason: 'read it' } as const;

let home: string;
let reviews: Reviews;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'glovebox-reviews-'));
  reviews = new Reviews({ path: home });
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

test('is kept for the manifest that was looked at, and for no other', async () => {
  const kept = await reviews.add(review, [], key);
  expect(await reviews.list(bundle, keys)).toEqual([kept]);
  expect(await reviews.list(digestOf('another one'), keys)).toEqual([]);
});

test.each([
  ['who asked for the run', 'ada', ['Ada'], 'forbidden'],
  ['who asked for the run and types a space more', 'ada ', ['ada'], 'forbidden'],
  ['who asked for the run, in letters of another width', '\uff41da', ['ada'], 'forbidden'],
  ['nobody', '', [], 'invalid_request'],
  ['somebody whose name is a line of its own', 'ada\nReviewed-by: eve', [], 'invalid_request'],
])('is none by %s', async (_, by, involved, code) => {
  await expect(reviews.add({ ...review, by }, involved, key)).rejects.toMatchObject({ code });
  expect(await reviews.list(bundle, keys)).toEqual([]);
});

test('says why, where it rejects', async () => {
  const rejected = { ...review, verdict: 'rejected', reason: ' ' } as const;
  await expect(reviews.add(rejected, [], key)).rejects.toMatchObject({ code: 'invalid_request' });
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
    await expect(reviews.list(bundle, keys)).rejects.toMatchObject(refused);
  }
  writeFileSync(file, text);
  await expect(
    reviews.list(bundle, [createPublicKey(generateKeyPairSync('ed25519').privateKey)]),
  ).rejects.toMatchObject(refused);
  renameSync(folder, join(home, 'reviews', digestOf('another one').slice(7)));
  await expect(reviews.list(digestOf('another one'), keys)).rejects.toMatchObject(refused);
  expect(readdirSync(join(home, 'reviews'))).toHaveLength(1);
});

test('of each person the last word counts', () => {
  const of = (by: string, verdict: Review['verdict']): Review => ({ ...review, id: newId(), at: '', by, verdict });
  const all = [of('ada', 'rejected'), of('grace', 'accepted'), of('ada', 'accepted'), of('grace', 'rejected')];
  expect(outcomeOf(all)).toMatchObject({ accepted: ['ada'], rejected: [{ by: 'grace' }] });
});

test('two spellings of a name are one person', () => {
  const of = (by: string): Review => ({ ...review, id: newId(), at: '', by });
  expect(outcomeOf([of('ada'), of('Ada'), of('ada '), of('\uff41da'), of('grace')]).accepted).toHaveLength(2);
});
