import { RunnerError } from '../../errors.ts';
import { canonicalCommands } from '../decisions/canonical-command.ts';
import { CommandRules, matchesCommand } from '../decisions/command-rules.ts';
import { driftProblems } from './check-drift.ts';
import { egressProblems } from './check-egress.ts';
import { contextProblems } from './effective-context.ts';
import { verifyProblems } from './check-verify.ts';
import { classesOf, isSameInput } from './effective.ts';
import { suggestion } from '../language/issue-lines.ts';
import type { CommandRule } from '../language/rules.ts';
import { lintPolicy } from '../texts/lint.ts';
import { replayProblems } from './effective-replay.ts';
import { meet } from './meet.ts';
import { failedTests } from '../decisions/policy-tests.ts';
import { restrictionsOf } from './restriction.ts';
import type { SourceFile } from '../language/source-file.ts';

const problemsMax = 10;

/**
 * Whether files fit together; the widest comes first. Throws `invalid_policy`, a line for each thing that is wrong: a name
 * that nothing has, a layer that widens, an example that a rule does not match, a test of the policy that fails.
 */
export function checkChain(
  chain: readonly SourceFile[],
  { withoutTests = false }: { readonly withoutTests?: boolean } = {},
): readonly SourceFile[] {
  refuse(
    chain.flatMap((_, index) => [
      ...unknownNames(chain, index),
      ...redefinitions(chain, index),
      ...egressProblems(chain, index),
      ...verifyProblems(chain, index),
      ...contextProblems(chain, index),
      ...driftProblems(chain, index),
      ...replayProblems(chain, index),
    ]),
  );
  refuse(chain.flatMap((file) => wrongExamples(file)));
  refuse([...widenings(chain), ...chain.flatMap((_, index) => widerCommands(chain, index))]);
  refuse(senseless(chain));
  if (!withoutTests) refuse(failedTests(chain));
  return chain;
}

/** Throws `invalid_policy` with the first of them. */
export function refuse(problems: readonly string[]): void {
  if (problems.length === 0) return;
  const more = problems.length > problemsMax ? [`... and ${problems.length - problemsMax} more`] : [];
  throw new RunnerError('invalid_policy', [...problems.slice(0, problemsMax), ...more].join('\n'));
}

/** Rules that can never match, and egress rules that disagree on how: whichever was meant, it would not be what holds. */
function senseless(chain: readonly SourceFile[]): readonly string[] {
  return lintPolicy(chain)
    .filter(({ kind, key }) => kind === 'never_matches' || (kind === 'ambiguous' && key.startsWith('egress')))
    .map(({ place, key, message }) => `${place}: ${key}: ${message}`);
}

/** At critical risk every level counts, so that each is compared; without a class and in each class. */
function widenings(chain: readonly SourceFile[]): readonly string[] {
  const classes = [undefined, ...classesOf(chain)];
  const problems = (taskClass: string | undefined): readonly string[] =>
    meet(restrictionsOf(chain, { taskClass }, 'critical'), classes.length > 1).problems;
  return [...new Set(classes.flatMap(problems))];
}

/** A name that is used and nowhere defined: a rule that would silently never hold. */
function unknownNames(chain: readonly SourceFile[], index: number): readonly string[] {
  const source = chain[index];
  if (source === undefined) return [];
  const { file } = source;
  const known = chain.slice(0, index + 1);
  const defined = (pick: (one: SourceFile['file']) => object | undefined): readonly string[] =>
    known.flatMap((one) => Object.keys(pick(one.file) ?? {}));
  const check =
    (what: string, names: readonly string[]) =>
    (name: string | undefined, path: readonly (string | number)[]): readonly string[] =>
      name === undefined || names.includes(name)
        ? []
        : [
            `${source.placeOf(path)}: ${path.join('.')}: no ${what} ${JSON.stringify(name)}; ${suggestion(name, names).replace('the keys here are', 'there are:')}`,
          ];
  const lane = check(
    'lane',
    defined((one) => one.lanes),
  );
  const profile = check('egress profile', [
    ...defined((one) => one.egress?.profiles),
    ...known.flatMap((one) => (one.file.egress?.upstreams ?? []).map(({ id }) => id)),
  ]);
  const category = check('category of approvals', [...defined((one) => one.approvals?.categories), 'write_ask']);
  const credential = check(
    'credential',
    defined((one) => one.credentials),
  );
  const each = (
    names: readonly string[] | undefined,
    path: readonly (string | number)[],
    test: typeof lane,
  ): readonly string[] => (names ?? []).flatMap((name, at) => test(name, [...path, at]));
  return [
    ...each(file.egress?.use, ['egress', 'use'], profile),
    ...each(file.environment?.egress, ['environment', 'egress'], profile),
    ...Object.entries(file.classes ?? {}).flatMap(([name, rules]) => [
      ...lane(rules.lane, ['classes', name, 'lane']),
      ...each(rules.egress, ['classes', name, 'egress'], profile),
    ]),
    ...Object.entries(file.lanes ?? {}).flatMap(([name, rules]) => [
      ...lane(rules.hand_over?.to, ['lanes', name, 'hand_over', 'to']),
      ...each(rules.egress, ['lanes', name, 'egress'], profile),
      ...each(rules.approvals, ['lanes', name, 'approvals'], category),
    ]),
    ...Object.entries(file.risk?.levels ?? {}).flatMap(([level, rules]) => [
      ...each(rules?.egress, ['risk', 'levels', level, 'egress'], profile),
      ...each(rules?.approvals, ['risk', 'levels', level, 'approvals'], category),
    ]),
    ...(file.commands ?? []).flatMap((rule, at) => category(rule.category, ['commands', at, 'category'])),
    ...(file.approvals?.triggers ?? []).flatMap((trigger, at) =>
      category(trigger.category, ['approvals', 'triggers', at, 'category']),
    ),
    ...Object.entries(file.egress?.profiles ?? {}).flatMap(([name, rules]) =>
      rules.flatMap((rule, at) => credential(rule.credential, ['egress', 'profiles', name, at, 'credential'])),
    ),
  ];
}

/** What a lower file says again of something that is said above: a second id, or less strictness than there. */
function redefinitions(chain: readonly SourceFile[], index: number): readonly string[] {
  const source = chain[index];
  if (source === undefined) return [];
  const above = chain.slice(0, index);
  const problems: string[] = [];
  const report = (path: readonly (string | number)[], why: string): void => {
    problems.push(`${source.placeOf(path)}: ${path.join('.')}: ${why}`);
  };
  const { file } = source;
  for (const [id, places] of idsOf(file)) {
    const [first, second] = places;
    if (second !== undefined) report(second, `the id ${id} twice; give each rule its own`);
    const upper = above.find((one) => idsOf(one.file).has(id));
    if (upper !== undefined && first !== undefined)
      report(first, `the id ${id} is taken by ${upper.source}; choose another`);
  }
  for (const upper of above) {
    for (const [name, value] of Object.entries(file.env?.set ?? {})) {
      const set = upper.file.env?.set?.[name];
      if (set !== undefined && set !== value)
        report(
          ['env', 'set', name],
          `${upper.placeOf(['env', 'set', name])} sets it to another value; leave it out here`,
        );
    }
    file.inputs?.forEach((input, at) => {
      const { inputs } = upper.file;
      if (inputs !== undefined && !inputs.some((other) => isSameInput(input, other)))
        report(['inputs', at], `it is not among those of ${upper.placeOf(['inputs'])}; a lower layer can only narrow`);
    });
    if (file.environment !== undefined && upper.file.environment !== undefined)
      report(['environment'], `${upper.placeOf(['environment'])} says it already; leave it out here`);
    for (const name of Object.keys(file.credentials ?? {}))
      if (upper.file.credentials !== undefined)
        report(['credentials', name], `${upper.placeOf(['credentials'])} says which credentials there are`);
    for (const [name, says] of Object.entries(file.approvals?.categories ?? {})) {
      const there = upper.file.approvals?.categories?.[name];
      const place = `${upper.placeOf(['approvals', 'categories', name])} asks for`;
      const path = ['approvals', 'categories', name];
      if (there === undefined) continue;
      if ((says.quorum ?? there.quorum ?? 1) < (there.quorum ?? 1))
        report([...path, 'quorum'], `${says.quorum} is fewer than the ${there.quorum} that ${place}`);
      if (says.effect === 'ask' && there.effect === 'deny') report([...path, 'effect'], `${place} deny`);
    }
  }
  return problems;
}

function idsOf(file: SourceFile['file']): ReadonlyMap<string, readonly (readonly (string | number)[])[]> {
  const ids = new Map<string, (readonly (string | number)[])[]>();
  const note = (id: string, path: readonly (string | number)[]): void => {
    ids.set(id, [...(ids.get(id) ?? []), [...path, 'id']]);
  };
  file.commands?.forEach(({ id }, at) => note(id, ['commands', at]));
  file.risk?.escalators?.forEach(({ id }, at) => note(id, ['risk', 'escalators', at]));
  file.egress?.deny?.forEach(({ id }, at) => note(id, ['egress', 'deny', at]));
  file.egress?.upstreams?.forEach(({ id }, at) => note(id, ['egress', 'upstreams', at]));
  for (const [name, rules] of Object.entries(file.egress?.profiles ?? {}))
    rules.forEach(({ id }, at) => note(id, ['egress', 'profiles', name, at]));
  return ids;
}

function wrongExamples({ file, placeOf }: SourceFile): readonly string[] {
  return (file.commands ?? []).flatMap((rule, at) => {
    const wrong = (list: 'match' | 'not_match', wanted: boolean): readonly string[] =>
      (rule.tests[list] ?? []).flatMap((line, number) => {
        if (runs(rule, line) === wanted) return [];
        const path = ['commands', at, 'tests', list, number];
        const does = wanted ? 'is not matched' : 'is matched';
        return [`${placeOf(path)}: ${path.join('.')}: ${JSON.stringify(line)} ${does} by the rule ${rule.id}`];
      });
    return [...wrong('match', true), ...wrong('not_match', false)];
  });
}

/** Whether one of the commands of a line is one that the rule names. */
function runs(rule: CommandRule, script: string): boolean {
  return canonicalCommands({ script }).some((command) => matchesCommand(rule, command));
}

/** A rule that allows, with examples that a layer above denies. */
function widerCommands(chain: readonly SourceFile[], index: number): readonly string[] {
  const source = chain[index];
  const above = chain
    .slice(0, index)
    .flatMap(({ file, source: layer }) => (file.commands === undefined ? [] : [{ layer, rules: file.commands }]));
  if (source === undefined || above.length === 0) return [];
  const rules = new CommandRules(above);
  return (source.file.commands ?? []).flatMap((rule, at) => {
    if (rule.effect !== 'allow') return [];
    const denied = rule.tests.match
      .map((script) => ({ script, found: rules.decide(canonicalCommands({ script })) }))
      .find(({ found }) => found?.effect === 'deny');
    if (denied?.found === undefined) return [];
    const upper = chain.find(({ source: name }) => name === denied.found?.layer);
    const id = denied.found.rule?.id;
    const rank = upper?.file.commands?.findIndex((one) => one.id === id) ?? -1;
    const place = upper?.placeOf(rank < 0 ? ['commands'] : ['commands', rank]) ?? denied.found.layer;
    const why = `it allows ${JSON.stringify(denied.script)}, which ${place} denies; a lower layer can only narrow`;
    return [`${source.placeOf(['commands', at])}: commands.${at}: ${why}`];
  });
}
