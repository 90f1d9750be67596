import { readFile, rm, writeFile } from 'node:fs/promises';
import { afterAll, expect, test } from 'vitest';
import type { FingerprintView } from '../contract/fingerprint-view.ts';
import { documentDigest, Fingerprint } from '../drift/fingerprint.ts';
import { fileOf } from '../drift/fingerprint-files.ts';
import { findNewestFingerprint } from '../drift/recorded.ts';
import { Api } from './api.fixture.ts';

const api = await Api.open();
const { dir } = await api.fake.closedRun();
afterAll(() => api.close());

const ask = (run: string, team = 'red'): Promise<Response> =>
  api.ask(api.key({ scopes: ['read'], team }), 'GET', `/v1/runs/${run}/fingerprint`);

test('an open run has one taken when it is asked for, with the scope to read alone', async () => {
  const { id } = await api.open(api.key());
  const answer = await ask(id);
  expect(answer.status).toBe(200);
  const view = (await answer.json()) as FingerprintView;
  const fingerprint = Fingerprint.parse(view.fingerprint);
  expect(view).toMatchObject({ at: 'asked', document: documentDigest(fingerprint) });
});

test('a closed run has the newest that its journal names, for its team; for others there is no such run', async () => {
  const newest = await findNewestFingerprint(dir);
  expect(newest).toMatchObject({ at: 'asked', fingerprint: { sections: { clock: { evidence: { skew_ms: '2' } } } } });
  const found = await ask(dir.id);
  expect([found.status, await found.json()]).toEqual([200, JSON.parse(JSON.stringify(newest))]);
  const other = await ask(dir.id, 'blue');
  expect([other.status, await other.json()]).toMatchObject([404, { code: 'run_not_found' }]);
});

test('one that was changed is told with a code, and one that is gone is not there', async () => {
  const newest = await findNewestFingerprint(dir);
  if (newest === undefined) throw new Error('there is none');
  const file = fileOf(dir, newest.document);
  await writeFile(file, (await readFile(file, 'utf8')).replace('6.1', '6.2'));
  const changed = await ask(dir.id);
  const text = await changed.text();
  expect([changed.status, JSON.parse(text)]).toMatchObject([422, { code: 'journal_broken' }]);
  expect(text).not.toContain(api.fake.service.dataDir.path);
  await rm(file);
  const gone = await ask(dir.id);
  expect([gone.status, await gone.json()]).toMatchObject([404, { code: 'not_found' }]);
});
