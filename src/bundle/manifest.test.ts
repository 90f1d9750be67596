import { describe, expect, test } from 'vitest';
import { digestOf, type Digest } from '../digest.ts';
import { digestOfManifest, encodeManifest, parseManifest, type Manifest } from './manifest.ts';

const some = (seed: string): Digest => digestOf(seed);

const manifest: Manifest = {
  v: 1,
  run: '01j00000000000000000000000',
  policy: some('policy'),
  candidate: some('change set'),
  base: { digest: some('base'), commit: 'a'.repeat(40) },
  image: { reference: 'base', id: some('image') },
  intent: 'mend the parser',
  risk: 'medium',
  journal: { entries: 7, head: some('journal') },
  changes: [
    {
      path: 'src/a.ts',
      status: 'modified',
      before: { kind: 'file', mode: 0o644, digest: some('old'), bytes: 3 },
      after: { kind: 'file', mode: 0o755, digest: some('new'), bytes: 4 },
      categories: ['source'],
      flags: ['becomes_executable'],
    },
  ],
  members: [{ path: 'change-set.json', bytes: 10, digest: some('change set') }],
};

describe('a manifest', () => {
  test('is read back from its text, and has one digest however its members are ordered', () => {
    const text = encodeManifest(manifest);
    expect(parseManifest(text)).toEqual(manifest);
    const turned = Object.fromEntries(Object.entries(manifest).reverse()) as Manifest;
    expect(digestOfManifest(turned)).toBe(digestOf(text));
  });

  test.each([
    ['with a space', ' '],
    ['with a newline at its end', '\n'],
  ])('is refused %s', (_, more) => {
    expect(() => parseManifest(encodeManifest(manifest) + more)).toThrow(/one form/);
  });

  test('is refused with a key twice, an unknown key, or a path that leaves the workspace', () => {
    const text = encodeManifest(manifest);
    expect(() => parseManifest(text.replace('"v":1', '"v":1,"v":1'))).toThrow(/one form/);
    expect(() => parseManifest(text.replace('"v":1', '"v":1,"w":1'))).toThrow(/no manifest/);
    expect(() => parseManifest(text.replace('src/a.ts', '../a.ts'))).toThrow(/no manifest/);
  });

  test.each(['../other', '/etc', 'a//b', ''])(
    'is refused where its workspace lies at %j of the repository',
    (below) => {
      const text = encodeManifest({ ...manifest, base: { ...manifest.base, below } });
      expect(() => parseManifest(text)).toThrow(/no manifest/);
    },
  );
});
