import { createReadStream } from 'node:fs';
import { readdir, readFile, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { encodePath } from '../../bytes-path.ts';
import { RunnerError } from '../../errors.ts';
import type { HeldDirectory } from './held-directory.ts';
import { quotedPath, type BorrowedObjects, type TreeEntry } from './objects.ts';
import type { Place } from './place.ts';

/** What a commit puts at a path. */
export type Put =
  | { readonly kind: 'file'; readonly mode: 0o644 | 0o755; readonly content: () => Promise<Uint8Array> }
  | { readonly kind: 'symlink'; readonly target: string }
  /** What the repository has already. */
  | ({ readonly kind: 'known' } & TreeEntry)
  | { readonly kind: 'deleted' };

export interface CommitText {
  readonly author: { readonly name: string; readonly email: string };
  /** Of author and committer, in whole seconds: the same words at the same time are the same commit. */
  readonly atMs: number;
  readonly message: string;
}

/**
 * Makes a commit in the objects that were borrowed. The same files on the same parent with the same words have the same id. Git's
 * fast-import takes contents as they are: no filter, no end of line, no attribute.
 */
export async function compose(
  objects: BorrowedObjects,
  parent: string,
  puts: ReadonlyMap<string, Put>,
  text: CommitText,
): Promise<string> {
  const marks = join(objects.directory, 'marks');
  // An earlier commit of a promotion that was cut short is none to go on from.
  const how = ['--quiet', '--force', '--done', `--export-marks=${marks}`];
  const args = ['-c', 'fastimport.unpackLimit=1', 'fast-import', ...how];
  const answer = await objects.ask(args, streamOf(parent, puts, text));
  const id = /^:1 ([0-9a-f]+)$/m.exec(await readFile(marks, 'latin1').catch(() => ''))?.[1];
  if (answer.code === 0 && id !== undefined) return id;
  throw new RunnerError('internal', `promote: git fast-import did not make the commit: ${answer.stderr}`);
}

/** Puts what was composed among the objects of the repository: no branch names them yet, and git collects what none does. */
export async function install(objects: BorrowedObjects, place: Place, own: string): Promise<void> {
  const names = await readdir(join(objects.directory, 'objects/pack'));
  const packs = names.filter((name) => /^pack-[0-9a-f]+\.pack$/.test(name)).map((name) => name.slice(0, -5));
  if (packs.length === 0) return; // it was all there
  const target = await heldPacks(place);
  try {
    for (const pack of packs) {
      // The index last: a pack without one is none.
      for (const suffix of ['.pack', '.idx']) {
        const draft = `tmp_glovebox_${own}${suffix}`;
        await unlink(target.at(draft)).catch(() => undefined);
        await target.create(draft, readPieces(join(objects.directory, 'objects/pack', `${pack}${suffix}`)), 0o444);
        await rename(target.at(draft), target.at(`${pack}${suffix}`));
      }
    }
    await target.sync();
  } finally {
    await target.close();
  }
}

async function heldPacks({ common, path }: Place): Promise<HeldDirectory> {
  const objects = await common.find('objects');
  if (objects === undefined)
    throw new RunnerError('target_refused', `${path} has no objects directory any more; is it a repository?`);
  try {
    return await objects.ensure('pack');
  } finally {
    await objects.close();
  }
}

async function* readPieces(file: string): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of createReadStream(file)) yield piece as Buffer;
}

async function* streamOf(
  parent: string,
  puts: ReadonlyMap<string, Put>,
  { author, atMs, message }: CommitText,
): AsyncGenerator<Uint8Array, void, undefined> {
  const who = `${author.name} <${author.email}> ${Math.floor(atMs / 1000)} +0000`;
  yield Buffer.from(`commit refs/heads/promotion\nmark :1\nauthor ${who}\ncommitter ${who}\n`);
  yield* data(Buffer.from(message));
  yield Buffer.from(`from ${parent}\n`);
  // What is gone makes room for what comes.
  for (const [path, put] of puts) if (put.kind === 'deleted') yield line('D ', path);
  for (const [path, put] of puts) {
    if (put.kind === 'deleted') continue;
    if (put.kind === 'known') {
      yield line(`M ${put.mode} ${put.id} `, path);
      continue;
    }
    const mode = put.kind === 'symlink' ? '120000' : put.mode === 0o755 ? '100755' : '100644';
    yield line(`M ${mode} inline `, path);
    yield* data(put.kind === 'symlink' ? encodePath(put.target) : await put.content());
  }
  yield Buffer.from('done\n');
}

function line(command: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(command), quotedPath(path), Buffer.from('\n')]);
}

function* data(bytes: Uint8Array): Generator<Uint8Array> {
  yield Buffer.from(`data ${bytes.length}\n`);
  yield bytes;
  yield Buffer.from('\n');
}
