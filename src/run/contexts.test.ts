import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { contextsMax, findContext } from '../context/context-files.ts';
import { ContextStory } from '../context/context-story.ts';
import { Credentials } from '../credentials/credentials.ts';
import { RunDir } from '../data-dir/run-dir.ts';
import { digestOf } from '../digest.ts';
import { contextFailpoints } from '../failpoint.ts';
import type { Draft, Entry } from '../journal/entry.ts';
import { checkJournal } from '../journal/check.ts';
import { readEntries } from '../journal/read.ts';
import { attached, closed, entriesOf, opened, run } from '../journal/story.fixture.ts';
import { Journal } from '../journal/writer.ts';
import { Contexts, contextsOf, type ContextsParts } from './contexts.ts';
import { compiled } from '../program.fixture.ts';

let root: string;
let dir: RunDir;
let journal: Journal;
let attachedCount: number;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'glovebox-contexts-'));
  dir = new RunDir(run, root);
  journal = await Journal.create(dir.journal, run);
  await journal.append(opened);
  attachedCount = 0;
});
afterEach(async () => {
  await journal.close();
  await rm(root, { recursive: true, force: true });
});

function contexts(
  parts: Partial<ContextsParts> = {},
  before: ConstructorParameters<typeof Contexts>[1] = new ContextStory(),
): Contexts {
  const policy = { lane: 'explore', models: [] };
  const onAttached = (): void => void (attachedCount += 1);
  return new Contexts({ dir, journal, policy, mask: (text) => text, onAttached, ...parts }, before);
}

async function entries(): Promise<readonly Entry[]> {
  const all: Entry[] = [];
  for await (const entry of readEntries(dir.journal)) all.push(entry);
  return all.slice(1);
}

function storyOf(...drafts: readonly Draft[]): ContextStory {
  const story = new ContextStory();
  for (const entry of entriesOf(drafts)) story.push(entry);
  return story;
}

async function storySoFar(): Promise<ContextStory> {
  const story = new ContextStory();
  for await (const entry of readEntries(dir.journal)) story.push(entry);
  return story;
}

const said = (version: number, more: object = {}): object => ({ version, summary: `belief ${version}`, ...more });

describe('a context snapshot that is attached', () => {
  test('is on the disk whole, and in the journal in short', async () => {
    const summary = `\u001b[2J${'long '.repeat(300)}`;
    const { digest, number } = await contexts().attach(
      said(1, { summary, source_refs: ['a.ts:1'], model: 'strong-2', tokens: { input: 5, output: 6 } }),
      'ada',
    );
    expect(number).toBe(1);
    expect(await findContext(dir, digest)).toMatchObject({ version: 1, summary, source_refs: ['a.ts:1'] });
    const [entry] = await entries();
    expect(entry).toMatchObject({
      type: 'context.attached',
      data: { number: 1, digest, sources: 1, diffs: 0, model: 'strong-2', tokens: { input: 5, output: 6 }, by: 'ada' },
    });
    const shown = entry?.type === 'context.attached' ? entry.data.summary : '';
    expect(shown).toMatch(/^\\x1b\[2Jlong [\x20-\x7e]*\.\.\.$/);
    expect(shown.length).toBe(503);
    expect(attachedCount).toBe(1);
  });

  test('twice is the same one, also after others and for the next runner', async () => {
    const first = contexts();
    const one = await first.attach(said(1));
    const two = await first.attach(said(2));
    expect(await first.attach(said(1))).toEqual(one);
    expect(await contexts({}, await storySoFar()).attach(said(2))).toEqual(two);
    expect(await entries()).toHaveLength(2);
    expect(attachedCount, 'what was said before makes nothing fresh').toBe(2);
  });

  test('by many at once is counted on one after the other', async () => {
    const many = contexts();
    const numbers = await Promise.all(Array.from({ length: 20 }, (_, at) => many.attach(said(at % 10))));
    expect(new Set(numbers.map(({ number }) => number)).size).toBe(10);
    await journal.append(closed(0));
    expect(await checkJournal(dir.journal)).toMatchObject({ verdict: 'closed' });
  });

  test('holds no credential that the run has sent, in any spelling', async () => {
    const gh = {
      source: 'env:TOKEN',
      host: 'api.test',
      path: ['/**'],
      methods: ['GET'],
      header: 'Authorization',
      format: 'Bearer {}',
      ttlMs: 60_000,
    } as const;
    const env = { TOKEN: 'ghp_secretsecret123' };
    const credentials = Credentials.open({ credentials: { gh }, commands: {}, env });
    const asked = {
      rule: { id: 'r', credential: 'gh' },
      method: 'GET',
      url: new URL('https://api.test/x'),
      headers: [],
    };
    (await credentials.prepare(asked)).carried?.end();
    const gate = { contextAttached: () => undefined };
    const masking = contextsOf(
      { dir, journal, policy: { lane: null, models: [] }, gate, fence: { credentials } },
      new ContextStory(),
    );
    const base64 = Buffer.from('ghp_secretsecret123').toString('base64');
    const { digest } = await masking.attach(
      said(1, {
        summary: 'the token is ghp_secretsecret123 – ü',
        source_refs: ['https://x/?t=ghp_secretsecret123'],
        diffs: [{ path: 'ghp_secretsecret123', text: base64 }],
      }),
    );
    const kept = await findContext(dir, digest);
    expect(kept?.summary).toBe(`the token is ${'*'.repeat(19)} – ü`);
    const everything = `${JSON.stringify(kept)}${await readFile(dir.journal, 'utf8')}`;
    expect(everything).not.toMatch(/ghp_secret|Z2hwX3NlY3JldH/);
  });

  test('is refused when there are too many, or too many bytes, and nothing is left of it', async () => {
    const nearly = { attached: [], worker: {}, bytes: 16 * 1024 ** 2 - 50 };
    await expect(contexts({}, nearly).attach(said(1))).rejects.toMatchObject({ code: 'limit_exceeded' });
    const [one] = storyOf(attached(1)).attached;
    if (one === undefined) throw new Error('nothing is attached');
    const many = Array.from({ length: contextsMax }, (_, n) => ({
      ...one,
      said: { ...one.said, digest: digestOf(`${n}`) },
    }));
    const full = { attached: many, worker: {}, bytes: 0 };
    await expect(contexts({}, full).attach(said(1))).rejects.toThrow(/1000 are possible; open a fork/);
    expect(await entries()).toEqual([]);
    expect(await readdir(root)).not.toContain('context');
  });

  test('that cannot be kept is not in the journal either', async () => {
    await writeFile(dir.contextDir, 'no directory');
    await expect(contexts().attach(said(1))).rejects.toMatchObject({ code: 'data_dir_unusable' });
    expect(await entries()).toEqual([]);
    await rm(dir.contextDir);
    await mkdir(dir.contextDir);
    expect(await contexts().attach(said(1))).toMatchObject({ number: 1 });
  });

  test('of a model that may not work in the lane is refused', async () => {
    const strict = contexts({ policy: { lane: 'commit', models: ['strong-*'] } });
    await expect(strict.attach(said(1, { model: 'quick-1' }))).rejects.toThrow(/in lane commit only strong-\*/);
    await strict.attach(said(1, { model: 'strong-3' }));
  });
});

describe('a hand-over within a run', () => {
  test('is an entry before the snapshot that names somebody else, and only then', async () => {
    const own = contexts();
    await own.attach(said(1, { model: 'quick-1', lane: 'explore' }));
    await own.attach(said(2, { model: 'quick-1' }));
    await own.attach(said(3, { model: 'strong-2' }));
    await own.attach(said(4, { lane: 'commit' }));
    expect((await entries()).map(({ type }) => type)).toEqual([
      'context.attached',
      'context.attached',
      'lane.handed_over',
      'context.attached',
      'lane.handed_over',
      'context.attached',
    ]);
    expect((await entries()).filter(({ type }) => type === 'lane.handed_over').map(({ data }) => data)).toEqual([
      { from: { run, lane: 'explore', model: 'quick-1' }, to: { lane: 'explore', model: 'strong-2' } },
      { from: { run, lane: 'explore', model: 'strong-2' }, to: { lane: 'commit', model: 'strong-2' } },
    ]);
    expect((await storySoFar()).worker).toEqual({ lane: 'commit', model: 'strong-2' });
  });
});

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const program = `
  import { Journal } from '${here('../journal/writer.ts')}';
  import { readEntries } from '${here('../journal/read.ts')}';
  import { RunDir } from '${here('../data-dir/run-dir.ts')}';
  import { ContextStory } from '${here('../context/context-story.ts')}';
  import { Contexts } from '${here('./contexts.ts')}';
  const [root, run] = process.argv.slice(2);
  const dir = new RunDir(run, root);
  const { journal } = await Journal.resume(dir.journal);
  const story = new ContextStory();
  for await (const entry of readEntries(dir.journal)) story.push(entry);
  const parts = { dir, journal, policy: { lane: null, models: [] }, mask: (text) => text, onAttached: () => undefined };
  await new Contexts(parts, story).attach({ version: 2, summary: 'b', model: 'strong-2' });
  await journal.close();`;

describe('a runner that dies while one is attached', () => {
  test.each(contextFailpoints)(
    'at %s leaves nothing in the journal that is not on the disk, and the next one goes on',
    async (name) => {
      await contexts().attach(said(1, { model: 'quick-1' }));
      await journal.close();
      expect(await play(`${name}:kill`)).toContain(`failpoint ${name}: kill`);
      expect(await play('')).toBe('');
      const story = await storySoFar();
      expect(story.attached.map(({ said: { number, model } }) => [number, model])).toEqual([
        [1, 'quick-1'],
        [2, 'strong-2'],
      ]);
      for (const {
        said: { digest },
      } of story.attached)
        expect(await findContext(dir, digest)).toBeDefined();
      expect((await entries()).filter(({ type }) => type === 'lane.handed_over')).toHaveLength(1);
      expect(await checkJournal(dir.journal)).toMatchObject({ verdict: 'open', findings: [] });
    },
  );

  async function play(failpoint: string): Promise<string> {
    const argv = [await compiled(program), root, run];
    const env = { PATH: process.env['PATH'], ...(failpoint === '' ? {} : { GLOVEBOX_FAILPOINT: failpoint }) };
    return new Promise(
      (resolve) => void execFile(process.execPath, argv, { env }, (_error, _out, text) => resolve(text)),
    );
  }
});
