import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryFiles } from '../../../test/fixtures/memory-files.ts';
import { isRunnerError } from '../../errors.ts';
import { runTool } from '../run-tool.ts';
import { ToolContext } from '../tool-context.ts';
import { formatPax } from './pax.ts';
import { turnsDuring } from '../../../test/fixtures/turns.ts';
import { readTar, readTarInTurns } from './read-tar.ts';
import type { TarEntry } from './tar-entry.ts';
import { formatHeader } from './tar-header.ts';
import { writeTar } from './write-tar.ts';

interface Raw {
  readonly name: string;
  readonly type?: string;
  readonly mode?: number;
  readonly content?: string;
  readonly link?: string;
}

const end = Buffer.alloc(1024);

function block(raw: Raw): Buffer {
  const content = Buffer.from(raw.content ?? '');
  const header = formatHeader({
    name: Buffer.from(raw.name),
    mode: raw.mode ?? 0o644,
    size: content.length,
    type: raw.type ?? '0',
    linkName: Buffer.from(raw.link ?? ''),
  });
  return Buffer.concat([header, content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

const tar = (...entries: readonly Raw[]): Buffer => Buffer.concat([...entries.map(block), end]);

const pax = (record: string, name = 'x'): Buffer => {
  const [key = '', value = ''] = record.split('=');
  const content = formatPax({ [key]: Buffer.from(value) }).toString();
  return tar({ name: 'p', type: 'x', content }, { name });
};

function patched(archive: Buffer, at: number, byte: number): Buffer {
  const copy = Buffer.from(archive);
  copy[at] = byte;
  return copy;
}

describe('an archive', () => {
  it.each<[string, Buffer, RegExp]>([
    ['..', tar({ name: '../x' }), /component/],
    ['.. in the middle', tar({ name: 'a/../../x' }), /component/],
    ['an absolute name', tar({ name: '/etc/x' }), /absolute/],
    ['two slashes', tar({ name: '//x' }), /absolute/],
    ['a drive', tar({ name: 'C:\\x' }), /absolute/],
    ['backslashes', tar({ name: 'a\\..\\x' }), /backslash/],
    ['an empty component', tar({ name: 'a//x' }), /component/],
    ['an absolute name in pax', pax('path=/etc/x'), /absolute/],
    ['a file through a link', tar({ name: 'd', type: '2', link: 'e' }, { name: 'd/x' }), /through a symlink/],
    ['a file through a file', tar({ name: 'd' }, { name: 'd/x' }), /through a file/],
    ['a directory that becomes a link', tar({ name: 'd/', type: '5' }, { name: 'd', type: '2', link: 'e' }), /twice/],
    ['a link out', tar({ name: 'l', type: '2', link: '../x' }), /leads out/],
    ['an absolute link', tar({ name: 'l', type: '2', link: '/etc' }), /leads out/],
    ['a link out by a detour', tar({ name: 'd/l', type: '2', link: 'a/../../../x' }), /leads out/],
    ['a hard link out', tar({ name: 'h', type: '1', link: '../x' }), /component/],
    [
      'a hard link to a link',
      tar({ name: 'l', type: '2', link: 'e' }, { name: 'h', type: '1', link: 'l' }),
      /hard link/,
    ],
    ['a hard link to what is not there', tar({ name: 'h', type: '1', link: 'e' }), /hard link/],
    ['a character device', tar({ name: 'x', type: '3' }), /type "3"/],
    ['a block device', tar({ name: 'x', type: '4' }), /type "4"/],
    ['a FIFO', tar({ name: 'x', type: '6' }), /type "6"/],
    ['a contiguous file', tar({ name: 'x', type: '7' }), /type "7"/],
    ['a GNU sparse file', tar({ name: 'x', type: 'S' }), /type "S"/],
    ['a pax sparse file', pax('GNU.sparse.major=1'), /sparse/],
    ['a size in pax', pax('size=99999999999'), /sizes/],
    ['capabilities', pax('SCHILY.xattr.security.capability=x'), /extended attributes/],
    ['setuid', tar({ name: 'x', mode: 0o4755 }), /setuid/],
    ['setgid', tar({ name: 'x', mode: 0o2755 }), /setuid or setgid/],
    ['a name that comes twice', tar({ name: 'x' }, { name: './x' }), /twice/],
    ['a name of 300 bytes', pax(`path=${'n'.repeat(300)}`), /over 255/],
    ['257 levels', tar({ name: 'p', type: 'L', content: `${'d/'.repeat(257)}x` }, { name: 'x' }), /levels/],
    ['a long name of 9 KiB', tar({ name: 'p', type: 'L', content: 'n'.repeat(9000) }, { name: 'x' }), /9000 bytes/],
    ['a directory with content', tar({ name: 'd/', type: '5', content: 'x' }), /no file/],
    ['a global header that renames', tar({ name: 'g', type: 'g', content: '9 path=x\n' }, { name: 'y' }), /global/],
    ['a header without its entry', tar({ name: 'p', type: 'L', content: 'name' }), /without its entry/],
    ['a bad checksum', patched(tar({ name: 'x' }), 0, 0x79), /checksum/],
    ['no magic', Buffer.concat([Buffer.alloc(512, 'a'), end]), /checksum|tar/],
    ['data after its end', Buffer.concat([tar({ name: 'x' }), block({ name: 'y' })]), /after its end/],
    ['a second archive after it', Buffer.concat([tar({ name: 'x' }), tar({ name: 'y' })]), /after its end/],
    ['no end', block({ name: 'x' }), /cut off/],
    ['half an end', Buffer.concat([block({ name: 'x' }), Buffer.alloc(512)]), /cut off/],
    ['half a file', tar({ name: 'x', content: 'y'.repeat(4000) }).subarray(0, 1024), /cut off/],
    ['an odd length', tar({ name: 'x' }).subarray(0, 700), /512/],
    ['gzip', Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0]), Buffer.alloc(508)]), /compressed/],
  ])('with %s is refused whole', (_, archive, message) => {
    expect(() => readTar(archive)).toThrow(message);
    expect(() => readTar(archive)).toThrow(expect.objectContaining({ code: 'archive_refused' }));
  });

  it('is bounded in entries and bytes, hard links included', () => {
    const many = tar(...Array.from({ length: 5 }, (_, n) => ({ name: `f${n}` })));
    expect(() => readTar(many, { entriesMax: 4, bytesMax: 100 })).toThrow(/more than 4 entries/);
    const links = Array.from({ length: 20 }, (_, n) => ({ name: `h${n}`, type: '1', link: 'f' }));
    const bomb = tar({ name: 'f', content: 'x'.repeat(100) }, ...links);
    expect(() => readTar(bomb, { entriesMax: 100, bytesMax: 1000 })).toThrow(/more than 1000 bytes/);
  });

  it('of many entries leaves others their turn while it is read', async () => {
    const many = tar(...Array.from({ length: 12_000 }, (_, n) => ({ name: `d${n % 50}/f${n}` })));
    const turns = await turnsDuring(() => readTarInTurns(many));
    expect(turns).toBeGreaterThan(40);
    expect(await readTarInTurns(many)).toEqual(readTar(many));
    await expect(readTarInTurns(tar({ name: '../x' }))).rejects.toMatchObject({ code: 'archive_refused' });
  });

  it('is unpacked only after all of it was checked', async () => {
    const files = new MemoryFiles({ keep: 'x' });
    const before = files.snapshot();
    const context = new ToolContext({ files, start: () => Promise.reject(new Error('no commands here')) });
    const call = { tool: 'upload' as const, path: 'in', tar: tar({ name: 'ok' }, { name: '../x' }).toString('base64') };
    await expect(runTool(context, 'c', call)).rejects.toMatchObject({ code: 'archive_refused' });
    expect(files.snapshot()).toEqual(before);
  });

  it('goes in and comes out again, with parents it only implies', async () => {
    const files = new MemoryFiles();
    const context = new ToolContext({ files, start: () => Promise.reject(new Error('no commands here')) });
    const archive = tar(
      { name: './', type: '5' },
      { name: 'a/b/c', content: 'hello', mode: 0o755 },
      { name: 'a/l', type: '2', link: 'b/c' },
      { name: 'h', type: '1', link: 'a/b/c' },
    );
    await runTool(context, 'c', { tool: 'upload', path: 'in', tar: archive.toString('base64') });
    const { data } = await runTool(context, 'c', { tool: 'download', path: 'in', maxBytes: 1000 });
    if (data?.kind !== 'archive') throw new Error('no archive in the answer');
    const names = readTar(Buffer.from(data.base64, 'base64')).map(
      (e) => `${e.path} ${e.type} ${e.content.toString()}${e.target}`,
    );
    expect(names).toEqual(['a directory ', 'a/b directory ', 'a/b/c file hello', 'a/l symlink b/c', 'h file hello']);
  });

  it('written and read again is the same, whatever the names', () => {
    const part = fc
      .string({ unit: 'binary', minLength: 1, maxLength: 60 })
      .filter((name) => !/[/\\\0:\ud800-\udfff]|^\.{1,2}$/.test(name) && Buffer.byteLength(name) < 255);
    const odd = fc.constantFrom('\udcff\udcfe', 'a\nb', '\x1b[31m', '-rf', '$(id)', 'n'.repeat(200));
    const path = fc.array(fc.oneof(part, odd), { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/'));
    const content = fc.uint8Array({ maxLength: 1500 }).map((bytes) => Buffer.from(bytes));
    const entry = fc.record({
      path,
      type: fc.constant('file' as const),
      mode: fc.constantFrom(0o644, 0o755),
      content,
      target: fc.constant(''),
    });
    fc.assert(
      fc.property(fc.uniqueArray(entry, { selector: (e) => e.path.split('/')[0], maxLength: 5 }), (entries) => {
        expect(readTar(writeTar(entries))).toEqual(entries satisfies TarEntry[]);
      }),
    );
  });

  it('of garbage is refused and never anything else', () => {
    const good = tar(
      { name: 'a/b', content: 'x' },
      { name: 'p', type: 'x', content: formatPax({ path: Buffer.from('z') }).toString() },
      { name: 'y' },
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 6 }), (changes) => {
        const archive = changes.reduce((bytes, [at, byte]) => patched(bytes, at, byte), good);
        try {
          readTar(archive);
        } catch (error) {
          expect(isRunnerError(error, 'archive_refused')).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it.each(['gnu', 'pax', 'ustar'])(
    'that tar --format=%s makes is read, and what we write tar lists',
    async (format) => {
      const directory = await mkdtemp(join(tmpdir(), 'tar-'));
      try {
        const long = format === 'ustar' ? 'short' : 'l'.repeat(150);
        await writeFile(join(directory, long), 'content');
        await symlink(long, join(directory, 'link'));
        const made = await execa('tar', [`--format=${format}`, '-c', '.'], { cwd: directory, encoding: 'buffer' });
        const entries = readTar(Buffer.from(made.stdout));
        expect(entries.map((e) => `${e.path} ${e.type} ${e.target}`).sort()).toEqual(
          [`${long} file `, `link symlink ${long}`].sort(),
        );
        const listed = await execa('tar', ['-t'], { input: writeTar(entries) });
        expect(listed.stdout.split('\n').sort()).toEqual([long, 'link'].sort());
      } finally {
        await rm(directory, { recursive: true });
      }
    },
  );
});
