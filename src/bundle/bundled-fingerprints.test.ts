import { expect, test } from 'vitest';
import { digestOf, type Digest } from '../digest.ts';
import { someFingerprint } from '../drift/fingerprint.fixture.ts';
import { encodeDocument, encodeSection, sectionDigests, sectionFrom, sectionOf } from '../drift/fingerprint.ts';
import { readFingerprints } from './bundled-fingerprints.ts';
import type { BundleFiles, Facts } from './facts.ts';
import type { ManifestMember } from './manifest.ts';
import { fingerprintName } from './members.ts';
import type { Problem } from './problem.ts';

/** A bundle with these texts in it, each under its digest. */
function bundleOf(texts: readonly string[]): { readonly files: BundleFiles; readonly reads: Map<string, number> } {
  const all = new Map(texts.map((text) => [fingerprintName(digestOf(text)), text]));
  const reads = new Map<string, number>();
  const members = new Map(
    [...all].map(([path, text]) => [path, { path, bytes: Buffer.byteLength(text) } as ManifestMember]),
  );
  const read = async (name: string): Promise<string> => {
    reads.set(name, (reads.get(name) ?? 0) + 1);
    return all.get(name) ?? '';
  };
  return { files: { members, text: read, withLines: () => Promise.reject(new Error('no lines')) }, reads };
}

function namedBy(documents: readonly Digest[]): Facts['story'] {
  return { fingerprints: new Map(documents.map((document) => [document, {}])) } as unknown as Facts['story'];
}

test('a large section that a thousand fingerprints name is read once, and none of them is held whole', async () => {
  const large = sectionOf(new Map(Array.from({ length: 4_000 }, (_, at) => [`/usr/local/${at}`, 'x'.repeat(400)])));
  const taken = Array.from({ length: 1_000 }, (_, at) =>
    someFingerprint({ system_files: large, clock: sectionFrom({ skew_ms: at }) }),
  );
  const texts = taken.map(encodeDocument);
  const { files, reads } = bundleOf([...texts, encodeSection(large), ...packagesOf(taken[0])]);
  const problems: Problem[] = [];
  const found = await readFingerprints(namedBy(texts.map((text) => digestOf(text))), files, problems);
  expect(problems).toEqual([]);
  expect(found.size).toBe(1_000);
  expect(Math.max(...reads.values())).toBe(1);
  expect([...found.values()][0]).toEqual({
    digest: taken[0]?.digest,
    sections: sectionDigests(taken[0]?.sections ?? {}),
  });
});

function packagesOf(taken: ReturnType<typeof someFingerprint> | undefined): readonly string[] {
  const packages = taken?.sections.packages;
  return packages === undefined ? [] : [encodeSection(packages)];
}

test('what is not what it is called, not in its one form, or longer than any is, is named', async () => {
  const taken = someFingerprint({});
  const text = encodeDocument(taken);
  const inline = text.replace(/\{"apart":"sha256:[0-9a-f]{64}"\}/, JSON.stringify(sectionFrom({ a: 1 })));
  const others = [text.replace('"v":1', '"v":1,"x":1'), `${text} `, inline, '{', `"${'x'.repeat(16 * 1024 ** 2)}"`];
  for (const other of others) {
    const problems: Problem[] = [];
    const { files } = bundleOf([other]);
    expect((await readFingerprints(namedBy([digestOf(other)]), files, problems)).size).toBe(0);
    expect(problems).toMatchObject([{ member: fingerprintName(digestOf(other)) }]);
  }
  const { files } = bundleOf([text]); // and nothing of what it names
  const problems: Problem[] = [];
  await readFingerprints(namedBy([digestOf(text)]), files, problems);
  expect(problems.length).toBeGreaterThan(0);
});
