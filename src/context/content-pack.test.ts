import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '../digest.ts';
import { ContentPack, PackReader } from './content-pack.ts';

let root: string;
let path: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'glovebox-pack-'));
  path = join(root, 'contents.pack');
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function kept(contents: readonly (string | Buffer)[], bytesMax?: number): Promise<void> {
  const pack = new ContentPack(path, bytesMax);
  for (const content of contents) pack.keep(digestOf(content), Buffer.from(content));
  await pack.close();
}

async function read(content: string | Buffer): Promise<string | undefined> {
  const reader = await PackReader.open(path);
  return (await reader.get(digestOf(content)))?.toString();
}

describe('contents that were kept', () => {
  test('are there when they are asked for, once each, whatever bytes they have', async () => {
    const odd = Buffer.from([0, 10, 255, 10]);
    await kept(['a\n', '', odd, 'a\n']);
    expect([await read('a\n'), await read('')]).toEqual(['a\n', '']);
    expect(await (await PackReader.open(path)).get(digestOf(odd))).toEqual(odd);
    expect((await readFile(path)).toString('latin1').match(/sha256:/g)).toHaveLength(3);
    expect(await read('other')).toBeUndefined();
  });

  test('are followed by those of the next runner, without what the one before left half written', async () => {
    await kept(['first']);
    await appendFile(path, `${digestOf('torn content')} 12\ntorn`);
    await kept(['second']);
    expect([await read('first'), await read('second'), await read('torn content')]).toEqual([
      'first',
      'second',
      undefined,
    ]);
  });

  test('are not believed: what is not as its digest says was not kept', async () => {
    const pack = new ContentPack(path);
    pack.keep(digestOf('what was said'), Buffer.from('what was sent'));
    await pack.close();
    expect(await read('what was said')).toBeUndefined();
  });

  test('stay within the bound of the file, and a large one is not kept at all', async () => {
    await kept(['x'.repeat(600), 'y'.repeat(600), 'z'], 1_000);
    expect([await read('x'.repeat(600)), await read('y'.repeat(600)), await read('z')]).toEqual([
      'x'.repeat(600),
      undefined,
      'z',
    ]);
    expect((await stat(path)).size).toBeLessThanOrEqual(1_000);
    await kept(['w'.repeat(1024 * 1024 + 1)]);
    expect(await read('w'.repeat(1024 * 1024 + 1))).toBeUndefined();
  });

  test('are none where nothing was written, and where the file is no such file', async () => {
    await kept([]);
    await expect(stat(path)).rejects.toThrow('ENOENT');
    await writeFile(path, 'something else\n');
    expect(await read('a')).toBeUndefined();
  });

  test('are given up in silence where they cannot be written', async () => {
    path = join(root, 'no', 'such', 'directory');
    await kept(['a']);
    expect(await read('a')).toBeUndefined();
  });
});
