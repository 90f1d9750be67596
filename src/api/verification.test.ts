import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { someVerification } from '../verify/verification.fixture.ts';
import { writeVerification } from '../verify/verification-files.ts';
import { Api } from './api.fixture.ts';

const api = await Api.open();
const { dir } = await api.fake.closedRun();
afterAll(() => api.close());

const ask = (team = 'red'): Promise<Response> =>
  api.ask(api.key({ scopes: ['read'], team }), 'GET', `/v1/runs/${dir.id}/verification`);

test('a run has the newest of its verifications, for its team; before, and for others, it has none', async () => {
  const none = await ask();
  expect([none.status, await none.json()]).toMatchObject([404, { code: 'not_found' }]);
  const { verification, digest } = await writeVerification(dir, someVerification({ run: dir.id }));
  const found = await ask();
  expect([found.status, await found.json()]).toEqual([200, { digest, verification }]);
  const other = await ask('blue');
  expect([other.status, await other.json()]).toMatchObject([404, { code: 'run_not_found' }]);
});

test('one that was changed is told with a code, and no path of this machine', async () => {
  const { verification } = await writeVerification(dir, someVerification({ run: dir.id }));
  const file = join(dir.verificationsDir, `${verification.id}.json`);
  await writeFile(file, (await readFile(file, 'utf8')).replace('passed', 'perfect'));
  const answer = await ask();
  const text = await answer.text();
  expect([answer.status, JSON.parse(text)]).toMatchObject([422, { code: 'journal_broken' }]);
  expect(text).not.toContain(api.fake.service.dataDir.path);
});
