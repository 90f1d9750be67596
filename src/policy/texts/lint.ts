import { canonicalCommands } from '../decisions/canonical-command.ts';
import { CommandRules } from '../decisions/command-rules.ts';
import { covers } from '../layers/glob-algebra.ts';
import type { SourceFile } from '../language/source-file.ts';

export interface LintFinding {
  readonly kind: 'never_matches' | 'shadowed' | 'ambiguous' | 'over_broad' | 'unused' | 'untested';
  readonly place: string;
  readonly key: string;
  readonly message: string;
}

/** What loads, and yet is not what its writer can have meant; of the last file, under all layers. */
export function lintPolicy(chain: readonly SourceFile[]): readonly LintFinding[] {
  const source = chain.at(-1);
  if (source === undefined) return [];
  return [
    ...lintPaths(chain, source),
    ...lintCommands(chain, source),
    ...lintEgress(source),
    ...lintNames(chain, source),
  ];
}

type Path = readonly (string | number)[];

function finding(source: SourceFile, kind: LintFinding['kind'], path: Path, message: string): LintFinding {
  return { kind, place: source.placeOf(path), key: path.join('.'), message };
}

const lists = ['read', 'write', 'write_ask', 'propose_only', 'scratch'] as const;

function lintPaths(chain: readonly SourceFile[], source: SourceFile): readonly LintFinding[] {
  const denied = chain.flatMap(({ file }) => file.files?.deny ?? []);
  const excluded = denied.filter((glob) => glob.startsWith('!'));
  const findings: LintFinding[] = [];
  for (const [path, files] of filesOf(source)) {
    for (const list of lists) {
      const globs = files[list] ?? [];
      for (const glob of globs.filter((one) => !one.startsWith('!'))) {
        const dead = denied.find((outer) => !outer.startsWith('!') && deniesAll(outer, glob));
        if (dead !== undefined && excluded.length === 0)
          findings.push(
            finding(source, 'never_matches', [...path, list], `${glob} never matches: ${dead} denies all of it`),
          );
        const wider = globs.find((other) => other !== glob && !other.startsWith('!') && covers(other, glob));
        if (wider !== undefined && !covers(glob, wider))
          findings.push(finding(source, 'shadowed', [...path, list], `${glob} says nothing new: ${wider} covers it`));
      }
    }
    const wide = files.write?.includes('**') === true && denied.length === 0;
    if (wide)
      findings.push(
        finding(
          source,
          'over_broad',
          [...path, 'write'],
          'everything may be changed and nothing is denied; deny what holds secrets and what runs later',
        ),
      );
  }
  return findings;
}

function filesOf({ file }: SourceFile): readonly (readonly [Path, NonNullable<SourceFile['file']['files']>])[] {
  const own = file.files === undefined ? [] : [[['files'], file.files] as const];
  const ofClasses = Object.entries(file.classes ?? {}).flatMap(([name, { files }]) =>
    files === undefined ? [] : [[['classes', name, 'files'], files] as const],
  );
  return [...own, ...ofClasses];
}

/** A denied directory denies what is below it. */
function deniesAll(outer: string, inner: string): boolean {
  return covers(outer, inner) || covers(`${outer}/**`, inner);
}

function lintCommands(chain: readonly SourceFile[], source: SourceFile): readonly LintFinding[] {
  const layers = chain.flatMap(({ file }, at) =>
    file.commands === undefined ? [] : [{ layer: `${at}`, rules: file.commands }],
  );
  const rules = new CommandRules(layers);
  const findings: LintFinding[] = [];
  source.file.commands?.forEach((rule, at) => {
    const results = rule.tests.match.map((script) => rules.decide(canonicalCommands({ script })));
    const winners = new Set(results.map((result) => result?.rule?.id));
    const [winner] = winners;
    if (!winners.has(rule.id) && winner !== undefined && rule.effect !== results[0]?.effect)
      findings.push(
        finding(
          source,
          'shadowed',
          ['commands', at],
          `${rule.id} never decides: for all its examples ${winner} is stricter`,
        ),
      );
    const twin = source.file.commands?.findIndex(
      (other, index) => index < at && JSON.stringify(other.match) === JSON.stringify(rule.match),
    );
    if (twin !== undefined && twin >= 0)
      findings.push(
        finding(
          source,
          'ambiguous',
          ['commands', at],
          `${rule.id} matches just what ${source.file.commands?.[twin]?.id} does; make one of them`,
        ),
      );
    if (rule.effect === 'allow' && rule.match.opaque === true)
      findings.push(finding(source, 'over_broad', ['commands', at], `${rule.id} allows what cannot be read`));
  });
  return findings;
}

function lintEgress(source: SourceFile): readonly LintFinding[] {
  const findings: LintFinding[] = [];
  for (const [name, rules] of Object.entries(source.file.egress?.profiles ?? {})) {
    rules.forEach((rule, at) => {
      const path = ['egress', 'profiles', name, at];
      const hosts = rule.host ?? [];
      const wide = hosts.find((host) => /^\*{1,2}\.[^.]+$/.test(host));
      if (wide !== undefined)
        findings.push(finding(source, 'over_broad', path, `${wide} is every host of a whole top-level domain`));
      const other = rules.find(
        (one, index) =>
          index < at &&
          one.host?.some((host) => hosts.includes(host)) === true &&
          (one.tls !== rule.tls || one.credential !== rule.credential) &&
          sameRequests(one, rule),
      );
      if (other !== undefined)
        findings.push(
          finding(
            source,
            'ambiguous',
            path,
            `${rule.id} and ${other.id} speak of the same requests with another TLS or credential`,
          ),
        );
    });
  }
  return findings;
}

function sameRequests(
  a: { path?: readonly string[] | undefined; methods?: readonly string[] | undefined },
  b: typeof a,
): boolean {
  return JSON.stringify([a.path, a.methods]) === JSON.stringify([b.path, b.methods]);
}

function lintNames(chain: readonly SourceFile[], source: SourceFile): readonly LintFinding[] {
  const { file } = source;
  const findings: LintFinding[] = [];
  const text = source.text;
  for (const name of Object.keys(file.path_sets ?? {}))
    if (file.extends !== undefined || file.classes !== undefined)
      if (!text.includes(`$${name}`))
        findings.push(finding(source, 'unused', ['path_sets', name], `$${name} is used nowhere in this file`));
  const lanes = new Set(Object.values(file.classes ?? {}).flatMap(({ lane }) => lane ?? []));
  const handedTo = new Set(Object.values(file.lanes ?? {}).flatMap(({ hand_over: over }) => over?.to ?? []));
  for (const lane of Object.keys(file.lanes ?? {}))
    if (!lanes.has(lane) && !handedTo.has(lane))
      findings.push(finding(source, 'unused', ['lanes', lane], `no class works in lane ${lane}`));
  const named = new Set([
    ...(file.egress?.use ?? []),
    ...(file.environment?.egress ?? []),
    ...Object.values(file.classes ?? {}).flatMap(({ egress }) => egress ?? []),
  ]);
  for (const name of Object.keys(file.egress?.profiles ?? {}))
    if (!named.has(name))
      findings.push(
        finding(source, 'unused', ['egress', 'profiles', name], `nothing names ${name}, so that no run has it`),
      );
  file.egress?.upstreams?.forEach(({ id }, at) => {
    if (!named.has(id))
      findings.push(
        finding(source, 'unused', ['egress', 'upstreams', at], `nothing names ${id}, so that no run has it`),
      );
  });
  const sent = new Set(
    Object.values(file.egress?.profiles ?? {}).flatMap((rules) => rules.flatMap((rule) => rule.credential ?? [])),
  );
  for (const name of Object.keys(file.credentials ?? {}))
    if (!sent.has(name))
      findings.push(
        finding(source, 'unused', ['credentials', name], `no rule names ${name}, so that it is never sent`),
      );
  if (file.context?.max_age_calls !== undefined && chain.every((one) => one.file.context?.fresh_before === undefined))
    findings.push(
      finding(source, 'unused', ['context', 'max_age_calls'], 'no call needs a context snapshot; say fresh_before'),
    );
  const looks = chain.flatMap((one) => one.file.drift?.check ?? []);
  if (file.drift?.after_calls_every !== undefined && !looks.includes('after_calls'))
    findings.push(
      finding(source, 'unused', ['drift', 'after_calls_every'], 'nothing looks after calls: name after_calls in check'),
    );
  if ((file.tests ?? []).length === 0)
    findings.push(finding(source, 'untested', [], 'no tests: say at least what must never be possible'));
  for (const name of Object.keys(file.classes ?? {}))
    if (!(file.tests ?? []).some(({ given }) => given.class === name))
      findings.push(finding(source, 'untested', ['classes', name], `no test asks anything of class ${name}`));
  return findings;
}
