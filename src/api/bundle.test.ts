import { createPublicKey } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { unpack } from '../bundle/bundle.fixture.ts';
import { checkBundle } from '../bundle/check.ts';
import { openSigningKey } from '../bundle/signing-key.ts';
import { Api } from './api.fixture.ts';

const api = await Api.open();
const run = (await api.fake.closedRun()).dir.id;
afterAll(() => api.close());

test('a key of the team takes the whole bundle of a closed run, which the public key of the service verifies', async () => {
  const { dataDir } = api.fake.service;
  const answer = await api.ask(api.key({ scopes: ['read'] }), 'GET', `/v1/runs/${run}/bundle`);
  expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/x-tar']);
  const bytes = Buffer.from(await answer.arrayBuffer());
  const file = join(dataDir.path, 'taken.tar');
  await writeFile(file, bytes);
  const key = createPublicKey((await openSigningKey(dataDir.path)).publicPem);
  expect((await checkBundle(file, [key])).problems).toEqual([]);
  expect(unpack(bytes).get('policy.json')?.toString()).not.toContain('/etc/policies');
  const again = await api.ask(api.key({ scopes: ['read'] }), 'GET', `/v1/runs/${run}/bundle`);
  expect(Buffer.from(await again.arrayBuffer()).equals(bytes)).toBe(true);
});

test('a run that is open has none, and a run of another team is one that does not exist', async () => {
  const own = await api.open(api.key());
  const open = await api.ask(api.key(), 'GET', `/v1/runs/${own.id}/bundle`);
  expect(open.status).toBeGreaterThanOrEqual(400);
  const other = await api.ask(api.key({ team: 'blue' }), 'GET', `/v1/runs/${run}/bundle`);
  expect([other.status, ((await other.json()) as { code: string }).code]).toEqual([404, 'run_not_found']);
});

test('a content that is lost is told with a code, and no path of this machine', async () => {
  const { dataDir } = api.fake.service;
  const { dir } = await api.fake.closedRun();
  await rm(dir.patch);
  const answer = await api.ask(api.key(), 'GET', `/v1/runs/${dir.id}/bundle`);
  const text = await answer.text();
  expect(JSON.parse(text)).toMatchObject({ code: 'run_not_found' });
  expect(text).not.toContain(dataDir.path);
});
