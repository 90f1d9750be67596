import { hostsOverlap } from '../decisions/host-name.ts';
import type { Egress } from '../language/egress.ts';
import type { SourceFile } from '../language/source-file.ts';
import { standardDns, standardEgress } from '../language/standards.ts';
import { isSameInput } from './effective.ts';

type Path = readonly (string | number)[];
type Report = (path: Path, why: string) => void;

/** What a file says of egress that the files above it do not leave to it, and what could never be carried out. */
export function egressProblems(chain: readonly SourceFile[], index: number): readonly string[] {
  const source = chain[index];
  const reach = source?.file.egress;
  if (source === undefined) return [];
  const above = chain.slice(0, index);
  return reported(source, (report) => {
    refuseObserve(chain, index, report);
    for (const upper of above) {
      const { profiles, upstreams, use } = upper.file.egress ?? {};
      if (profiles !== undefined)
        for (const name of Object.keys(reach?.profiles ?? {}))
          report(
            ['egress', 'profiles', name],
            `${upper.placeOf(['egress', 'profiles'])} says which profiles there are; a lower layer can only name them`,
          );
      if (upstreams !== undefined)
        for (const at of (reach?.upstreams ?? []).keys())
          report(
            ['egress', 'upstreams', at],
            `${upper.placeOf(['egress', 'upstreams'])} says which upstreams there are; a lower layer can only name them`,
          );
      source.file.environment?.egress?.forEach((name, at) => {
        if (use !== undefined && !use.includes(name))
          report(
            ['environment', 'egress', at],
            `${JSON.stringify(name)} is not among those of ${upper.placeOf(['egress', 'use'])}; a lower layer can only narrow`,
          );
      });
    }
    refuseNamesTwice(chain.slice(0, index + 1), reach, report);
    refuseUnboundCredentials(chain.slice(0, index + 1), reach, report);
  });
}

/**
 * A repository's own policy narrows what whoever opens a run gives; even where that says nothing, it opens nothing: no
 * destination, no secret, no directory of this machine, no bound beyond the default.
 */
export function repositoryProblems(above: readonly SourceFile[], layer: SourceFile): readonly string[] {
  const { file } = layer;
  const { egress } = file;
  const used = (name: string): boolean => above.some((upper) => upper.file.egress?.use?.includes(name) === true);
  return reported(layer, (report) => {
    const says = 'is said by whoever opens the run, not by a repository; a repository can only narrow it';
    for (const key of ['profiles', 'upstreams', 'observe'] as const)
      if (egress?.[key] !== undefined) report(['egress', key], says);
    if (egress?.mode === 'observe') report(['egress', 'mode'], says);
    if (file.credentials !== undefined) report(['credentials'], says);
    const isRuled = above.some((upper) => (upper.file.promotion?.rules ?? []).length > 0);
    if (file.promotion?.rules !== undefined && !isRuled) report(['promotion', 'rules'], says);
    if ((file.environment?.egress ?? []).length > 0) report(['environment', 'egress'], says);
    file.inputs?.forEach((input, at) => {
      if (!above.some((upper) => upper.file.inputs?.some((other) => isSameInput(input, other)) === true))
        report(['inputs', at], says);
    });
    const named = (list: readonly string[] | undefined, path: Path, given: (name: string) => boolean): void =>
      list?.forEach((name, at) => {
        if (!given(name)) report([...path, at], `${JSON.stringify(name)} ${says}`);
      });
    if (!above.some((upper) => upper.file.classes !== undefined)) named(egress?.use, ['egress', 'use'], used);
    for (const [name, rules] of Object.entries(file.classes ?? {}))
      named(
        rules.egress,
        ['classes', name, 'egress'],
        (one) => used(one) || above.some((upper) => upper.file.classes?.[name]?.egress?.includes(one) === true),
      );
    refuseBeyondDefault(above, egress, report);
  });
}

function reported(source: SourceFile, find: (report: Report) => void): readonly string[] {
  const problems: string[] = [];
  find((path, why) => problems.push(`${source.placeOf(path)}: ${path.join('.')}: ${why}`));
  return problems;
}

function refuseObserve(chain: readonly SourceFile[], index: number, report: Report): void {
  const egress = chain[index]?.file.egress;
  const top = chain[0];
  if (egress?.observe !== undefined && index > 0)
    report(['egress', 'observe'], `only the topmost file (${top?.source ?? ''}) can allow it`);
  if (egress?.mode === 'observe' && top?.file.egress?.observe !== 'allowed')
    report(
      ['egress', 'mode'],
      `observe is not allowed; the topmost file (${top?.source ?? ''}) has to say \`egress: {observe: allowed}\``,
    );
}

/** One list names both, so that one name is one thing. */
function refuseNamesTwice(chain: readonly SourceFile[], egress: Egress | undefined, report: Report): void {
  const profiles = new Set(chain.flatMap(({ file }) => Object.keys(file.egress?.profiles ?? {})));
  egress?.upstreams?.forEach(({ id }, at) => {
    if (profiles.has(id))
      report(['egress', 'upstreams', at, 'id'], `${id} is the name of a profile too; choose another`);
  });
}

/** A credential that is bound to another host would never be attached. */
function refuseUnboundCredentials(chain: readonly SourceFile[], egress: Egress | undefined, report: Report): void {
  for (const [name, rules] of Object.entries(egress?.profiles ?? {}))
    rules.forEach((rule, at) => {
      if (rule.credential === undefined || rule.host === undefined) return;
      const bound = chain.map(({ file }) => file.credentials?.[rule.credential ?? '']).find((one) => one !== undefined);
      if (bound === undefined || rule.host.some((host) => hostsOverlap(host, bound.host))) return;
      report(
        ['egress', 'profiles', name, at, 'credential'],
        `${rule.credential} is bound to ${bound.host}, which is none of ${rule.host.join(', ')}`,
      );
    });
}

function refuseBeyondDefault(above: readonly SourceFile[], egress: Egress | undefined, report: Report): void {
  const bounds: readonly (readonly [Path, (says: Egress | undefined) => number | undefined, number])[] = [
    [['egress', 'max_connections'], (says) => says?.max_connections, standardEgress.max_connections],
    [['egress', 'dns', 'max_names'], (says) => says?.dns?.max_names, standardDns.max_names],
    [['egress', 'dns', 'max_unlisted'], (says) => says?.dns?.max_unlisted, standardDns.max_unlisted],
  ];
  for (const [path, of, standard] of bounds)
    if ((of(egress) ?? 0) > standard && !above.some(({ file }) => of(file.egress) !== undefined))
      report(path, `${of(egress)} is more than the default, ${standard}; a lower layer can only narrow`);
}
