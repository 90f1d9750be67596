import type { Files } from '../language/files.ts';
import { covers, mayOverlap } from './glob-algebra.ts';
import type { FileScope } from '../../workspace/scope/scope.ts';

/** What one layer says of paths, complete; globs only. */
export interface FileRules {
  /** Which layer says it. */
  readonly layer: string;
  readonly read: readonly string[];
  readonly write: readonly string[];
  readonly writeAsk: readonly string[];
  readonly proposeOnly: readonly string[];
  readonly scratch: readonly string[];
  readonly deny: readonly string[];
}

/** The same while it is put together: what no layer has said yet is undefined. */
export interface StatedRules {
  readonly layer: string;
  readonly read?: readonly string[] | undefined;
  readonly writable?: Pick<FileRules, 'write' | 'writeAsk' | 'proposeOnly'> | undefined;
  readonly scratch?: readonly string[] | undefined;
  readonly deny: readonly string[];
}

/** A list that this layer leaves out is as the layer above has it. `write`, `write_ask` and `propose_only` are said together. */
export function below(above: StatedRules | undefined, layer: string, files: Files): StatedRules {
  const { write, write_ask: writeAsk, propose_only: proposeOnly } = files;
  const says = write !== undefined || writeAsk !== undefined || proposeOnly !== undefined;
  return {
    layer,
    read: files.read ?? above?.read,
    writable: says ? { write: write ?? [], writeAsk: writeAsk ?? [], proposeOnly: proposeOnly ?? [] } : above?.writable,
    scratch: files.scratch ?? above?.scratch,
    deny: files.deny ?? [],
  };
}

/** What a layer does not say it does not bound: `open`. Of the last layer it is nothing. */
export function complete(rules: StatedRules, unsaid: 'open' | 'nothing'): FileRules {
  const read = rules.read ?? (unsaid === 'open' ? ['**'] : []);
  const unsaidWritable = { write: unsaid === 'open' ? read : [], writeAsk: [], proposeOnly: [] };
  const { layer, scratch = [], deny } = rules;
  return { layer, read, ...(rules.writable ?? unsaidWritable), scratch, deny };
}

export interface Widening {
  readonly list: 'read' | 'write' | 'write_ask' | 'propose_only' | 'scratch';
  readonly glob: string;
  /** The lists of the layer above in which it would have to be. */
  readonly of: string;
}

/** What `files` names beyond `above`. Exclusions and `deny` need no check: they add up over the layers. */
export function wideningsOf(above: FileRules, files: Files): readonly Widening[] {
  const { read, write, writeAsk, proposeOnly, scratch } = above;
  const writable = [...write, ...writeAsk, ...proposeOnly];
  const present = writable.some((glob) => glob.startsWith('!')) ? read : [...read, ...writable];
  const checks = [
    ['read', present, 'read'],
    ['write', write, 'write'],
    ['write_ask', [...write, ...writeAsk], 'write and write_ask'],
    ['propose_only', writable, 'write, write_ask and propose_only'],
    ['scratch', [...scratch, ...writable], 'scratch and write'],
  ] as const;
  return checks.flatMap(([list, within, of]) =>
    included(files[list] ?? [])
      .filter((glob) => !included(within).some((outer) => covers(outer, glob)))
      .map((glob) => ({ list, glob, of })),
  );
}

/**
 * One scope for the sandbox, in which nothing is present or writable that any layer says is not there. Finer differences
 * (`write_ask`, `propose_only`, scratch above what is written below) are decided on the way out, path by path.
 */
export function workspaceScope(layers: readonly FileRules[]): FileScope {
  const last = layers.at(-1);
  const writable = layers.map(writableList);
  return {
    read: withExclusions(
      last?.read ?? [],
      layers.map(({ read }) => read),
    ),
    write: withExclusions(writable.at(-1) ?? [], writable),
    scratch: last?.scratch ?? [],
    deny: deniedBy(layers.map(({ deny }) => deny)),
  };
}

/** Whatever may be written for export: what one list takes away and another names again is in it. */
function writableList({ write, writeAsk, proposeOnly }: FileRules): readonly string[] {
  const lists = [write, writeAsk, proposeOnly];
  const stays = (glob: string, list: readonly string[]): boolean =>
    !glob.startsWith('!') || namedAgain(glob.slice(1), list, lists) !== 'whole';
  return unique(lists.flatMap((list) => list.filter((glob) => stays(glob, list))));
}

/** An exclusion of one list of which another list names a part: what holds there could not be said in one scope. */
export function ambiguitiesOf({ write, writeAsk, proposeOnly }: FileRules): readonly string[] {
  const lists = [write, writeAsk, proposeOnly];
  return lists.flatMap((list) =>
    list
      .filter((glob) => glob.startsWith('!') && namedAgain(glob.slice(1), list, lists) === 'in part')
      .map((glob) => `${JSON.stringify(glob)} takes away a part of what another list names; name what is meant`),
  );
}

/** How much of what `list` takes away the others name, less what they take away themselves. */
function namedAgain(
  taken: string,
  list: readonly string[],
  lists: readonly (readonly string[])[],
): 'whole' | 'in part' | 'nothing' {
  const others = lists.filter((other) => other !== list && !excluded(other).some((glob) => covers(glob, taken)));
  const names = included(others.flat());
  if (!names.some((glob) => mayOverlap(glob, taken))) return 'nothing';
  const untouched = others.filter((other) => !excluded(other).some((glob) => mayOverlap(glob, taken)));
  return included(untouched.flat()).some((glob) => covers(glob, taken)) ? 'whole' : 'in part';
}

/** The list, less what any of the others takes away from itself. */
function withExclusions(list: readonly string[], all: readonly (readonly string[])[]): readonly string[] {
  const whole = unique([...list, ...all.flatMap((other) => other.filter((glob) => glob.startsWith('!')))]);
  return included(whole).length > 0 ? whole : [];
}

/** The union of several deny lists: an exclusion holds only where every list that could deny it has it too. */
function deniedBy(lists: readonly (readonly string[])[]): readonly string[] {
  const holds = (glob: string): boolean =>
    !glob.startsWith('!') ||
    lists.every((list) => list.includes(glob) || !included(list).some((denied) => mayOverlap(denied, glob.slice(1))));
  const whole = unique(lists.flat()).filter(holds);
  return included(whole).length > 0 ? whole : [];
}

function included(globs: readonly string[]): readonly string[] {
  return globs.filter((glob) => !glob.startsWith('!'));
}

/** Without their exclamation marks. */
function excluded(globs: readonly string[]): readonly string[] {
  return globs.filter((glob) => glob.startsWith('!')).map((glob) => glob.slice(1));
}

function unique(globs: readonly string[]): readonly string[] {
  return [...new Set(globs)];
}
