import { ambiguitiesOf, below, complete, wideningsOf, type FileRules, type StatedRules } from './file-rules.ts';
import type { Files } from '../language/files.ts';
import type { Held } from './held.ts';
import type { Restriction } from './restriction.ts';

export interface FileLayers {
  /** One for each layer that says something of files, the widest first. */
  readonly layers: readonly FileRules[];
  /** Who decided each list, by its name in a file. */
  readonly decidedBy: ReadonlyMap<string, Held<string>>;
  readonly problems: readonly string[];
}

const fileLists = ['read', 'write', 'write_ask', 'propose_only', 'scratch', 'deny'] as const;

/**
 * What files, their class and the request say of paths, over one another. A file's class is held against that file and
 * against what the class is in the files above; a file without the class, against it too.
 */
export function layFiles(restrictions: readonly Restriction[]): FileLayers {
  const said = restrictions.filter(({ says, level }) => says.files !== undefined && speaksOfFiles.has(level));
  const decidedBy = new Map<string, Held<string>>();
  const problems: string[] = [];
  const stated: { readonly rules: StatedRules; readonly by: Restriction }[] = [];
  for (const by of inOrder(said)) {
    const { says, layer, placeOf } = by;
    const files: Files = says.files ?? {};
    const root = stated.findLast((above) => above.by.level !== 'class' && above.by.fileIndex <= by.fileIndex)?.rules;
    const last = stated.at(-1)?.rules;
    const rules = below(by.level === 'class' ? root : last, layer, files);
    const above = new Set([root, last].filter((one) => one !== undefined));
    for (const one of above) problems.push(...beyond(one, rules, files, by, decidedBy));
    stated.push({ rules, by });
    for (const list of fileLists)
      if (files[list] !== undefined) decidedBy.set(list, { value: list, layer, place: placeOf(['files', list]) });
    const widest = complete(rules, 'nothing');
    problems.push(...ambiguitiesOf(widest).map((why) => `${placeOf(['files'])}: files: ${why}`));
  }
  // Upper layers bound only what they speak of; in the last, what nobody names is not allowed.
  const layers = stated.map(({ rules }, at) => complete(rules, at === stated.length - 1 ? 'nothing' : 'open'));
  return { layers, decidedBy, problems: [...new Set(problems)] };
}

const speaksOfFiles: ReadonlySet<string> = new Set(['organisation', 'repository', 'class', 'request']);

/** Each file is followed by its own class; the request comes last. */
function inOrder(restrictions: readonly Restriction[]): readonly Restriction[] {
  return restrictions.toSorted((a, b) => a.fileIndex - b.fileIndex);
}

function beyond(
  above: StatedRules,
  rules: StatedRules,
  files: Files,
  { level, placeOf, rawOf }: Restriction,
  decidedBy: ReadonlyMap<string, Held<string>>,
): readonly string[] {
  // What is inherited from a wider place than `above` is held against it as well.
  const whole: Files = { ...asFiles(rules), ...files };
  return wideningsOf(complete(above, level === 'request' ? 'nothing' : 'open'), whole).map(({ list, glob, of }) => {
    const raw = rawOf(['files', list]);
    const index = Array.isArray(raw) ? raw.indexOf(glob) : -1;
    const path = ['files', list, ...(index < 0 ? [] : [`${index}`])];
    const place = decidedBy.get(list)?.place ?? decidedBy.get('write')?.place ?? 'which does not name it';
    const why = `${JSON.stringify(glob)} is not within ${of} of ${above.layer} (${place})`;
    return `${placeOf(path)}: ${path.join('.')}: ${why}; a lower layer can only narrow`;
  });
}

function asFiles({ read, writable, scratch }: StatedRules): Files {
  return {
    ...(read === undefined ? {} : { read }),
    ...(writable === undefined
      ? {}
      : { write: writable.write, write_ask: writable.writeAsk, propose_only: writable.proposeOnly }),
    ...(scratch === undefined ? {} : { scratch }),
  };
}
