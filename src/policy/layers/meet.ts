import { layFiles, type FileLayers } from './file-layers.ts';
import type { Held } from './held.ts';
import { Budget, Limits } from '../language/limits.ts';
import type { Restriction } from './restriction.ts';
import {
  knowsNone,
  standardBudget,
  standardDns,
  standardEgress,
  standardLimits,
  standardTools,
} from '../language/standards.ts';

/** What all layers allow together. Keys are written as in a file: `limits.memory`, `budget.max_actions_by_tag.deploy`. */
export interface Meet {
  readonly numbers: ReadonlyMap<string, Held<number>>;
  readonly lists: ReadonlyMap<string, Held<readonly string[]>>;
  readonly runtime: Held<'runc' | 'runsc'>;
  /** Of several words, the strictest. */
  readonly words: ReadonlyMap<string, Held<string>>;
  readonly flags: ReadonlyMap<string, Held<boolean>>;
  /** Approvals that every export needs, and who asks for them. */
  readonly approvals: ReadonlyMap<string, Held<string>>;
  readonly files: FileLayers;
  /** Each with the place in the layer that widens and in the one that it widens. */
  readonly problems: readonly string[];
}

/**
 * Lays restrictions over one another. What comes out allows nothing that one of them does not: of two numbers the smaller
 * holds, of two lists what is in both, of two runtimes the stronger. What a lower layer says beyond an upper one is reported
 * besides, so that it does not load: a file against the files above it; a risk level, lane or class against its file, the
 * files above and its namesakes there; the request against all.
 */
export function meet(restrictions: readonly Restriction[], hasClass: boolean): Meet {
  const tables = {
    numbers: new Map(),
    lists: new Map(),
    runtime: new Map(),
    words: new Map(),
    flags: new Map(),
  } as Tables;
  const approvals = new Map<string, Held<string>>();
  const problems: string[] = [];
  const request = restrictions.filter(({ level }) => level === 'request');
  const standing = restrictions.filter(({ level }) => level !== 'request');
  for (const by of standing) lay(tables, by, problems);
  fillIn(tables, standing, hasClass);
  for (const by of request) lay(tables, by, problems);
  for (const { says, layer, placeOf } of restrictions)
    for (const name of says.approvals ?? [])
      if (!approvals.has(name)) approvals.set(name, { value: name, layer, place: placeOf(['approvals']) });
  const files = layFiles(restrictions);
  const held = <T>(table: Table<T>): ReadonlyMap<string, Held<T>> =>
    new Map([...table].flatMap(([key, { now }]) => (now === undefined ? [] : [[key, now] as const])));
  return {
    numbers: held(tables.numbers),
    lists: held(tables.lists),
    runtime: held(tables.runtime).get('runtime') ?? { value: 'runc', ...byDefault },
    words: held(tables.words),
    flags: held(tables.flags),
    approvals,
    files,
    problems: [...problems, ...files.problems],
  };
}

/** What holds for a key so far, and all that was said of it. */
type Table<T> = Map<
  string,
  { now: Held<T> | undefined; readonly said: { readonly by: Restriction; readonly held: Held<T> }[] }
>;

interface Tables {
  readonly numbers: Table<number>;
  readonly lists: Table<readonly string[]>;
  readonly runtime: Table<'runc' | 'runsc'>;
  readonly words: Table<string>;
  readonly flags: Table<boolean>;
}

/** How two values of a key meet, and why one is wider than another. */
interface Order<T> {
  readonly meet: (above: T, below: T) => T;
  /** Undefined: it is not wider. */
  readonly wider: (
    above: Held<T>,
    below: T,
    raw: unknown,
  ) => { readonly why: string; readonly at?: number } | undefined;
}

const byDefault = { layer: 'default', place: 'default' } as const;
const listKeys = ['images', 'tools.allow', 'egress'] as const;

function lay({ numbers, lists, runtime, words, flags }: Tables, by: Restriction, problems: string[]): void {
  const { says } = by;
  const put = <T>(
    table: Table<T>,
    path: readonly string[],
    value: T | undefined,
    order: Order<T>,
    key = path.join('.'),
  ): void => {
    if (value === undefined) return;
    const entry = table.get(key) ?? { now: undefined, said: [] };
    table.set(key, entry);
    const raw = by.rawOf(path);
    for (const above of boundsOf(entry, by)) {
      const wider = order.wider(above, value, raw);
      if (wider === undefined) continue;
      const place = wider.at === undefined ? path : [...path, `${wider.at}`];
      problems.push(`${by.placeOf(place)}: ${place.join('.')}: ${wider.why}; a lower layer can only narrow`);
      break;
    }
    const held = { value, layer: by.layer, place: by.placeOf(path) };
    entry.said.push({ by, held });
    const met = entry.now === undefined ? value : order.meet(entry.now.value, value);
    // Who said it last, where both say the same.
    entry.now =
      met === value || JSON.stringify(met) === JSON.stringify(value) ? held : { ...(entry.now ?? held), value: met };
  };
  for (const [group, schema] of [
    ['limits', Limits],
    ['budget', Budget],
  ] as const)
    for (const [key, value] of Object.entries(says[group] ?? {}))
      if (typeof value === 'number')
        put(numbers, [group, key], value, numberOrder(knowsNone(valueOf(schema.shape, key))));
  for (const [tag, count] of Object.entries(says.budget?.max_actions_by_tag ?? {}))
    put(numbers, ['budget', 'max_actions_by_tag', tag], count, numberOrder(false));
  put(lists, ['images'], says.images, listOrder);
  put(lists, ['tools', 'allow'], says.tools?.allow, listOrder);
  const [used, order] = isFile(by) ? [['egress', 'use'], listOrder] : [['egress'], ceilingOrder];
  put(lists, used, says.egress, by.level === 'request' ? listOrder : order, 'egress');
  put(numbers, ['egress', 'max_connections'], says.reach?.max_connections, numberOrder(false));
  put(numbers, ['egress', 'dns', 'max_names'], says.reach?.dns?.max_names, numberOrder(false));
  put(numbers, ['egress', 'dns', 'max_unlisted'], says.reach?.dns?.max_unlisted, numberOrder(false));
  put(words, ['egress', 'dns', 'on_excess'], says.reach?.dns?.on_excess, wordOrder('deny', 'stop_run'));
  put(words, ['egress', 'mode'], says.reach?.mode, wordOrder('observe', 'enforce'));
  put(runtime, ['runtime'], says.runtime, runtimeOrder);
  put(flags, ['files', 'include_ignored'], says.files?.include_ignored, flagOrder);
  put(flags, ['files', 'git'], says.files?.git, lastOrder);
}

/** What a layer must not go beyond. Risk, lane and class do not bound one another: there the narrowest holds. */
function boundsOf<T>(
  entry: { now: Held<T> | undefined; readonly said: readonly { by: Restriction; held: Held<T> }[] },
  by: Restriction,
): readonly Held<T>[] {
  if (by.level === 'request') return entry.now === undefined ? [] : [entry.now];
  const isAbove = (other: Restriction): boolean =>
    isFile(other) ? other.fileIndex <= by.fileIndex : other.level === by.level && other.fileIndex < by.fileIndex;
  return entry.said.filter(({ by: other }) => isAbove(other)).map(({ held }) => held);
}

function isFile({ level }: Pick<Restriction, 'level'>): boolean {
  return level === 'organisation' || level === 'repository';
}

/** From here on, what nobody has said is what the defaults say. */
function fillIn(
  { numbers, lists, runtime, words, flags }: Tables,
  standing: readonly Restriction[],
  hasClass: boolean,
): void {
  const fill = <T>(table: Table<T>, key: string, value: T): void => {
    if (table.get(key)?.now === undefined) table.set(key, { now: { value, ...byDefault }, said: [] });
  };
  for (const [group, values] of [
    ['limits', standardLimits],
    ['budget', standardBudget],
  ] as const)
    for (const [key, value] of Object.entries(values))
      if (typeof value === 'number') fill(numbers, `${group}.${key}`, value);
  fill(numbers, 'egress.max_connections', standardEgress.max_connections);
  fill(numbers, 'egress.dns.max_names', standardDns.max_names);
  fill(numbers, 'egress.dns.max_unlisted', standardDns.max_unlisted);
  fill(words, 'egress.dns.on_excess', standardDns.on_excess);
  fill(words, 'egress.mode', standardEgress.mode);
  // Risk and lane are ceilings, and so are files where there are classes: what none of these names, nobody has.
  const naming = standing.filter(
    ({ level, says }) => says.egress !== undefined && (level === 'class' || (isFile({ level }) && !hasClass)),
  );
  if (naming.length === 0) lists.delete('egress');
  const nothing: Readonly<Record<string, readonly string[]>> = { 'tools.allow': standardTools };
  for (const key of listKeys) fill(lists, key, nothing[key] ?? []);
  fill(runtime, 'runtime', 'runc');
  fill(flags, 'files.include_ignored', false);
  fill(flags, 'files.git', false);
}

function numberOrder(zeroIsNone: boolean): Order<number> {
  const size = (value: number): number => (zeroIsNone && value === 0 ? Number.POSITIVE_INFINITY : value);
  return {
    meet: (above, below) => (size(below) < size(above) ? below : above),
    wider: (above, below, raw) =>
      size(below) > size(above.value) ? { why: `${shown(raw)} is more than ${placeText(above)}` } : undefined,
  };
}

const listOrder: Order<readonly string[]> = {
  meet: (above, below) => below.filter((item) => above.includes(item)),
  wider: (above, below) => {
    const at = below.findIndex((item) => !above.value.includes(item));
    if (at < 0) return undefined;
    const there = above.place === 'default' && above.value.length === 0 ? 'there are none' : above.value.join(', ');
    return { at, why: `${shown(below[at])} is not among those of ${above.place} (${there})` };
  },
};

/** A class may name more than its lane and its risk give. */
const ceilingOrder: Order<readonly string[]> = { ...listOrder, wider: () => undefined };

const runtimeOrder: Order<'runc' | 'runsc'> = {
  meet: (above, below) => (above === 'runsc' ? above : below),
  wider: (above, below) =>
    above.value === 'runsc' && below === 'runc'
      ? { why: `runc is weaker than runsc, which ${above.place} asks for` }
      : undefined,
};

/** From the weakest to the strictest. */
function wordOrder(...words: readonly string[]): Order<string> {
  const rank = (word: string): number => words.indexOf(word);
  return {
    meet: (above, below) => (rank(above) > rank(below) ? above : below),
    wider: (above, below) =>
      rank(below) < rank(above.value)
        ? { why: `${below} is weaker than ${above.value}, which ${above.place} asks for` }
        : undefined,
  };
}

const flagOrder: Order<boolean> = {
  meet: (above, below) => above && below,
  wider: (above, below) => (below && !above.value ? { why: `true is more than ${placeText(above)}` } : undefined),
};

const lastOrder: Order<boolean> = { meet: (_, below) => below, wider: () => undefined };

function placeText(above: Held<unknown>): string {
  return above.place === 'default' ? 'the default' : `what ${above.place} (${above.layer}) allows`;
}

function valueOf(shape: Readonly<Record<string, unknown>>, key: string): unknown {
  return shape[key];
}

function shown(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 200)) : String(value);
}
