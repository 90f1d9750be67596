import { mkdir, writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { encodeContext, parseContext } from '../context/context-snapshot.ts';
import { keepContext } from '../context/context-files.ts';
import type { ContextView } from '../contract/context-view.ts';
import type { RunDir } from '../data-dir/data-dir.ts';
import { digestOf } from '../digest.ts';
import type { Draft } from '../journal/entry.ts';
import { attached, closed, denied, ended, intended, linesOf, opened, textOf } from '../journal/story.fixture.ts';
import { openApiWithRun } from './api.fixture.ts';

const { api, key, run } = await openApiWithRun();

const said = { version: 1, summary: 'read() drops the last line', model: 'strong-2' };

async function tell(dir: RunDir, drafts: readonly Draft[]): Promise<void> {
  await mkdir(dir.path, { recursive: true });
  await writeFile(dir.journal, textOf(linesOf(drafts, dir.id)));
}

describe('what an agent believes', () => {
  test('is attached for whoever may call, who has a part in the run from then on', async () => {
    const other = api.key({ identity: 'bob' });
    const answer = await api.ask(other, 'POST', `/v1/runs/${run}/context`, said);
    expect([answer.status, await answer.json()]).toEqual([
      201,
      { number: 1, digest: digestOf(encodeContext(parseContext(said))) },
    ]);
    expect(api.fake.runner.get(run).contexts).toMatchObject([{ by: 'bob', snapshot: { model: 'strong-2' } }]);
    expect(api.fake.store.runs.callers(run)).toContain('bob');
  });

  test.each<[string, unknown, number]>([
    ['nothing', {}, 400],
    ['more than there is to say', { ...said, beliefs: ['x'] }, 400],
    ['JSON of a thousand levels', `{"summary":${'['.repeat(1000)}${']'.repeat(1000)}}`, 400],
    ['a megabyte', { ...said, summary: 'x'.repeat(1_048_576) }, 413],
    [
      'a quarter of one, in parts that fit',
      { ...said, source_refs: Array.from({ length: 256 }, () => 'x'.repeat(1024)) },
      413,
    ],
  ])('is refused where it is %s, and nothing is attached', async (_, body, status) => {
    const before = api.fake.runner.get(run).contexts.length;
    const type = { 'content-type': 'application/json' };
    expect((await api.ask(key, 'POST', `/v1/runs/${run}/context`, body, type)).status).toBe(status);
    expect(api.fake.runner.get(run).contexts).toHaveLength(before);
  });

  test('of another team is answered as of a run that does not exist; without the scope not at all', async () => {
    const eve = api.key({ team: 'blue', identity: 'eve' });
    const reader = api.key({ scopes: ['read'] });
    const caller = api.key({ scopes: ['call'] });
    const path = `/v1/runs/${run}/context`;
    expect((await api.ask(eve, 'POST', path, said)).status).toBe(404);
    expect((await api.ask(eve, 'GET', path)).status).toBe(404);
    expect((await api.ask(reader, 'POST', path, said)).status).toBe(403);
    expect((await api.ask(caller, 'GET', path)).status).toBe(403);
  });

  test('of a run that is closed is not changed any more, and can still be read', async () => {
    const { id } = await api.open(key);
    const { dir } = api.fake.runner.get(id);
    const snapshot = parseContext(said);
    const text = encodeContext(snapshot);
    await keepContext(dir, digestOf(text), text);
    const first = attached(1, { digest: digestOf(text), model: 'strong-2' });
    await tell(dir, [
      opened,
      intended('a'),
      first,
      intended('b', 2),
      ended('a'),
      ended('b'),
      denied('c'),
      closed(2, 1),
    ]);
    expect((await api.ask(key, 'POST', `/v1/runs/${id}/close`)).status).toBe(200);
    expect((await api.ask(key, 'POST', `/v1/runs/${id}/context`, said)).status).toBe(409);
    const viewOf = async (query: string): Promise<ContextView> =>
      (await (await api.ask(key, 'GET', `/v1/runs/${id}/context${query}`)).json()) as ContextView;
    expect((await viewOf('')).inForce).toMatchObject({ number: 1, snapshot });
    expect(await viewOf('?call=a')).toMatchObject({ call: 'a', inForce: null, worker: { model: null } });
    expect(await viewOf('?call=b')).toMatchObject({ call: 'b', inForce: { number: 1 }, worker: { model: 'strong-2' } });
    expect(await viewOf('?call=c')).toMatchObject({ inForce: { number: 1 } });
    expect((await api.ask(key, 'GET', `/v1/runs/${id}/context?call=zzz`)).status).toBe(404);
    expect((await api.ask(key, 'GET', `/v1/runs/${id}/context?call=../a`)).status).toBe(400);
  });
});
