import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { canonicalJson, digestOf } from '../digest.ts';
import { BundleBench, pack, unpack } from './bundle.fixture.ts';
import { sealEnvelope } from './envelope.ts';
import { digestOfManifest, type Manifest } from './manifest.ts';
import { memberNames } from './members.ts';
import { provenanceText, testResultText } from './statements.ts';
import { describeRun } from './export.ts';

/** Whatever is changed in a bundle is found, and where it was changed is said. */
let bench: BundleBench;
let whole: Buffer;
let files: Map<string, Buffer>;

beforeAll(async () => {
  bench = await BundleBench.create();
  whole = await bench.bundle();
  files = unpack(whole);
});
afterAll(() => bench.remove());

/** What is said of it; nothing where it counts as whole. */
async function problemsOf(bytes: Uint8Array): Promise<readonly { member: string; field: string; message: string }[]> {
  const { problems, bundle } = await bench.check(bytes);
  expect(bundle === undefined, 'a bundle with problems is none').toBe(problems.length > 0);
  return problems;
}

async function membersBlamed(bytes: Uint8Array): Promise<readonly string[]> {
  return (await problemsOf(bytes)).map(({ member }) => member);
}

function flipped(bytes: Buffer, at: number, bit = 0): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ (1 << bit);
  return copy;
}

/** Where its header stands in the archive. */
function headerAt(name: string): number {
  return whole.indexOf(`${name}\0`);
}

test('the bundle is whole as it is, and packed again it is the same bytes', async () => {
  expect(await problemsOf(whole)).toEqual([]);
  expect((await pack(files)).equals(whole)).toBe(true);
});

describe('a flipped bit', () => {
  test('anywhere is found', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(7), async (at, bit) => {
        expect(await problemsOf(flipped(whole, at, bit))).not.toEqual([]);
      }),
      { numRuns: 250 },
    );
  });

  test('in any file of it is named by the file', async () => {
    for (const [name, content] of files) {
      for (const at of [0, Math.floor(content.length / 2), content.length - 1]) {
        const changed = new Map(files).set(name, flipped(content, at));
        expect(await membersBlamed(await pack(changed)), `${name} at ${at}`).toContain(name);
      }
    }
  });

  test.each([
    ['name', 0],
    ['mode', 105],
    ['uid', 113],
    ['gid', 121],
    ['size', 134],
    ['mtime', 140],
    ['checksum', 150],
    ['type', 156],
    ['linkname', 200],
    ['magic', 258],
    ['uname', 270],
    ['gname', 300],
    ['device', 331],
    ['prefix', 400],
    ['rest', 505],
  ])('in the %s of any header is named by file and field', async (field, offset) => {
    for (const name of files.keys()) {
      const [found] = await problemsOf(flipped(whole, headerAt(name) + offset));
      const said = { name: /^header\./, size: /^header\.(size|checksum)$/ }[field] ?? new RegExp(`^header\\.${field}$`);
      expect(found?.field, `${name}: ${found?.message}`).toMatch(said);
      if (field !== 'name') expect(found?.member).toBe(name);
    }
  });

  test('in what fills the last block of a file is named by the file', async () => {
    for (const [name, content] of files) {
      if (content.length % 512 === 0) continue;
      const [found] = await problemsOf(flipped(whole, headerAt(name) + 512 + content.length));
      expect(found).toMatchObject({ member: name, field: 'padding' });
    }
  });
});

describe('another value', () => {
  test('in any field of the manifest is named by field, though all digests fit', async () => {
    const manifest = jsonOf(memberNames.manifest) as Manifest;
    for (const { path, changed } of changesOf(manifest)) {
      const text = canonicalJson(changed);
      const problems = await problemsOf(await pack(new Map(files).set(memberNames.manifest, Buffer.from(text))));
      const blamed = problems.filter(
        ({ member }) => member === memberNames.manifest || member === memberBlamed(path, manifest),
      );
      expect(blamed, path).not.toEqual([]);
    }
  });

  test('in any field of the manifest is found though the key that is believed has signed it', async () => {
    const { facts } = await describeRun(bench.dataDir, bench.run.dir.id);
    const original = jsonOf(memberNames.manifest) as Manifest;
    for (const { path, changed } of changesOf(original)) {
      if (/^changes\.\d+\.categories/.test(path)) continue; // whoever signs may know more of a change than its diff says
      const manifest = changed as Manifest;
      const digest = digestOfManifest(manifest);
      const { verification } = facts;
      if (verification === undefined) throw new Error('the run was not verified');
      const signed = new Map(files)
        .set(memberNames.manifest, Buffer.from(canonicalJson(manifest)))
        .set(
          memberNames.provenance,
          Buffer.from(sealEnvelope(provenanceText(manifest, digest, facts), bench.key.private)),
        )
        .set(
          memberNames.testResult,
          Buffer.from(sealEnvelope(testResultText(manifest, digest, verification), bench.key.private)),
        );
      expect(await problemsOf(await pack(signed)), path).not.toEqual([]);
    }
  });

  test.each([memberNames.provenance, memberNames.testResult])(
    'in any field of %s is named by file and field',
    async (name) => {
      const envelope = jsonOf(name) as { payload: string };
      for (const { path, changed } of changesOf(envelope)) {
        const problems = await problemsOf(await pack(new Map(files).set(name, Buffer.from(canonicalJson(changed)))));
        expect(problems[0], path).toMatchObject({ member: name });
        expect(problems[0]?.field).toMatch(/^(payload|payloadType|signatures)/);
      }
      const statement = JSON.parse(Buffer.from(envelope.payload, 'base64').toString()) as object;
      for (const { path, changed } of changesOf(statement)) {
        const unsigned = canonicalJson({
          ...envelope,
          payload: Buffer.from(canonicalJson(changed)).toString('base64'),
        });
        const resigned = sealEnvelope(canonicalJson(changed), bench.key.private);
        const [first] = await problemsOf(await pack(new Map(files).set(name, Buffer.from(unsigned))));
        expect(first, path).toMatchObject({ member: name, field: 'signatures.0.sig' });
        const found = await problemsOf(await pack(new Map(files).set(name, Buffer.from(resigned))));
        expect(found, path).toContainEqual(expect.objectContaining({ member: name, field: `payload.${path}` }));
      }
    },
  );
});

describe('files', () => {
  test('that are missing, added, twice, or in another order are named', async () => {
    const names = [...files.keys()];
    for (const name of names) {
      const without = new Map(files);
      without.delete(name);
      expect(await membersBlamed(await pack(without)), `without ${name}`).toContain(name);
      const twice: [string, Buffer][] = [...files].flatMap(([path, bytes]): [string, Buffer][] =>
        path === name
          ? [
              [path, bytes],
              [path, Buffer.from('twin')],
            ]
          : [[path, bytes]],
      );
      expect(await problemsOf(await pack(twice)), `${name} twice`).toMatchObject([
        { member: name, field: 'header.name' },
      ]);
    }
    const more = Buffer.from('more');
    const content = `contents/${digestOf(more).slice(7)}`;
    expect(await membersBlamed(await pack([...files, [content, more]]))).toEqual([content]);
    const turned = [...files].reverse();
    expect(await problemsOf(await pack(turned))).toContainEqual(expect.objectContaining({ field: 'order' }));
  });

  test('of two bundles do not make one', async () => {
    const other = await BundleBench.create();
    const theirs = unpack(await other.bundle());
    await other.remove();
    for (const name of [memberNames.journal, memberNames.verification, memberNames.provenance, memberNames.manifest]) {
      const mixed = new Map(files).set(name, theirs.get(name) ?? Buffer.alloc(0));
      expect(await problemsOf(await pack(mixed)), name).not.toEqual([]);
    }
  });
});

function jsonOf(name: string): unknown {
  return JSON.parse(files.get(name)?.toString('utf8') ?? '');
}

/** `members.3.digest` may be told of the member itself. */
function memberBlamed(path: string, manifest: Manifest): string | undefined {
  const index = /^members\.(\d+)\./.exec(path)?.[1];
  return index === undefined ? undefined : manifest.members[Number(index)]?.path;
}

/** The value with one leaf changed, each in its turn, by where that is. */
function* changesOf(value: unknown, at = ''): Generator<{ path: string; changed: unknown }> {
  if (typeof value !== 'object' || value === null) {
    yield { path: at, changed: otherThan(value) };
    return;
  }
  for (const [key, member] of Object.entries(value)) {
    const path = at === '' ? key : `${at}.${key}`;
    for (const inner of changesOf(member, path)) {
      const copy = Array.isArray(value) ? [...(value as unknown[])] : { ...value };
      Object.assign(copy, { [key]: inner.changed });
      yield { path: inner.path, changed: copy };
    }
  }
}

/** Of the same kind, so that a schema alone does not find it. */
function otherThan(value: unknown): unknown {
  if (typeof value === 'number') return value === 0o644 ? 0o755 : value === 0o755 ? 0o644 : value + 1;
  if (typeof value === 'boolean') return !value;
  if (typeof value !== 'string') return 'x';
  const other: Readonly<Record<string, string>> = {
    low: 'high',
    high: 'low',
    passed: 'failed',
    added: 'modified',
    modified: 'added',
  };
  if (Object.hasOwn(other, value)) return other[value];
  if (/^sha256:|^[0-9a-f]{40,}$/.test(value)) return value.replace(/.$/, (last) => (last === '0' ? '1' : '0'));
  if (/^[0-9a-z]{26}$/.test(value)) return value.replace(/.$/, (last) => (last === '0' ? '1' : '0'));
  if (/^\d{4}-\d\d-\d\dT/.test(value)) return value.replace('2026', '2027');
  return `${value}x`;
}
