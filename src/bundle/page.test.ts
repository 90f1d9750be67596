import { execFile } from 'node:child_process';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BundleBench, pack, unpack } from './bundle.fixture.ts';
import { memberNames } from './members.ts';
import type { Manifest } from './manifest.ts';

/** `docs/bundle.md` says how a bundle is checked with other programs: here they do it. */
let bench: BundleBench;
let page: string;
beforeAll(async () => {
  bench = await BundleBench.create();
  page = await readFile(new URL('../../docs/bundle.md', import.meta.url), 'utf8');
});
afterAll(() => bench.remove());

async function checkedByHand(bundle: Buffer): Promise<number> {
  const [, script = ''] = /## Without Glovebox[^]*?```sh\n([^]*?)```/.exec(page) ?? [];
  const cwd = await mkdtemp(join(bench.root, 'by-hand-'));
  await writeFile(join(cwd, 'run.glovebox.tar'), bundle);
  await writeFile(join(cwd, 'key.pem'), bench.key.publicPem);
  return new Promise((resolve) => {
    const child = execFile('bash', ['-euo', 'pipefail', '-c', script], { cwd }, () => resolve(child.exitCode ?? -1));
  });
}

test('the commands of the page say yes to a bundle, and no to one that was changed anywhere they look', async () => {
  const whole = await bench.bundle();
  expect(await checkedByHand(whole)).toBe(0);
  const files = unpack(whole);
  const edited = (name: string, edit: (text: string) => string) =>
    pack(new Map(files).set(name, Buffer.from(edit(files.get(name)?.toString('latin1') ?? ''), 'latin1')));
  for (const changed of [
    await edited(memberNames.patch, (text) => text.replace('read me', 'read it')),
    await edited(memberNames.manifest, (text) => text.replace('"risk":"high"', '"risk":"low"')),
    await edited(memberNames.provenance, (text) => text.replace(/"sig":"../, '"sig":"AA')),
    await pack([...files, [`contents/${'0'.repeat(64)}`, Buffer.from('more')]]),
  ])
    expect(await checkedByHand(changed)).not.toBe(0);
});

test('the page lists every file and every key of the manifest, and no other', () => {
  const rows = (heading: string): string[] => {
    const [, section = ''] = new RegExp(`## ${heading}\\n([^]*?)\\n## `).exec(page) ?? [];
    return [...section.matchAll(/^\| `([^`]+)` \|/gm)].map(([, name = '']) => name);
  };
  const names = [...unpackNames(), ...Object.values(memberNames)];
  expect(new Set(rows('What is in it'))).toEqual(new Set(names));
  const manifest: Record<keyof Manifest, true> = {
    v: true,
    run: true,
    policy: true,
    candidate: true,
    base: true,
    image: true,
    environment: true,
    intent: true,
    risk: true,
    verification: true,
    replay: true,
    journal: true,
    changes: true,
    members: true,
  };
  expect(rows('The manifest')).toEqual(Object.keys(manifest));
});

function unpackNames(): readonly string[] {
  const named = ['contents', 'context', 'fingerprints', 'outputs'].map((folder) => `${folder}/<sha256>`);
  return [...named, 'verification/<run>.ndjson'];
}
