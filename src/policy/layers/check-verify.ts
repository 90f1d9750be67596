import { suggestion } from '../language/issue-lines.ts';
import type { SourceFile } from '../language/source-file.ts';
import type { Verify } from '../language/verify.ts';
import { classesOf } from './effective.ts';
import { judgedInOrder } from './effective-verify.ts';

/** Gates that every candidate passes through; nobody else's may be called so. */
const builtinGates = ['scope', 'secrets', 'execution_bearing', 'diff_quality', 'tests_kept', 'red_green'] as const;

/** Names that nothing has, ids that are taken, and what is weaker than a layer above asks for. */
export function verifyProblems(chain: readonly SourceFile[], index: number): readonly string[] {
  const source = chain[index];
  const verify = source?.file.verify;
  if (source === undefined || verify === undefined) return [];
  const problems: string[] = [];
  const report = (path: readonly (string | number)[], why: string): void => {
    const whole = ['verify', ...path];
    problems.push(`${source.placeOf(whole)}: ${whole.join('.')}: ${why}`);
  };
  const above = chain.slice(0, index);
  const known = chain.slice(0, index + 1);
  const profiles = known.flatMap(({ file }) => Object.keys(file.egress?.profiles ?? {}));
  verify.gates?.forEach((gate, at) => {
    const { id } = gate;
    if (builtinGates.some((builtin) => builtin === id))
      report(['gates', at, 'id'], `the gate ${id} is one that every candidate passes through; choose another id`);
    if (verify.gates?.findIndex((other) => other.id === id) !== at)
      report(['gates', at, 'id'], `the id ${id} twice; give each gate its own`);
    const upper = above.find(({ file }) => file.verify?.gates?.some((other) => other.id === id));
    if (upper !== undefined) report(['gates', at, 'id'], `the id ${id} is taken by ${upper.source}; choose another`);
    const names = (key: 'classes' | 'egress', there: readonly string[], what: string): void =>
      gate[key]?.forEach((name, number) => {
        if (!there.includes(name))
          report(
            ['gates', at, key, number],
            `no ${what} ${JSON.stringify(name)}; ${suggestion(name, there).replace('the keys here are', 'there are:')}`,
          );
      });
    names('classes', classesOf(known), 'task class');
    names('egress', profiles, 'egress profile');
  });
  for (const upper of above) weaker(verify, upper, report);
  return problems;
}

function weaker(
  verify: Verify,
  { file, placeOf }: SourceFile,
  report: (path: readonly string[], why: string) => void,
): void {
  const place = (path: readonly string[]): string => placeOf(['verify', ...path]);
  for (const key of ['same', 'shuffled', 'no_network', 'half_cpu', 'base'] as const) {
    const [ours, theirs] = [verify.reruns?.[key], file.verify?.reruns?.[key]];
    if (ours !== undefined && theirs !== undefined && ours < theirs)
      report(['reruns', key], `${ours} is fewer than the ${theirs} that ${place(['reruns', key])} asks for`);
  }
  for (const key of ['files', 'lines'] as const) {
    const [ours, theirs] = [verify.diff?.[key], file.verify?.diff?.[key]];
    if (ours !== undefined && theirs !== undefined && ours > theirs)
      report(['diff', key], `${ours} is more than the ${theirs} that ${place(['diff', key])} allows`);
  }
  for (const key of ['generated', 'binary'] as const) {
    const [ours, theirs] = [verify.diff?.[key], file.verify?.diff?.[key]];
    if (ours !== undefined && theirs !== undefined && judgedInOrder.indexOf(ours) < judgedInOrder.indexOf(theirs))
      report(['diff', key], `${ours} is weaker than ${theirs}, which ${place(['diff', key])} asks for`);
  }
}
