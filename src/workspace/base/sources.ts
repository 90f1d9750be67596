import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

import { encodePath } from '../../bytes-path.ts';
import { newId } from '../../ids.ts';
import type { Scope } from '../scope/scope.ts';
import type { Selection } from './select.ts';

/** Which base a directory was when it was last imported, and what its files looked like then. */
export class Sources {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** The base, if not a file has changed since. */
  async findUnchanged(selection: Selection, scope: Scope): Promise<string | undefined> {
    const key = keyOfFiles(selection, (file) => (file.kind === 'file' ? file.seen?.identity : undefined));
    const line = await readFile(this.#file(selection, scope, 'key'), 'utf8').catch(() => '');
    const [known, base] = line.trim().split(' ');
    return key !== undefined && known === key ? base : undefined;
  }

  /** The last base of this directory, with what its unchanged files look like. */
  async findLast(selection: Selection, scope: Scope): Promise<SourceRecord | undefined> {
    try {
      const text = await readFile(this.#file(selection, scope, 'json'), 'utf8');
      const { base, files } = Record.parse(JSON.parse(text));
      return { base, identities: new Map(files) };
    } catch {
      return undefined; // a cache: without it everything is read again
    }
  }

  async note(selection: Selection, scope: Scope, record: SourceRecord): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const files = [...record.identities];
    await replace(this.#file(selection, scope, 'json'), JSON.stringify({ base: record.base, files }));
    // Without a key as long as a file could still change unseen: then the next import looks closer.
    const key = keyOfFiles(selection, (file) => record.identities.get(file.path));
    await replace(this.#file(selection, scope, 'key'), key === undefined ? '' : `${key} ${record.base}\n`);
  }

  #file(selection: Selection, scope: Scope, suffix: string): string {
    const name = createHash('sha256').update(`${selection.root}\0${scope.digest}`).digest('hex');
    return path.join(this.#directory, `${name}.${suffix}`);
  }
}

export interface SourceRecord {
  readonly base: string;
  /** By path; of the files that were settled when they were read. */
  readonly identities: ReadonlyMap<string, string>;
}

const Record = z.strictObject({ base: z.string(), files: z.array(z.tuple([z.string(), z.string()])) });

function keyOfFiles(
  selection: Selection,
  identityOf: (file: Selection['files'][number]) => string | undefined,
): string | undefined {
  const parts = [selection.kind, ...selection.directories, ''];
  for (const file of selection.files) {
    const identity = file.kind === 'symlink' ? `-> ${file.target}` : identityOf(file);
    if (identity === undefined) return undefined;
    parts.push(file.path, identity);
  }
  return createHash('sha256')
    .update(encodePath(parts.join('\0')))
    .digest('hex');
}

async function replace(file: string, text: string): Promise<void> {
  const draft = `${file}.${newId()}`;
  await writeFile(draft, text, { mode: 0o600 });
  await rename(draft, file);
}
