import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { momentSections, sectionNames, type Fingerprint } from '../src/drift/fingerprint.ts';
import { fileOf, readFingerprint } from '../src/drift/fingerprint-files.ts';
import { checkJournal } from '../src/journal/check.ts';
import type { EntryData } from '../src/journal/entry.ts';
import { readEntries } from '../src/journal/read.ts';
import { Runner, type Run } from '../src/runner.ts';
import { smallPolicy } from './fixtures/bench.ts';
import { openRunnerBench } from './fixtures/runner-bench.ts';

const { bench, runner } = await openRunnerBench();
const compared = sectionNames.filter((name) => !momentSections.has(name));

async function opened(extra = '', workspace?: string): Promise<Run> {
  return runner.open({ policy: smallPolicy(extra), ...(workspace === undefined ? {} : { workspace }) });
}

async function taken(run: Run): Promise<Fingerprint> {
  return (await run.fingerprints.take('asked')).fingerprint;
}

/** Of a run that is opened for it alone. */
async function fingerprintOf(extra = '', workspace?: string): Promise<Fingerprint> {
  const run = await opened(extra, workspace);
  try {
    return await taken(run);
  } finally {
    await run.close();
  }
}

function differing(one: Fingerprint, other: Fingerprint): readonly string[] {
  return compared.filter((name) => one.sections[name]?.digest !== other.sections[name]?.digest);
}

async function recorded(run: Run): Promise<readonly EntryData<'environment.fingerprint'>[]> {
  const found: EntryData<'environment.fingerprint'>[] = [];
  for await (const entry of readEntries(run.dir.journal))
    if (entry.type === 'environment.fingerprint') found.push(entry.data);
  return found;
}

test('two sandboxes of one image and policy have one digest, and a change of one thing changes its section alone', async () => {
  const one = await fingerprintOf();
  const again = await fingerprintOf();
  expect(differing(one, again)).toEqual([]);
  expect(again.digest).toBe(one.digest);
  expect(Object.keys(one.sections).sort()).toEqual([...sectionNames].sort());
  expect(one.sections.tools?.evidence['git']).toMatch(/^1:2\.\S+ \/usr\/bin\/git sha256:/);
  expect(one.sections.users?.evidence['agent']).toBe('10001:10001 /home/agent /bin/bash');

  const env = await fingerprintOf('env: { set: { EXTRA: one } }');
  expect(differing(one, env)).toEqual(['env', 'policy']);
  const zone = await fingerprintOf('env: { set: { TZ: Asia/Tokyo } }');
  expect(differing(one, zone)).toEqual(['env', 'time_zone', 'policy']);
  expect(zone.sections.time_zone?.evidence['TZ']).toBe('Asia/Tokyo');
});

test('limits, inputs and a base that are others show in their sections', async () => {
  const one = await fingerprintOf();
  const directory = await bench.workspace({ 'data.txt': 'x' });
  const input = await fingerprintOf(`inputs: [{ source: ${directory}, target: /inputs/data }]`);
  expect(differing(one, input)).toEqual(['policy', 'mounts']);
  expect(input.sections.mounts?.evidence['/inputs/data']).toBeDefined();
  const workspace = await bench.workspace({ 'a.txt': 'x' });
  expect(differing(one, await fingerprintOf('', workspace))).toEqual(['base']);
});

test('what somebody changes of a container from outside shows beside what was asked', async () => {
  const run = await opened();
  const before = await taken(run);
  await execa('docker', ['update', '--pids-limit', '99', run.sandbox.containerId]);
  const after = await taken(run);
  expect(differing(before, after)).toEqual(['limits']);
  expect(after.sections.limits?.evidence).toMatchObject({ 'asked.pids': '64', 'engine.pids': '99' });
  await run.close();
});

test('what a call leaves is no other environment, but for what it installs beside a lockfile', async () => {
  const workspace = await bench.workspace({ 'package-lock.json': lockOf('4.17.21') });
  const run = await opened('', workspace);
  const before = await taken(run);
  expect(before.sections.lockfiles?.evidence['package-lock.json']).toBe('not_installed');
  const script = 'echo x > /tmp/x; sleep 60 & mkdir -p build; echo x > src.txt; export TZ=Asia/Tokyo';
  const result = await run.call('leaves', { tool: 'exec', script, descendants: 'keep' });
  expect(result.ok, result.text).toBe(true);
  const after = await taken(run);
  expect(after.digest).toBe(before.digest);
  expect(after.sections.processes?.evidence).not.toEqual({});
  await run.close();
});

test('what one run puts on its PATH is no program of the image, for itself or for those that come after', async () => {
  await rm(join(bench.dataDir.path, 'fingerprints'), { recursive: true, force: true });
  const own = await Runner.create(bench.engine, bench.dataDir); // nobody has looked at the image
  const workspace = await bench.workspace({ 'bin/git': 'forged' });
  const forging = smallPolicy('env: { set: { PATH: "/workspace/bin:/usr/bin:/bin" } }');
  const forged = await own.open({ policy: forging, workspace });
  const { fingerprint } = await forged.fingerprints.take('asked');
  expect(fingerprint.sections.tools?.evidence['git']).toMatch(/^1:2\.\S+ \/usr\/bin\/git sha256:/);
  await forged.close();
  await own.close();
});

test('a run has one taken as it opens, named by its journal after its file is there', async () => {
  const own = await Runner.create(bench.engine, bench.dataDir, { fingerprints: true });
  const run = await own.open({ policy: smallPolicy() });
  const first = await run.fingerprints.opened();
  expect(first).toBe(await run.fingerprints.opened());
  const asked = await run.fingerprints.take('asked');
  await run.close();
  const entries = await recorded(run);
  // The last one is held against the first, as policies have it by default.
  expect(entries.map(({ at }) => at)).toEqual(['open', 'asked', 'close']);
  for (const { document, digest } of entries) expect((await readFingerprint(run.dir, document)).digest).toBe(digest);
  expect(asked.fingerprint.digest).toBe(first?.fingerprint.digest);
  expect(await checkJournal(run.dir.journal)).toMatchObject({ verdict: 'closed' });
  // Large and the same for each run on an image: one file for all of them.
  const { packages } = asked.fingerprint.sections;
  if (packages === undefined) throw new Error('no packages');
  expect((await stat(fileOf(run.dir, packages.digest))).nlink).toBeGreaterThan(1);
  await own.close();
});

test('the newest on record is shown of a closed run, and all of it as JSON', async () => {
  const run = await opened();
  const { document, fingerprint } = await run.fingerprints.take('asked');
  await run.close();
  const shown = await bench.cliHere(['fingerprint', run.id]);
  expect(shown.stdout).toContain(`${fingerprint.digest}  taken at asked`);
  expect(shown.stdout).toMatch(/^time_zone +[0-9a-f]{12} {2}\/etc\/localtime=-> \S+, TZ=UTC$/m);
  const { stdout } = await bench.cliHere(['fingerprint', run.id, '--json']);
  expect(JSON.parse(stdout)).toMatchObject({ at: 'asked', document, fingerprint: { digest: fingerprint.digest } });
});

test('one whose file was changed is not what was written', async () => {
  const run = await opened();
  const { document } = await run.fingerprints.take('asked');
  await run.close();
  const file = fileOf(run.dir, document);
  await writeFile(file, (await readFile(file, 'utf8')).replace('"TZ":"UTC"', '"TZ":"utc"'));
  await expect(readFingerprint(run.dir, document)).rejects.toMatchObject({ code: 'journal_broken' });
});

test('under gVisor two sandboxes have one digest too, which is not that of the other runtime', async () => {
  const gvisor = 'runtime: runsc';
  const [one, again] = [await fingerprintOf(gvisor), await fingerprintOf(gvisor)];
  expect(again.digest).toBe(one.digest);
  expect(one.sections.runtime?.evidence['name']).toBe('runsc');
});

function lockOf(version: string): string {
  return JSON.stringify({ lockfileVersion: 3, packages: { 'node_modules/lodash': { version } } });
}
