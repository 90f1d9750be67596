import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { canonicalJson } from '../digest.ts';
import { BundleBench, pack, unpack } from './bundle.fixture.ts';
import { checkBundle } from './check.ts';

/** Files that somebody made to be checked: refused with the place, quickly, and nothing of them is made on this machine. */
let bench: BundleBench;
let whole: Buffer;
let folder: string;
beforeAll(async () => {
  bench = await BundleBench.create();
  whole = await bench.bundle();
  folder = join(bench.root, 'hostile');
  mkdirSync(folder);
  writeFileSync(join(folder, 'manifest.json'), unpack(whole).get('manifest.json') ?? '');
});
afterAll(() => bench.remove());

function tar(...args: readonly string[]): string {
  const file = join(bench.root, 'made.tar');
  execFileSync('tar', ['--format=ustar', '-cf', file, '-C', folder, ...args], { stdio: 'pipe' });
  return file;
}

async function first(file: string): Promise<unknown> {
  const { problems, bundle } = await checkBundle(file, [bench.publicKey]);
  expect(bundle).toBeUndefined();
  return problems[0];
}

/** The first header of the bundle with other bytes, and a checksum that fits. */
function withHeader(edit: (header: Buffer) => void): Buffer {
  const bytes = Buffer.from(whole);
  const header = bytes.subarray(0, 512);
  edit(header);
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}

describe('an archive is refused', () => {
  test('with a link, a hard link, a directory or a device where a file belongs', async () => {
    for (const type of ['1', '2', '3', '4', '5', '6', '7', 'x', 'g', 'L', 'K', 'S', '\0'])
      expect(await first(await bench.file(withHeader((header) => header.write(type, 156, 'latin1'))))).toMatchObject({
        member: 'manifest.json',
        field: 'header.type',
      });
  });

  test('as other programs make it: owners, times and modes of a machine', async () => {
    const found = await first(tar('manifest.json'));
    expect(found).toMatchObject({ member: 'manifest.json', field: expect.stringMatching(/^header\./) as string });
    symlinkSync('/etc/passwd', join(folder, 'policy.json'));
    expect(await first(tar('policy.json'))).toMatchObject({ member: 'policy.json' });
    mkdirSync(join(folder, 'contents'));
    expect(await first(tar('contents'))).toMatchObject({ member: 'contents/', field: 'header.name' });
  });

  test.each([
    '/etc/passwd',
    '../manifest.json',
    'contents/../../x',
    './manifest.json',
    'manifest.json/',
    'MANIFEST.JSON',
    'contents/ABC',
    '',
    'a\nb\x1b[2J',
  ])('with the name %j', async (name) => {
    const bytes = withHeader((header) => {
      header.fill(0, 0, 100);
      header.write(name, 0, 'latin1');
    });
    expect(await first(await bench.file(bytes))).toMatchObject({ field: 'header.name' });
  });

  test('that says to be larger than it is, in octal, in base 256, or not in digits, at once', async () => {
    for (const size of [
      '77777777777\0',
      '00010000000\0',
      '-0000000001\0',
      '           \0',
      '\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff',
    ]) {
      const startedMs = performance.now();
      const found = await first(await bench.file(withHeader((header) => header.write(size, 124, 'latin1'))));
      expect(found).toMatchObject({ member: 'manifest.json', field: 'header.size' });
      expect(performance.now() - startedMs).toBeLessThan(2_000);
    }
  });

  test('of nothing, of zeros without end, and of a hole of many gigabytes', async () => {
    expect(await first(await bench.file(Buffer.alloc(0)))).toMatchObject({ member: 'archive', field: 'end' });
    const hole = await bench.file(Buffer.alloc(0), 'hole.tar');
    truncateSync(hole, 64 * 1024 ** 3);
    expect(await first(hole)).toMatchObject({ member: 'archive', field: 'end' });
  });

  test('with anything behind its end, or an end that is cut off', async () => {
    for (const bytes of [
      Buffer.concat([whole, whole]),
      Buffer.concat([whole, Buffer.alloc(512)]),
      whole.subarray(0, -512),
      whole.subarray(0, -1),
    ])
      expect(await first(await bench.file(bytes))).toMatchObject({ member: 'archive', field: 'end' });
    expect(await first(await bench.file(whole.subarray(0, 700)))).toMatchObject({ field: 'header.size' });
  });

  test('that is none: a directory, a journal, text', async () => {
    await expect(checkBundle(bench.root, [])).rejects.toMatchObject({ code: 'invalid_request' });
    await expect(checkBundle(join(bench.root, 'absent'), [])).rejects.toMatchObject({ code: 'invalid_request' });
    expect(await first(bench.run.dir.journal)).toMatchObject({ field: 'header.name' });
  });
});

describe('JSON is refused', () => {
  const change = async (name: string, edit: (text: string) => string | Buffer) => {
    const files = unpack(whole);
    const edited = edit(files.get(name)?.toString('utf8') ?? '');
    return first(await bench.file(await pack(files.set(name, Buffer.from(edited)))));
  };

  test.each([
    ['with a key twice', (text: string) => text.replace('"v":1', '"v":1,"v":1')],
    ['with an unknown key', (text: string) => text.replace('"v":1', '"v":1,"x":1')],
    ['with __proto__', (text: string) => text.replace('"v":1', '"__proto__":{"risk":"low"},"v":1')],
    ['with spaces', (text: string) => text.replaceAll(',', ', ')],
    ['with another spelling of a number', (text: string) => text.replace('"v":1', '"v":1.0')],
    ['with another spelling of a letter', (text: string) => text.replace('mend it', 'mend i\\u0074')],
    ['behind a byte order mark', (text: string) => `\ufeff${text}`],
    ['that is no UTF-8', (text: string) => Buffer.concat([Buffer.from(text.slice(0, -1)), Buffer.from([0xff, 0x7d])])],
    ['that nests too deep', () => '['.repeat(1_000_000)],
    ['of another kind', () => 'null'],
  ])('%s', async (_, edit) => {
    expect(await change('manifest.json', edit)).toMatchObject({ member: 'manifest.json' });
  });

  test('in an envelope too, and with names of files that point elsewhere', async () => {
    expect(await change('provenance.dsse.json', (text) => text.replace(',', ', '))).toMatchObject({
      member: 'provenance.dsse.json',
    });
    const named = await change('manifest.json', (text) => {
      const manifest = JSON.parse(text) as { members: { path: string }[] };
      manifest.members.forEach((member) => (member.path = `../${member.path}`));
      return canonicalJson(manifest);
    });
    expect(named).toMatchObject({ member: 'manifest.json' });
  });
});

test('other programs read a bundle: every file with its bytes', async () => {
  const file = await bench.file(whole);
  const names = execFileSync('tar', ['-tf', file]).toString().trim().split('\n');
  expect(names).toEqual([...unpack(whole).keys()]);
  expect(execFileSync('tar', ['-xOf', file, 'manifest.json'])).toEqual(unpack(whole).get('manifest.json'));
});
