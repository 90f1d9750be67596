import path from 'node:path';

import { digestOf, type Digest } from '../../digest.ts';
import { encodeTree } from '../manifest.ts';
import type { Tree } from '../change-set.ts';
import type { Scope } from '../scope/scope.ts';
import { writeBase, type EarlierBase } from './base-writer.ts';
import { isWorthDelta, writeDelta } from './delta.ts';
import type { ImportOptions } from './import.ts';
import { fates, type Difference, type Look } from './look.ts';
import type { Ownership } from './ownership.ts';
import { isSettled, type SeenRows } from './seen.ts';
import type { Selection } from './select.ts';
import { countsOf, type BaseMeta, type Counts, type StoredBase } from './stored-base.ts';
import { TreeText } from './tree-text.ts';

/** What was written into a directory that is to become a base. */
export interface Imported {
  readonly text: TreeText;
  readonly digest: Digest;
  readonly root: Ownership;
  readonly counts: Counts;
  /** What the files looked like, to be believed later. */
  readonly rows: SeenRows;
  readonly delta?: BaseMeta['delta'];
  /** Where it is known without reading the text. */
  readonly tree?: Tree;
}

/** All of it. Of an earlier base, what is the same gets one more name. */
export async function importWhole(
  selection: Selection,
  scope: Scope,
  into: string,
  earlier: EarlierBase | undefined,
  options: ImportOptions,
): Promise<Imported> {
  const { tree, root, identities } = await writeBase(selection, scope, path.join(into, 'tree'), earlier, options);
  const text = new TreeText(Buffer.from(encodeTree(tree)));
  const counts = countsOf(tree, scope);
  return { text, digest: digestOf(text.bytes), root, counts, rows: believed(selection.look, identities), tree };
}

/** What has changed since another base. Undefined where it is to be imported as a whole. */
export async function importDelta(
  before: StoredBase,
  difference: Difference,
  selection: Selection,
  scope: Scope,
  into: string,
  options: ImportOptions,
): Promise<Imported | undefined> {
  if (!isWorthDelta(before, difference)) return undefined;
  const rows = selection.look.rows.copy();
  const written = await writeDelta(before, difference, selection, scope, into, rows, options);
  if (written === undefined) return undefined;
  disbelieveUnsettled(selection.look, rows);
  const { text, counts, root, count: names } = written;
  const over = before.meta.delta?.over ?? before.key;
  return { text, digest: digestOf(text.bytes), root, counts, rows, delta: { over, names } };
}

/** What was seen now, where it is all that the last import saw. */
export function stillBelieved(look: Look): SeenRows {
  const rows = look.rows.copy();
  disbelieveUnsettled(look, rows);
  return rows;
}

/** Links and what is not brought in; of files, who reads them knows. */
function disbelieveUnsettled(look: Look, rows: SeenRows): void {
  for (const [at, fate] of look.fates.entries())
    if (fate !== fates.file && !isSettled(rows.seen(at).changedMs, look.beganMs)) rows.disbelieve(at);
}

/** The rows of those whose content cannot have changed unseen since it was read. */
export function believed(look: Look, identities: ReadonlyMap<string, string>): SeenRows {
  const rows = look.rows.copy();
  for (const [at, fate] of look.fates.entries()) {
    const seen = rows.seen(at);
    if (
      fate === fates.file
        ? identities.get(look.names[at] ?? '') === seen.identity
        : isSettled(seen.changedMs, look.beganMs)
    )
      continue;
    if (fate !== fates.missing) rows.disbelieve(at);
  }
  return rows;
}
