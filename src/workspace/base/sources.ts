import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

import { newId } from '../../ids.ts';
import type { Scope } from '../scope/scope.ts';
import type { LeftOut } from './left-out.ts';
import type { Look, NotedLook } from './look.ts';
import { SeenRows } from './seen.ts';

/**
 * Which base a directory was when it was last imported, and what it looked like then. A cache: what is not there, or cannot
 * be read, is imported as if for the first time. In two files, because most imports change no name:
 *
 *     <source>.look            the base, and what `lstat` said of each name
 *     <source>.<id>.names      the names, in order, and where they come from
 */
export class Sources {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async find(root: string, scope: Scope): Promise<NotedLook | undefined> {
    const source = sourceOf(root, scope);
    try {
      const [head, rows] = split(await read(path.join(this.#directory, `${source}.look`)));
      const { base, namesFile } = LookHead.parse(JSON.parse(head));
      const names = decodeNames(await read(path.join(this.#directory, path.basename(namesFile))));
      const noted = { ...names, root, beganMs: 0, rows: rowsOf(rows), base, namesFile };
      return noted.rows.count === noted.names.length && noted.fates.length === noted.names.length ? noted : undefined;
    } catch {
      return undefined;
    }
  }

  /** `last`: what is noted now, as far as the caller knows. The rows are those that are to be believed. */
  async note(look: Look, rows: SeenRows, scope: Scope, base: string, last: NotedLook | undefined): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const source = sourceOf(look.root, scope);
    const known = last !== undefined && last.names === look.names && last.fates === look.fates;
    const namesFile = known ? last.namesFile : `${source}.${newId()}.names`;
    if (!known) await replace(path.join(this.#directory, namesFile), encodeNames(look));
    const head = `${JSON.stringify({ base, namesFile })}\n`;
    await replace(path.join(this.#directory, `${source}.look`), [Buffer.from(head), bytesOf(rows)]);
    if (known) return;
    for (const name of await readdir(this.#directory))
      if (name.startsWith(`${source}.`) && name.endsWith('.names') && name !== namesFile)
        await rm(path.join(this.#directory, name), { force: true });
  }
}

const LookHead = z.strictObject({ base: z.string(), namesFile: z.string() });
const size = z.int().nonnegative();
const NamesHead = z.strictObject({
  format: z.literal('glovebox.source/v1'),
  kind: z.enum(['git', 'plain']),
  asked: z.string(),
  targets: z.array(z.tuple([z.string(), z.string()])),
  leftOut: z.custom<LeftOut>((value) => typeof value === 'object' && value !== null),
  /** Of what follows, in this order. */
  sizes: z.strictObject({
    names: size,
    directories: size,
    fates: size,
    directoryRows: size,
    staged: size,
    others: size,
    ignored: size,
  }),
});

function encodeNames({
  kind,
  asked,
  names,
  directories,
  fates,
  targets,
  directoryRows,
  listing,
  leftOut,
}: Look): Buffer[] {
  const none = Buffer.alloc(0);
  const parts = {
    names: Buffer.from(JSON.stringify(names)),
    directories: Buffer.from(JSON.stringify(directories)),
    fates: Buffer.from(fates),
    directoryRows: directoryRows === undefined ? none : bytesOf(directoryRows),
    staged: listing?.staged ?? none,
    others: listing?.others ?? none,
    ignored: listing?.ignored ?? none,
  };
  const sizes = Object.fromEntries(Object.entries(parts).map(([name, { length }]) => [name, length]));
  const head = { format: 'glovebox.source/v1', kind, asked, targets: [...targets], leftOut, sizes };
  return [Buffer.from(`${JSON.stringify(head)}\n`), ...Object.values(parts)];
}

function decodeNames(bytes: Buffer): Omit<Look, 'root' | 'beganMs' | 'rows'> {
  const [text, rest] = split(bytes);
  const { kind, asked, targets, leftOut, sizes } = NamesHead.parse(JSON.parse(text));
  let at = 0;
  const next = (length: number): Buffer => rest.subarray(at, (at += length));
  const names = JSON.parse(next(sizes.names).toString()) as string[];
  const directories = JSON.parse(next(sizes.directories).toString()) as string[];
  const found = new Uint8Array(next(sizes.fates));
  const directoryRows = rowsOf(next(sizes.directoryRows));
  const listing = { staged: next(sizes.staged), others: next(sizes.others), ignored: next(sizes.ignored) };
  const shape = { kind, asked, names, directories, fates: found, targets: new Map(targets), leftOut };
  return { ...shape, ...(kind === 'git' ? { listing } : { directoryRows }) };
}

function sourceOf(root: string, scope: Scope): string {
  return createHash('sha256').update(`${root}\0${scope.digest}`).digest('hex');
}

/** The first line, and what follows it. */
function split(bytes: Buffer): readonly [string, Buffer] {
  const end = bytes.indexOf('\n');
  return [bytes.toString('utf8', 0, end), bytes.subarray(end + 1)];
}

const bytesOf = ({ numbers }: SeenRows): Buffer => Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength);

/** A copy, because numbers lie at multiples of their size. */
const rowsOf = (bytes: Buffer): SeenRows => new SeenRows(new Float64Array(new Uint8Array(bytes).buffer));

/** A trip through the thread pool costs more than a few bytes do. */
async function read(file: string): Promise<Buffer> {
  return statSync(file).size <= atOnceMax ? readFileSync(file) : await readFile(file);
}

const atOnceMax = 256 * 1024;

async function replace(file: string, parts: readonly Buffer[]): Promise<void> {
  const draft = `${file}.${newId()}`;
  await writeFile(draft, Buffer.concat(parts), { mode: 0o600 });
  await rename(draft, file);
}
