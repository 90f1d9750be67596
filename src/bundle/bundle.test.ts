import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOfContext } from '../context/context-snapshot.ts';
import { DataDir } from '../data-dir/data-dir.ts';
import { digestOf } from '../digest.ts';
import { newId } from '../ids.ts';
import { BundleBench, unpack } from './bundle.fixture.ts';
import { readBundle } from './check.ts';
import { believed, makeClosedRun, replayIt, verifyIt } from './closed-run.fixture.ts';
import { describeRun } from './export.ts';

let bench: BundleBench;
beforeAll(async () => {
  bench = await BundleBench.create();
});
afterAll(() => bench.remove());

describe('a bundle', () => {
  test('gives back what the run has changed, to whoever has the public key and the file alone', async () => {
    const path = await bench.file(await bench.bundle());
    const bundle = await readBundle(path, [bench.publicKey]);
    expect(bundle.changeSet).toEqual(bench.run.changeSet);
    expect(bundle.policy.digest).toBe(bench.run.policy.digest);
    expect(bundle.policy.source, 'where it was found is of no concern elsewhere').toBe('small.yaml');
    expect(bundle.signedBy).toBe(bench.key.id);
    expect(bundle.verification?.verdict).toBe('passed');
    expect([...bundle.facts.contexts.values()]).toEqual([believed]);
    for (const change of bundle.changeSet.changes.values())
      if (change.kind === 'file') expect(digestOf(await bundle.contents(change.digest))).toBe(change.digest);
    expect(await bundle.patch()).toEqual(await readFile(bench.run.dir.patch));
    expect(bundle.digest).toBe(digestOf(unpack(await readFile(path)).get('manifest.json') ?? ''));
    expect(bundle.digest).toBe((await describeRun(bench.dataDir, bench.run.dir.id)).digest);
  });

  test('says of every change what was there before, what is there now, and what to look at twice', async () => {
    const { manifest } = await readBundle(await bench.file(await bench.bundle()), [bench.publicKey]);
    const told = new Map(manifest.changes.map((change) => [change.path, change]));
    expect([...told.keys()]).toEqual([...bench.run.changeSet.changes.keys()]);
    expect(told.get('gone.txt')).toMatchObject({ status: 'deleted', before: { kind: 'file', bytes: 14 } });
    expect(told.get('gone.txt')).not.toHaveProperty('after');
    expect(told.get('link')).toMatchObject({
      before: { target: 'README.md' },
      after: { target: 'src/a.ts' },
      flags: ['link'],
    });
    expect(told.get('tool.sh')).toMatchObject({
      status: 'mode_changed',
      categories: ['execution_bearing'],
      flags: ['becomes_executable', 'mode_normalised'],
    });
    expect(told.get('image.bin')?.categories).toContain('binary');
    expect(manifest).toMatchObject({
      risk: 'high',
      intent: 'mend it',
      base: { commit: 'c'.repeat(40) },
      verification: { verdict: 'passed' },
    });
  });

  test('of one run is the same bytes, however often it is exported and from wherever the data directory lies', async () => {
    const first = await bench.bundle();
    expect((await bench.bundle()).equals(first)).toBe(true);
    await cp(bench.dataDir.path, join(bench.root, 'elsewhere'), { recursive: true });
    expect((await bench.bundle(await DataDir.open(join(bench.root, 'elsewhere')))).equals(first)).toBe(true);
  });

  test('of a run that nobody has verified says so, and has no test result', async () => {
    const run = await makeClosedRun(bench.dataDir);
    const { manifest, files } = await describeRun(bench.dataDir, run.dir.id);
    expect(manifest).not.toHaveProperty('verification');
    expect(files.map(({ path }) => path).filter((path) => path.startsWith('verification'))).toEqual([]);
  });

  test('has another digest once the run is verified again', async () => {
    const run = await makeClosedRun(bench.dataDir);
    const before = await describeRun(bench.dataDir, run.dir.id);
    await verifyIt(bench.dataDir, run, { verdict: 'needs_review' });
    const after = await describeRun(bench.dataDir, run.dir.id);
    expect(after.manifest.verification?.verdict).toBe('needs_review');
    expect(after.digest).not.toBe(before.digest);
  });

  test('is still one when what commands have printed is kept no longer', async () => {
    const run = await makeClosedRun(bench.dataDir);
    const before = await describeRun(bench.dataDir, run.dir.id);
    expect(before.files.filter(({ path }) => path.startsWith('outputs/'))).toHaveLength(1);
    await rm(join(run.dir.callsDir, 'ledger.ndjson'));
    const after = await describeRun(bench.dataDir, run.dir.id);
    expect(after.files.filter(({ path }) => path.startsWith('outputs/'))).toEqual([]);
  });

  test('is believed from keys that were given, and from no other', async () => {
    const bytes = await bench.bundle();
    const other = createPublicKey(generateKeyPairSync('ed25519').privateKey);
    expect((await bench.check(bytes, [other, bench.publicKey])).problems).toEqual([]);
    for (const keys of [[], [other]])
      expect((await bench.check(bytes, keys)).problems).toMatchObject([
        { member: 'provenance.dsse.json', field: 'signatures.0.keyid' },
        { member: 'test-result.dsse.json', field: 'signatures.0.keyid' },
      ]);
    await expect(readBundle(await bench.file(bytes), [other])).rejects.toMatchObject({ code: 'bundle_refused' });
  });
});

test('whoever said what the agent believes has a part in the run, and reviews nothing of it', async () => {
  const { dir } = await makeClosedRun(bench.dataDir, { said: { by: 'eve' } });
  expect((await describeRun(bench.dataDir, dir.id)).facts.story.involved).toContain('eve');
});

describe('a run is not exported', () => {
  const edit = async (file: string, change: (text: string) => string) =>
    writeFile(file, change(await readFile(file, 'utf8')));

  test.each([
    ['change-set.json', (text: string) => text.replace('"mode":493', '"mode":420')],
    ['base.json', (text: string) => text.replace('"sizeBytes":8', '"sizeBytes":9')],
    ['policy.json', (text: string) => text.replace('384MiB', '385MiB')],
    ['diff.json', (text: string) => text.replace('"deleted"', '"added"')],
    ['diff.json', (text: string) => text.replace('"mode_normalised"', '"odd_name"')],
    ['changes.patch', (text: string) => text.replace('read me, and more', 'read me, or less.')],
    ['journal.ndjson', (text: string) => text.replace('mend it', 'break it')],
    ['journal.ndjson', (text: string) => text.replaceAll('"at":"2', '"at":"1')],
    ['calls/ledger.ndjson', (text: string) => text.replace('"bytes":"c', '"bytes":"d')],
  ])('when its %s is not what its journal names', async (name, change) => {
    const { dir } = await makeClosedRun(bench.dataDir);
    await edit(join(dir.path, name), change);
    const error: unknown = await describeRun(bench.dataDir, dir.id).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'journal_broken' });
    expect(String(error)).toContain(
      name === 'calls/ledger.ndjson' ? 'outputs/' : name === 'journal.ndjson' ? 'line 1' : name,
    );
  });

  test('when a content of it is lost, or was asked of people in other words', async () => {
    const { dir } = await makeClosedRun(bench.dataDir);
    const [name] = (await import('node:fs')).readdirSync(dir.approvalsDir);
    await edit(join(dir.approvalsDir, name ?? ''), (text) => text.replace('"quorum":1', '"quorum":2'));
    await expect(describeRun(bench.dataDir, dir.id)).rejects.toThrow(/approvals.json: 0.request.quorum/);
    const elsewhere = await DataDir.open(join(bench.root, 'lost'));
    const run = await makeClosedRun(elsewhere);
    await rm(elsewhere.blobsDir, { recursive: true });
    await expect(describeRun(elsewhere, run.dir.id)).rejects.toMatchObject({ code: 'journal_broken' });
  });

  test('when what its agent believed is not what the journal says, was changed, or is lost', async () => {
    const name = `context/${digestOfContext(believed).slice('sha256:'.length)}`;
    const put = async (said: object): Promise<unknown> => {
      const { dir } = await makeClosedRun(bench.dataDir, { said });
      return describeRun(bench.dataDir, dir.id).catch((thrown: unknown) => thrown);
    };
    for (const said of [{ summary: 'all is well' }, { version: 2 }, { model: 'quick-1' }, { bytes: 7 }]) {
      const error = await put(said);
      expect(error, JSON.stringify(said)).toMatchObject({ code: 'journal_broken' });
      expect(String(error)).toContain(name);
    }
    const { dir } = await makeClosedRun(bench.dataDir);
    await edit(join(dir.path, `${name}.json`), (text) => text.replace('one', 'two'));
    await expect(describeRun(bench.dataDir, dir.id)).rejects.toThrow(/is not what was attached/);
    await rm(join(dir.path, `${name}.json`));
    await expect(describeRun(bench.dataDir, dir.id)).rejects.toThrow(/context snapshot .* is not there any more/);
  });

  test('when its verification is of another candidate', async () => {
    const run = await makeClosedRun(bench.dataDir);
    await verifyIt(bench.dataDir, run, { candidate: digestOf('another') });
    await expect(describeRun(bench.dataDir, run.dir.id)).rejects.toThrow(/verification.json: candidate/);
  });

  test('when its replay is of other changes, or of the journal as it was before', async () => {
    const run = await makeClosedRun(bench.dataDir);
    await replayIt(run, { candidate: digestOf('another'), journal: digestOf('before') });
    await expect(describeRun(bench.dataDir, run.dir.id)).rejects.toThrow(/replay.json: journal/);
  });

  test('when it is not closed, or is no run', async () => {
    const { dir } = await makeClosedRun(bench.dataDir);
    await edit(dir.journal, (text) => text.split('\n').slice(0, -2).join('\n') + '\n');
    await expect(describeRun(bench.dataDir, dir.id)).rejects.toMatchObject({ code: 'run_not_open' });
    await expect(describeRun(bench.dataDir, newId())).rejects.toMatchObject({ code: 'run_not_found' });
  });
});
