import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decodePath, encodePath } from '../../bytes-path.ts';
import { RunnerError } from '../../errors.ts';
import { askGit, type GitAnswer } from '../../workspace/base/host-git.ts';
import type { Place } from './place.ts';

/** Of a tree, at one path. */
export interface TreeEntry {
  readonly mode: '100644' | '100755' | '120000' | '160000';
  readonly id: string;
}

/**
 * The objects of a repository, seen from one of our own that has no configuration, and borrows them. What is made is kept here
 * until it is installed; nothing of the repository is written, and none of its settings read.
 */
export class BorrowedObjects {
  readonly directory: string;
  readonly #place: Place;

  private constructor(directory: string, place: Place) {
    this.directory = directory;
    this.#place = place;
  }

  /** In a directory that is not there yet. */
  static async create(directory: string, place: Place): Promise<BorrowedObjects> {
    for (const name of ['objects/pack', 'refs']) await mkdir(join(directory, name), { recursive: true, mode: 0o700 });
    const format = place.format === 'sha1' ? '' : `[extensions]\n\tobjectformat = ${place.format}\n`;
    await writeFile(join(directory, 'config'), `[core]\n\trepositoryformatversion = 1\n\tbare = true\n${format}`);
    await writeFile(join(directory, 'HEAD'), 'ref: refs/heads/none\n');
    return new BorrowedObjects(directory, place);
  }

  async ask(
    args: readonly string[],
    input?: Uint8Array | AsyncIterable<Uint8Array>,
    more: Readonly<Record<string, string>> = {},
  ): Promise<GitAnswer> {
    const lent = join(this.#place.common.path, 'objects').replaceAll(/["\\]/g, '\\$&');
    const env = { GIT_DIR: this.directory, GIT_ALTERNATE_OBJECT_DIRECTORIES: `"${lent}"`, ...more };
    return askGit(this.directory, [...unhurried, ...args], { env, ...(input === undefined ? {} : { input }) });
  }

  async hasCommit(id: string): Promise<boolean> {
    const { stdout } = await this.ask(['cat-file', '--batch-check=%(objecttype)'], Buffer.from(`${id}\n`));
    return stdout.toString('latin1').trim() === 'commit';
  }

  /** Whether one commit is the other, or among what led to it. */
  async leadsTo(older: string, newer: string): Promise<boolean> {
    return (await this.ask(['merge-base', '--is-ancestor', older, newer])).code === 0;
  }

  /** Every file of a commit. */
  async entriesOf(commit: string): Promise<ReadonlyMap<string, TreeEntry>> {
    const answer = await this.ask(['ls-tree', '-r', '-z', '--full-tree', commit]);
    if (answer.code !== 0)
      throw new RunnerError(
        'target_refused',
        `${this.#place.path}: commit ${commit} cannot be read: ${answer.stderr}; mend the repository (git fsck)`,
      );
    const entries = new Map<string, TreeEntry>();
    for (let at = 0; at < answer.stdout.length;) {
      const end = answer.stdout.indexOf(0, at);
      const tab = answer.stdout.indexOf(9, at);
      const [mode = '', , id = ''] = answer.stdout.toString('latin1', at, tab).split(' ');
      entries.set(decodePath(answer.stdout.subarray(tab + 1, end)), { mode: mode as TreeEntry['mode'], id });
      at = end + 1;
    }
    return entries;
  }

  /** Contents by their ids, a few at a time; `target_refused` where one is not there. */
  async *contents(ids: Iterable<string>): AsyncGenerator<readonly [string, Buffer], void, undefined> {
    const wanted = [...new Set(ids)];
    const known = await this.ask(
      ['cat-file', '--batch-check=%(objectname) %(objecttype) %(objectsize)'],
      linesOf(wanted),
    );
    const sizes = known.stdout.toString('latin1').trimEnd().split('\n');
    for (let at = 0; at < wanted.length;) {
      const some: string[] = [];
      for (let bytes = 0; at < wanted.length && (bytes === 0 || bytes < batchBytesMax); at++) {
        const [id, type, size] = (sizes[at] ?? '').split(' ');
        if (id !== wanted[at] || type !== 'blob') throw this.#lacks(wanted[at] ?? '');
        if (Number(size) > blobBytesMax)
          throw new RunnerError(
            'limit_exceeded',
            `${this.#place.path}: the content ${id} has ${size ?? 'too many'} bytes, and ${blobBytesMax} are compared at most; keep such files from runs (files.deny), and run it again`,
          );
        bytes += Number(size) + 1;
        some.push(wanted[at] ?? '');
      }
      const { stdout } = await this.ask(['cat-file', '--batch'], linesOf(some));
      for (let from = 0, index = 0; index < some.length; index++) {
        const end = stdout.indexOf(10, from);
        const size = Number(stdout.toString('latin1', from, end).split(' ')[2]);
        if (end < 0 || !Number.isSafeInteger(size)) throw this.#lacks(some[index] ?? '');
        yield [some[index] ?? '', stdout.subarray(end + 1, end + 1 + size)];
        from = end + 1 + size + 1;
      }
    }
  }

  /** One file of a commit; undefined where there is none. */
  async fileAt(commit: string, path: string): Promise<Buffer | undefined> {
    const answer = await this.ask(['ls-tree', '-z', '--full-tree', commit, '--', path]);
    const [mode, , id] = answer.stdout.toString('latin1').split(/[ \t]/);
    if (answer.code !== 0 || id === undefined || mode?.startsWith('100') !== true) return undefined;
    for await (const [, content] of this.contents([id])) return content;
    return undefined;
  }

  #lacks(id: string): RunnerError {
    return new RunnerError(
      'target_refused',
      `${this.#place.path} lacks the content ${id} (a partial or damaged clone); fetch it, then promote again`,
    );
  }
}

/** As fast-import reads it (git-fast-import(1)): a path in double quotes. */
export function quotedPath(path: string): Buffer {
  const quoted: number[] = [0x22];
  for (const byte of encodePath(path)) {
    if (byte === 0x22 || byte === 0x5c) quoted.push(0x5c, byte);
    else if (byte === 0x0a) quoted.push(0x5c, 0x6e);
    else quoted.push(byte);
  }
  return Buffer.from([...quoted, 0x22]);
}

/** Files that somebody may have prepared are not looked at where git can do without. */
const unhurried = ['-c', 'core.commitGraph=false', '-c', 'core.multiPackIndex=false'];
const batchBytesMax = 64 * 1024 * 1024;
const blobBytesMax = 128 * 1024 * 1024;

function linesOf(ids: readonly string[]): Buffer {
  return Buffer.from(ids.map((id) => `${id}\n`).join(''));
}
