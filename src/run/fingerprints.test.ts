import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RunDir } from '../data-dir/run-dir.ts';
import { digestOf } from '../digest.ts';
import { sectionFrom } from '../drift/fingerprint.ts';
import { readFingerprint } from '../drift/fingerprint-files.ts';
import { InstalledMemory } from '../drift/installed-memory.ts';
import { FakeEngine } from '../engine/fake/fake-engine.ts';
import { RunnerError } from '../errors.ts';
import { newId } from '../ids.ts';
import type { Draft, EntryData } from '../journal/entry.ts';
import { parsePolicy } from '../policy/policy.ts';
import { defaultLimits } from '../sandbox/container-body.ts';
import { FileError } from '../sandbox/spec.ts';
import { RunFingerprints, type FingerprintsParts } from './fingerprints.ts';

const image = { reference: 'base', id: digestOf('image') };
const policy = parsePolicy(
  `apiVersion: glovebox/v1
kind: Policy
name: small
images: [base]
files: { read: ["**"], write: ["**"] }
limits: { memory: 384MiB, cpus: 1, pids: 64, workspace: 32MiB, tmp: 32MiB }
`,
  'test',
);

let folder: string;
let dir: RunDir;
let entries: Draft[];
let looks: number;
/** What looking into the sandbox fails with. */
let failure: Error | undefined;
/** What it has to wait for. */
let hold: Promise<void> | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'glovebox-fingerprints-'));
  dir = new RunDir(newId(), join(folder, 'run'));
  [entries, looks, failure, hold] = [[], 0, undefined, undefined];
});
afterEach(() => rm(folder, { recursive: true }));

function opened(over: Partial<FingerprintsParts> = {}): RunFingerprints {
  const missing = async (path: string): Promise<never> => {
    await hold;
    throw failure ?? new FileError('not_found', path, path);
  };
  const sandbox = {
    spec: { id: newId(), image: image.id, runtime: 'runc', limits: defaultLimits, labels: {} },
    containerId: 'none',
    files: {
      read: missing,
      stat: missing,
      walk: async function* (paths: readonly string[]) {
        yield await missing(paths[0] ?? '');
      },
    },
    list: async () => {
      looks += 1;
      return [];
    },
    probe: async () => ({ interfaces: [{ name: 'lo', flags: 73 }], results: [] }),
  };
  return new RunFingerprints({
    dir,
    dataDir: folder,
    engine: new FakeEngine(),
    installed: new InstalledMemory(folder),
    journal: {
      append: async (draft: Draft) => {
        entries.push(draft);
        return undefined as never;
      },
    },
    sandbox: sandbox as unknown as FingerprintsParts['sandbox'],
    policy,
    image,
    base: { kind: 'plain', digest: digestOf('base') } as unknown as FingerprintsParts['base'],
    placement: { strategy: 'copy', checkout: {} },
    control: { state: () => ({ egress: { without: ['web'] }, credentials: { revoked: [] } }) as never },
    first: 'open',
    firstAfterMs: 60_000,
    ...over,
  });
}

function recorded(): readonly EntryData<'environment.fingerprint'>[] {
  return entries.flatMap((entry) => (entry.type === 'environment.fingerprint' ? [entry.data] : []));
}

/** Somebody has looked at the image before. */
async function know(): Promise<void> {
  const none = sectionFrom({});
  const installed = { packages: none, system_files: none, tools: none, users: none, locales: '', localtime: '' };
  await new InstalledMemory(folder).of(image.id, 'runc', async () => installed);
}

test('the first is taken by itself, and is the one that is asked for', async () => {
  const fingerprints = opened({ firstAfterMs: 0 });
  const first = await fingerprints.opened();
  expect(await fingerprints.opened()).toBe(first);
  expect(recorded()).toMatchObject([{ at: 'open', document: first?.document }]);
  expect((await readFingerprint(dir, first?.document ?? image.id)).digest).toBe(first?.fingerprint.digest);
  expect(first?.fingerprint.sections.egress?.evidence).toHaveProperty('without web');
  await fingerprints.end();
  expect(recorded()).toHaveLength(1);
});

test('a run that is over before is looked at as it ends, where its image is known already', async () => {
  await opened().end();
  expect(recorded()).toEqual([]);
  await know();
  await opened({ first: 'verify' }).end();
  expect(recorded()).toMatchObject([{ at: 'verify' }]);
});

test('none is taken by itself where none was asked for', async () => {
  await know();
  const fingerprints = opened({ first: undefined, firstAfterMs: 0 });
  await fingerprints.end();
  expect(await fingerprints.opened()).toBeUndefined();
  expect(entries).toEqual([]);
});

test('under the next runner the first is the one on record', async () => {
  const before = await opened().opened();
  const fingerprints = opened({ recorded: before?.document, firstAfterMs: 0 });
  expect(await fingerprints.opened()).toEqual(before);
  await fingerprints.end();
  expect(recorded()).toHaveLength(1);
});

test('one is taken at a time, in the order in which they were asked for', async () => {
  const fingerprints = opened();
  await Promise.all([fingerprints.opened(), fingerprints.take('call'), fingerprints.take('asked')]);
  expect(recorded().map(({ at }) => at)).toEqual(['open', 'call', 'asked']);
  expect(looks).toBe(3);
});

test('a run whose environment nobody could look at goes on, and says so; of a lost sandbox that is told elsewhere', async () => {
  failure = new RunnerError('sandbox_lost', 'gone');
  await expect(opened().take('asked')).rejects.toThrow('gone');
  expect(await opened().opened()).toBeUndefined();
  expect(entries).toEqual([]);
  failure = new Error('the disk is full');
  expect(await opened().opened()).toBeUndefined();
  expect(entries).toMatchObject([{ type: 'note', data: { text: expect.stringContaining('the disk is full') } }]);
});

test('a file verb that was cut short, or took too long, is no empty image: there is no fingerprint then, and nothing is remembered', async () => {
  failure = new FileError('io', '/etc', 'walk "/etc" took longer than 600000 ms; try it again');
  await expect(opened().take('asked')).rejects.toThrow('took longer');
  expect(await new InstalledMemory(folder).has(image.id, 'runc')).toBe(false);
  failure = undefined;
  const slow = opened({ withinMs: 20 });
  hold = new Promise(() => undefined);
  await expect(slow.take('asked')).rejects.toMatchObject({ code: 'engine_timeout' });
  expect(recorded()).toEqual([]);
});

test('however often somebody asks for one, the disk and the journal have a bounded number, and those who ask at once share it', async () => {
  await know();
  const fingerprints = opened({ askedMax: 20 });
  await Promise.all([fingerprints.asked(), fingerprints.asked(), fingerprints.asked()]);
  expect(recorded()).toHaveLength(1);
  const all = [];
  for (let count = 0; count < 30; count++) all.push((await fingerprints.asked()).document);
  expect(recorded()).toHaveLength(20);
  expect(new Set(all.slice(-11)).size).toBe(1);
});
